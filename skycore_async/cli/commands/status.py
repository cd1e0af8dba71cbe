"""`skycore status`: what a ledger knows, of all its messages or of one."""

from __future__ import annotations

from typing import Final

import click

from ...runtime.secret import Secret
from ..ui.dsn import ENVIRONMENT, HiddenText
from ..ui.options import json_option

# What `MessageState` has; the ledger is not loaded for the help.
STATES: Final = (
    "sending",
    "not_sent",
    "rejected",
    "in_doubt",
    "accepted",
    "sent",
    "delivered",
    "failed",
)


@click.command(
    help="""
    Show what became of messages, from a ledger.

    FILE is a ledger, as --ledger names it elsewhere, also while a `bulk` or a
    `listen` is using it, or DSN a PostgreSQL database that workers share, for
    which SKYCORE_DSN stands in.  Without an option, counts the messages; of a
    database, it also shows how far campaigns are.  Numbers are masked but for
    their last four digits, unless --show-numbers is given.  With --json, --state
    prints a line of JSON for each message.

    \b
    Examples:
      skycore status promo.db
      skycore status promo.db --state in_doubt --json
      skycore status promo.db --key order-17
      skycore status postgresql://me@db/sms

    Exit codes: 0 done, 1 no such message, 2 wrong usage, or the ledger cannot
    be opened.
    """
)
@click.argument("file", metavar="FILE|DSN", type=HiddenText(), envvar=ENVIRONMENT)
@click.option("--key", metavar="KEY", help="Show all of the message with this key.")
@click.option("--tracking-id", metavar="ID", help="Show all of the message with this tracking id.")
@click.option(
    "--state",
    type=click.Choice(STATES),
    metavar="STATE",
    help=f"List the messages in this state: {', '.join(STATES)}.",
)
@click.option("--show-numbers", is_flag=True, help="Do not mask phone numbers.")
@json_option
def status(
    *,
    file: Secret,
    key: str | None,
    tracking_id: str | None,
    state: str | None,
    show_numbers: bool,
    as_json: bool,
) -> None:
    from ..actions.status import show_status  # noqa: PLC0415 - not for help

    if sum(name is not None for name in (key, tracking_id, state)) > 1:
        raise click.UsageError("Give one of --key, --tracking-id and --state.")
    show_status(
        file,
        key=key,
        tracking_id=tracking_id,
        state=state,
        show_numbers=show_numbers,
        as_json=as_json,
    )
