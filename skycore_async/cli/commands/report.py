"""`skycore report`: a ledger as a web page, or as JSON.

Rules:

* The ledger is read once, in order and in pages, whatever its size.  It is neither
  created nor changed, but for what opening it means: messages that were being sent
  by a process that has died are in doubt.  One that another process has open is
  read all the same.
* The page is written whole or not at all, and replaces only an older report.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..ui.dsn import ENVIRONMENT
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.output import console, emit, fail, json_option

if TYPE_CHECKING:
    from ..report.data import Figures

_START: Final = b"<!doctype html>"
_UPDATE_EVERY: Final = 10_000  # messages


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

    It shows how many messages were delivered, when and how fast, what failed or
    was refused and why, and what is in doubt, also while a `bulk` or a `listen`
    is using the ledger.  The page is one file that opens offline and can be
    printed; numbers in it are masked.

    FILE is a ledger, as --ledger names it elsewhere, or DSN a PostgreSQL database
    that workers share, for which SKYCORE_DSN stands in.

    \b
    Examples:
      skycore report promo.db --html report.html
      skycore report postgresql://me@db/sms --html report.html

    Exit codes: 0 done, 2 wrong usage, or the ledger cannot be opened.
    """  # noqa: D301 - \b is click's mark for lines that it does not wrap
    target, to_stdout = ledger_target(ledger), html == Path("-")
    if html is None and not as_json:
        fail(f"say where the report goes: --html {target.page}, or --json")
    if to_stdout and as_json:
        fail("only one of --html - and --json can go to standard output")
    target.check()
    if html is not None and not to_stdout:
        _check_page(html, target)
    figures = _read(target)
    if html is not None:
        from ..report.page import page

        _write(page(figures), None if to_stdout else html)
    if as_json:
        emit(figures)


def _check_page(html: Path, target: LedgerTarget) -> None:
    if target.holds(html):
        fail(f"{html} belongs to the ledger; give the page a name of its own")
    if not html.parent.is_dir():
        fail(f"{html}: there is no directory {html.parent}")
    if html.exists() and html.stat().st_size and not _is_page(html):
        fail(f"{html} is something other than a report; give the page another name")


def _is_page(html: Path) -> bool:
    try:
        with html.open("rb") as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False


def _read(target: LedgerTarget) -> Figures:
    import anyio

    from ...errors import LedgerError

    try:
        return anyio.run(_gather, target)
    except LedgerError as error:
        fail(str(error))


async def _gather(target: LedgerTarget) -> Figures:
    from datetime import UTC, datetime

    from rich.markup import escape

    from ..report.data import Gathering

    gathering, err, name = Gathering(), console(stderr=True), escape(target.title)
    async with target.to_read() as ledger:
        with err.status(f"Reading {name}") as status:
            async for delivery in ledger.deliveries():
                gathering.add(delivery)
                if gathering.messages % _UPDATE_EVERY == 0:
                    status.update(f"Reading {name}: {gathering.messages:,} messages")
        summary = await ledger.summary()
    return gathering.figures(summary, ledger=target.title, made=datetime.now(UTC))


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
        fail(f"{html} cannot be written: {error.strerror}")
    click.echo(f"The report is in {html}", err=True)
