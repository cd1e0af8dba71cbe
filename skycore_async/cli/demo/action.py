"""What `skycore demo` does: the main job, end to end, over real sockets on this machine.

Strategy: first a few messages are sent, one for each outcome, and then a few thousand with a
ledger, a part of them into faults.  At the end the simulator's bill is compared with the ledger,
and the ledger is shown as `skycore status` and `skycore report` show it.

Rules:

* The ledger and the report are kept, unless the demo failed and had created a
  temporary directory for them.
* No file of the user's is overwritten: a run takes free names.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Final

from rich.console import Console

from ...errors import SkycoreError
from ...runtime.private_files import write_privately
from ..actions.status import show_summary
from ..report.page import page
from ..ui.ledger_target import LedgerFile
from ..ui.output import Exit, emit, fail, plain
from ..ui.tables import console
from .audit import show_audit
from .bulk import Settled, send_and_settle
from .cases import CASES, Case, Played, play, show

COUNT: Final = 3000


def run(
    directory: Path | None,
    *,
    as_json: bool = False,
    cases: Sequence[Case] = CASES,
    count: int = COUNT,
) -> Exit:
    """Run the demo with these cases and so many messages, and return the exit code."""
    try:
        return _run(directory, cases, count, as_json=as_json)
    except SkycoreError as error:
        fail(str(error), Exit.NOT_ALL_WELL)


def _run(directory: Path | None, cases: Sequence[Case], count: int, *, as_json: bool) -> Exit:
    out = console()
    out.quiet = as_json
    with _kept(directory) as place:
        ledger, html = _free_names(place)
        played = play(out, cases)
        show(out, played)
        _introduce(out, count)
        settled = send_and_settle(ledger, count, live=sys.stderr.isatty())
        _write(html, settled)
        is_well = played.is_well and settled.audit.is_well
        if as_json:
            _emit(played, settled, ledger, html, is_well=is_well)
        else:
            _print(out, settled, ledger, html, is_well=is_well)
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
    try:
        write_privately(html, page(settled.report))
    except OSError as error:
        fail(f"{html} cannot be written: {error.strerror}")


def _emit(played: Played, settled: Settled, ledger: Path, html: Path, *, is_well: bool) -> None:
    emit(
        {
            "as_it_should": is_well,
            "cases": [story.facts() for story in played.stories],
            **plain(settled.audit),
            "states": settled.report.states,
            "ledger": ledger,
            "report": html,
        }
    )


def _print(out: Console, settled: Settled, ledger: Path, html: Path, *, is_well: bool) -> None:
    out.print("\n[bold]What the ledger says, as `skycore status` shows it:[/]\n")
    show_summary(settled.summary, LedgerFile(ledger))
    show_audit(out, settled.audit)
    out.print(f"\nThe report is in {html}", markup=False, soft_wrap=True)
    if is_well:
        out.print("\n[green]Everything came out as it should.[/]")
    else:
        out.print("\n[red]Not everything came out as it should.[/]")
