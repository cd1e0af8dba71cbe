"""`skycore export`: the messages of a ledger as a table, for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.secret import Secret
from ..ui.dsn import ENVIRONMENT, FilePath, HiddenText
from .status import STATES


@click.command(
    help="""
    Write the messages of a ledger as a table, for other programs.

    Each message is a row: its key and number, state and reason, error code, when
    it was begun, answered, sent and ended, its segments, tracking id, campaign
    and tags.  Times are in UTC.  Numbers are masked but for their last four
    digits, unless --show-numbers is given.

    FILE is a ledger, as --ledger names it elsewhere, also while a `bulk` or a
    `listen` is using it, or DSN a PostgreSQL database that workers share, for
    which SKYCORE_DSN stands in.

    In CSV, a cell that a spreadsheet would compute begins with an apostrophe, and
    several tags stand with ; between them.  --format parquet needs an --output,
    and pip install 'skycore-async[parquet]'.

    \b
    Examples:
      skycore export promo.db > messages.csv
      skycore export promo.db --state failed --format jsonl
      skycore export postgresql://me@db/sms --format parquet -o sms.parquet

    Exit codes: 0 done, 1 an extra is not installed, 2 wrong usage, or the
    ledger cannot be read.
    """
)
@click.argument("file", metavar="FILE|DSN", type=HiddenText(), envvar=ENVIRONMENT)
@click.option(
    "--state",
    type=click.Choice(STATES),
    metavar="STATE",
    help=f"Only the messages in this state: {', '.join(STATES)}.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(("csv", "jsonl", "parquet")),
    default="csv",
    show_default=True,
    help="How the table is written; jsonl is a line of JSON for each row.",
)
@click.option(
    "-o",
    "--output",
    type=FilePath(dir_okay=False, allow_dash=True, path_type=Path),
    default="-",
    show_default=True,
    help="Write to this file, in place of an export that is there; standard output is -.",
)
@click.option("--show-numbers", is_flag=True, help="Do not mask phone numbers.")
def export(
    *, file: Secret, state: str | None, kind: str, output: Path, show_numbers: bool
) -> None:
    from ..actions.export import export_messages  # noqa: PLC0415 - not for help

    export_messages(file, output, state=state, kind=kind, show_numbers=show_numbers)
