"""`skycore opt-outs`: who may not be sent to, as a ledger has it."""

from __future__ import annotations

import click

from ...runtime.secret import Secret
from ..ui.dsn import ENVIRONMENT, HiddenText
from ..ui.output import json_option


@click.group(
    name="opt-outs",
    help="""
    Show who may not want to be sent to.

    A number that says STOP is opted out by itself, in the words that people use
    for it.  What may mean it, and may not, is kept for a person.

    \b
    Examples:
      skycore opt-outs candidates promo.db
      skycore opt-outs candidates postgresql://me@db/sms --show-numbers --json

    Exit codes: 0 done, 2 wrong usage, or the ledger cannot be opened.
    """,
)
def opt_outs() -> None: ...


@opt_outs.command(
    help="""
    List the texts from handsets that may ask for no more messages.

    Such as `CANCEL my appointment`, or `STOP 12345`: nobody is opted out by them.
    Each is listed until its number is opted out or in, by a person
    (`ledger.opt_out(number)`, `ledger.opt_in(number)`) or by a later STOP or START.

    FILE is a ledger, as --ledger names it elsewhere, or DSN a PostgreSQL database
    that workers share, for which SKYCORE_DSN stands in.  Numbers are masked but
    for their last four digits, unless --show-numbers is given.  With --json, each
    text is a line.

    \b
    Example:
      skycore opt-outs candidates promo.db --show-numbers
    """
)
@click.argument("file", metavar="FILE|DSN", type=HiddenText(), envvar=ENVIRONMENT)
@click.option("--show-numbers", is_flag=True, help="Do not mask phone numbers.")
@json_option
def candidates(*, file: Secret, show_numbers: bool, as_json: bool) -> None:
    from ..actions.opt_outs import list_candidates  # noqa: PLC0415 - not for help

    list_candidates(file, show_numbers=show_numbers, as_json=as_json)
