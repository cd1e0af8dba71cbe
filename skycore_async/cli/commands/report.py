"""`skycore report`: a ledger as a web page, or as JSON."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import click

from ...runtime.secret import Secret
from ..ui.dsn import ENVIRONMENT, FilePath, HiddenText
from ..ui.money import Money
from ..ui.options import json_option


@click.command(
    short_help="Make a web page of a ledger.",
    help="""
    Make a web page of a ledger.

    It shows how many messages were delivered, when and how fast, what failed or
    was refused and why, and what is in doubt, also while a `bulk` or a `listen`
    is using the ledger.  The page is one file that opens offline and can be
    printed; numbers in it are masked.  With --price it has what the segments cost
    that Skycore took, in all and by campaign and tag.

    FILE is a ledger, as --ledger names it elsewhere, or DSN a PostgreSQL database
    that workers share, for which SKYCORE_DSN stands in.

    \b
    Examples:
      skycore report promo.db --html report.html
      skycore report promo.db --html report.html --price 0.0075
      skycore report postgresql://me@db/sms --html report.html

    Exit codes: 0 done, 2 wrong usage, or the ledger cannot be opened.
    """,
)
@click.argument("ledger", metavar="FILE|DSN", type=HiddenText(), envvar=ENVIRONMENT)
@click.option(
    "--html",
    type=FilePath(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write the page to this file; - is standard output.",
)
@click.option(
    "--price", type=Money(), help="The price of a segment, for what was sent and its cost."
)
@json_option
def report(ledger: Secret, html: Path | None, price: Decimal | None, as_json: bool) -> None:
    from ..report.action import write_report  # noqa: PLC0415 - not for help

    write_report(ledger, html, price=price, as_json=as_json)
