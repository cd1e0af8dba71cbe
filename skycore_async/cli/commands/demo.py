"""`skycore demo`: the main job, end to end, over real sockets on this machine.

Strategy: first a few messages, one for each outcome; then a few thousand into
faults, over a ledger.  In the end the simulator's bill is compared with the ledger,
which is also shown as `skycore status` and `skycore report` show it.

Rules:

* The ledger and the report are kept, unless the demo failed and had created a
  temporary directory for them.
* No file of the user's is overwritten: a run takes names that are free.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Final

import click

from ..ui.output import Exit, console, emit, fail, json_option, plain

if TYPE_CHECKING:
    from rich.console import Console

    from ..demo.bulk import Settled
    from ..demo.cases import Case, Played

COUNT: Final = 3000


@click.command()
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to keep the ledger and the report [a new temporary directory].",
)
@json_option
def demo(*, directory: Path | None, as_json: bool) -> None:
    """Run the main job against a simulator on this machine.

    Starts a pretend Skycore and a postback endpoint, sends a handful of
    messages, receives their postbacks, and shows what became of each.  Then it
    sends 3,000, a fifth of them into faults: answers that are lost,
    connections that break, refusals, failed deliveries.  Postbacks settle what
    is in doubt, and the ledger is compared with the bill.  In the end there is
    a report to open.

    Needs no account, sends nothing outside this machine, and ends by itself in
    less than a minute.

    \b
    Examples:
      skycore demo
      skycore demo --directory . --json

    Exit codes: 0 if everything came out as it should, 1 if not, 2 wrong usage,
    130 interrupted.
    """  # noqa: D301 - \b is click's mark for lines that it does not wrap
    from ...errors import SkycoreError

    try:
        sys.exit(run(directory, as_json=as_json, count=COUNT))
    except SkycoreError as error:
        fail(str(error), Exit.NOT_ALL_WELL)


def run(
    directory: Path | None,
    *,
    as_json: bool = False,
    cases: Sequence[Case] | None = None,
    count: int = COUNT,
) -> Exit:
    """Run the demo with these cases and so many messages, and return the exit code."""
    from ..demo.bulk import send_and_settle
    from ..demo.cases import CASES, play, show

    out = console()
    out.quiet = as_json
    with _kept(directory) as place:
        ledger, html = _free_names(place)
        played = play(out, CASES if cases is None else cases)
        show(out, played)
        _introduce(out, count)
        settled = send_and_settle(ledger, count, live=sys.stderr.isatty())
        _write(html, settled)
        is_well = played.is_well and settled.verdict.is_well
        if as_json:
            _emit(played, settled, ledger, html, is_well=is_well)
        else:
            _tell(out, settled, ledger, html, is_well=is_well)
    return Exit.DONE if is_well else Exit.NOT_ALL_WELL


@contextmanager
def _kept(directory: Path | None) -> Iterator[Path]:
    """Return where files go; a temporary directory is kept only where nothing was raised."""
    if directory is not None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fail(f"--directory {directory}: {error.strerror}")
        yield directory
        return
    made = Path(tempfile.mkdtemp(prefix="skycore-demo-"))
    try:
        yield made
    except BaseException:
        rmtree(made, ignore_errors=True)
        raise


def _free_names(place: Path) -> tuple[Path, Path]:
    number, name = 1, "demo"
    while any(place.joinpath(f"{name}.{ending}").exists() for ending in ("db", "html")):
        number += 1
        name = f"demo-{number}"
    return place / f"{name}.db", place / f"{name}.html"


def _introduce(out: Console, count: int) -> None:
    out.print(
        f"\n[bold]Now {count:,} messages, every fifth of them into a fault:[/] answers that are"
        " lost or cut short, connections that break, HTTP 502 and 503, refusals, failed"
        " deliveries, receipts that come twice or too early; and on the way Skycore throttles."
    )


def _write(html: Path, settled: Settled) -> None:
    from ..report.page import page

    try:
        html.write_text(page(settled.figures), "utf-8")
    except OSError as error:
        fail(f"{html} cannot be written: {error.strerror}")


def _emit(played: Played, settled: Settled, ledger: Path, html: Path, *, is_well: bool) -> None:
    emit(
        {
            "as_it_should": is_well,
            "cases": [story.facts() for story in played.stories],
            **plain(settled.verdict),
            "states": settled.figures.states,
            "ledger": ledger,
            "report": html,
        }
    )


def _tell(out: Console, settled: Settled, ledger: Path, html: Path, *, is_well: bool) -> None:
    from ..demo.verdict import show_verdict
    from .status import status

    out.print("\n[bold]What the ledger says, as `skycore status` shows it:[/]\n")
    status.main(["--", str(ledger)], standalone_mode=False)
    show_verdict(out, settled.verdict)
    out.print(f"\nThe report is in {html}", markup=False, soft_wrap=True)
    if is_well:
        out.print("\n[green]Everything came out as it should.[/]")
    else:
        out.print("\n[red]Not everything came out as it should.[/]")
