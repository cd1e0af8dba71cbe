"""What `skycore report` does: read a ledger, and write it as a web page or as JSON.

Rules:

* The ledger is read once, page by page, whatever its size, and also while another process has
  it open.  It is neither created nor changed.  Messages that a dead process was sending are shown
  as in doubt.
* The page is written whole or not at all, and replaces nothing but an older report.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Final

import anyio
import click

from ...errors import LedgerError
from ...runtime.extras import missing
from ...runtime.private_files import write_privately
from ...runtime.secret import Secret
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.output import STANDARD_OUTPUT, emit, fail, say
from ..ui.tables import console
from .data import ReportData
from .page import page
from .reading import read_report

try:
    from rich.markup import escape
except ImportError as error:
    raise missing("cli", error) from error

_START: Final = b"<!doctype html>"


def write_report(
    ledger: Secret, html: Path | None, *, price: Decimal | None, as_json: bool
) -> None:
    """Write the report as a page to `html`, as JSON to standard output, or as both."""
    target, to_stdout = ledger_target(ledger), html == STANDARD_OUTPUT
    if html is None and not as_json:
        fail(f"say where the report goes: --html {target.page}, or --json")
    if to_stdout and as_json:
        fail("only one of --html - and --json can go to standard output")
    target.check()
    if html is not None and not to_stdout:
        _check_page(html, target)
    data = _read(target, price)
    if html is not None:
        _write(page(data), None if to_stdout else html)
    if as_json:
        emit(data)


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


def _read(target: LedgerTarget, price: Decimal | None) -> ReportData:
    try:
        return anyio.run(_count, target, price)
    except LedgerError as error:
        fail(str(error))


async def _count(target: LedgerTarget, price: Decimal | None) -> ReportData:
    err, name = console(stderr=True), escape(target.title)
    async with target.to_read() as ledger:
        with err.status(f"Reading {name}") as status:
            return await read_report(
                ledger,
                title=target.title,
                price=price,
                told=lambda count: status.update(f"Reading {name}: {count:,} messages"),
            )


def _write(page: str, html: Path | None) -> None:
    if html is None:
        click.echo(page)
        return
    try:
        write_privately(html, page)
    except OSError as error:
        fail(f"{html} cannot be written: {error.strerror}")
    say(f"The report is in {html}", err=True)
