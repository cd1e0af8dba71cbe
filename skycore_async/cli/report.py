"""`skycore report`: a ledger as a web page, or as its figures.

Rules:

* The ledger is read once, in order, whatever its size; it is neither made nor
  changed, but for what opening it means: what was being sent is in doubt.  One
  that is in use is looked at beside its owner, for whom it is being sent.
* The page is written whole or not at all, and over nothing that is not a page.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .output import console, emit, json_option, leave

if TYPE_CHECKING:
    from .figures import Figures

_START: Final = b"<!doctype html>"
_TELL_EVERY: Final = 10_000  # messages


@click.command(short_help="Make a web page of a ledger.")
@click.argument("ledger", type=click.Path(path_type=Path))
@click.option(
    "--html",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write the page to this file; - is standard output.",
)
@json_option
def report(ledger: Path, html: Path | None, as_json: bool) -> None:
    """Make a web page of a ledger.

    It tells how many messages were delivered, when and how fast, what failed
    and was refused and why, and what is in doubt, also while a `bulk` or a
    `listen` is using the ledger.  The page is one file that opens offline and
    prints; numbers in it are masked.

    \b
    Example:
      skycore report promo.db --html report.html

    Exit codes: 0 done, 2 wrong usage, or the ledger cannot be opened.
    """  # noqa: D301 - \b is click's word for lines to leave as they are
    to_stdout = html == Path("-")
    if html is None and not as_json:
        leave(f"say where to: --html {ledger.with_suffix('.html').name}, or --json")
    if to_stdout and as_json:
        leave("only one of --html - and --json can go to standard output")
    _check_ledger(ledger)
    if html is not None and not to_stdout:
        _check_page(html, ledger)
    figures = _read(ledger)
    if html is not None:
        from .page import page

        _write(page(figures), None if to_stdout else html)
    if as_json:
        emit(figures)


def _check_ledger(ledger: Path) -> None:
    if not ledger.exists():
        leave(f"there is no ledger {ledger}")
    # An empty file would be made a ledger by opening it.
    if not ledger.is_file() or not ledger.stat().st_size:
        leave(f"{ledger} is no ledger")


def _check_page(html: Path, ledger: Path) -> None:
    own = {f"{ledger.resolve()}{ending}" for ending in ("", "-lock", "-wal", "-shm")}
    if str(html.resolve()) in own:
        leave(f"{html} belongs to the ledger; give the page a name of its own")
    if not html.parent.is_dir():
        leave(f"{html}: there is no directory {html.parent}")
    if html.exists() and html.stat().st_size and not _is_page(html):
        leave(f"{html} is something other than a report; give the page another name")


def _is_page(html: Path) -> bool:
    try:
        with html.open("rb") as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False


def _read(ledger: Path) -> Figures:
    import anyio

    from ..errors import LedgerError

    try:
        return anyio.run(_gather, ledger)
    except LedgerError as error:
        leave(str(error))


async def _gather(path: Path) -> Figures:
    from datetime import UTC, datetime

    from ..ledger.view import looked_at
    from .figures import Gathering

    gathering, told = Gathering(), console(stderr=True)
    async with looked_at(path) as ledger:
        with told.status(f"Reading {path.name}") as status:
            async for delivery in ledger.deliveries():
                gathering.add(delivery)
                if gathering.messages % _TELL_EVERY == 0:
                    status.update(f"Reading {path.name}: {gathering.messages:,} messages")
        summary = await ledger.summary()
    return gathering.figures(summary, ledger=path.name, made=datetime.now(UTC))


def _write(page: str, html: Path | None) -> None:
    if html is None:
        click.echo(page)
        return
    draft = html.with_name(f"{html.name}.part")
    try:
        draft.write_text(page, "utf-8")
        draft.replace(html)
    except OSError as error:
        leave(f"{html} cannot be written: {error.strerror}")
    click.echo(f"The report is in {html}", err=True)
