"""`skycore inbox`: the texts that handsets sent."""

from __future__ import annotations

import click

from ...runtime.secret import Secret
from ..ui.dsn import ENVIRONMENT, HiddenText
from ..ui.options import json_option


@click.command(
    help="""
    Show the texts that handsets sent.

    Each is a line: its number, its time, and what it says, in the order in which they
    came.  What of a postback could not be read, and so may be a text, is a line with the
    reason, and with --show-numbers all of it.  With --follow it waits for more, until Ctrl-C.

    FILE is a ledger, as --ledger names it elsewhere, which other commands may have open
    meanwhile, or DSN a PostgreSQL database that workers share, for which SKYCORE_DSN
    stands in.  Numbers are masked but for their last four digits, unless --show-numbers
    is given.

    \b
    Examples:
      skycore inbox promo.db
      skycore inbox promo.db --follow --show-numbers
      skycore inbox postgresql://me@db/sms --json

    Exit codes: 0 done, 2 wrong usage, or the ledger cannot be read.
    """
)
@click.argument("file", metavar="FILE|DSN", type=HiddenText(), envvar=ENVIRONMENT)
@click.option("--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("--show-numbers", is_flag=True, help="Do not mask phone numbers.")
@json_option
def inbox(*, file: Secret, follow: bool, show_numbers: bool, as_json: bool) -> None:
    from ..actions.inbox import show_inbox  # noqa: PLC0415 - not for help

    show_inbox(file, follow=follow, show_numbers=show_numbers, as_json=as_json)
