"""`skycore report`: a ledger as a web page, or as its figures.

Rules:

* The ledger is read once, in order and in pages, whatever its size; it is neither
  made nor changed, but for what opening it means: what was being sent, and is by
  nobody alive, is in doubt.  One that is in use is looked at beside its owner.
* The page is written whole or not at all, and over nothing that is not a page.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..ui.dsn import ENVIRONMENT
from ..ui.ledger_target import Place, place_of
from ..ui.output import console, emit, json_option, leave

if TYPE_CHECKING:
    from ..report.data import Figures

_START: Final = b"<!doctype html>"
_TELL_EVERY: Final = 10_000  # messages


@click.command(short_help="Make a web page of a ledger.")
@click.argument("ledger", metavar="FILE|DSN", envvar=ENVIRONMENT)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write the page to this file; - is standard output.",
)
@json_option
def report(ledger: str, html: Path | None, as_json: bool) -> None:
    """Make a web page of a ledger.

    It tells how many messages were delivered, when and how fast, what failed
    and was refused and why, and what is in doubt, also while a `bulk` or a
    `listen` is using the ledger.  The page is one file that opens offline and
    prints; numbers in it are masked.

    FILE is a ledger, as --ledger names it elsewhere, or DSN a PostgreSQL database
    that workers share, for which SKYCORE_DSN stands in.

    \b
    Examples:
      skycore report promo.db --html report.html
      skycore report postgresql://me@db/sms --html report.html

    Exit codes: 0 done, 2 wrong usage, or the ledger cannot be opened.
    """  # noqa: D301 - \b is click's word for lines to leave as they are
    place, to_stdout = place_of(ledger), html == Path("-")
    if html is None and not as_json:
        leave(f"say where to: --html {place.page}, or --json")
    if to_stdout and as_json:
        leave("only one of --html - and --json can go to standard output")
    place.check()
    if html is not None and not to_stdout:
        _check_page(html, place)
    figures = _read(place)
    if html is not None:
        from ..report.page import page

        _write(page(figures), None if to_stdout else html)
    if as_json:
        emit(figures)


def _check_page(html: Path, place: Place) -> None:
    if place.holds(html):
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


def _read(place: Place) -> Figures:
    import anyio

    from ...errors import LedgerError

    try:
        return anyio.run(_gather, place)
    except LedgerError as error:
        leave(str(error))


async def _gather(place: Place) -> Figures:
    from datetime import UTC, datetime

    from rich.markup import escape

    from ..report.data import Gathering

    gathering, told, name = Gathering(), console(stderr=True), escape(place.title)
    async with place.looked_at() as ledger:
        with told.status(f"Reading {name}") as status:
            async for delivery in ledger.deliveries():
                gathering.add(delivery)
                if gathering.messages % _TELL_EVERY == 0:
                    status.update(f"Reading {name}: {gathering.messages:,} messages")
        summary = await ledger.summary()
    return gathering.figures(summary, ledger=place.title, made=datetime.now(UTC))


def _write(page: str, html: Path | None) -> None:
    if html is None:
        click.echo(page)
        return
    draft = html.with_name(f"{html.name}.part")
    try:
        draft.write_text(page, "utf-8")
        draft.replace(html)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        leave(f"{html} cannot be written: {error.strerror}")
    click.echo(f"The report is in {html}", err=True)
