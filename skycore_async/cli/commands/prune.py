"""`skycore prune`: the numbers and texts of what is old, forgotten."""

from __future__ import annotations

import sys
from datetime import timedelta

import click

from ...runtime.secret import Secret
from ..ui.age import Age
from ..ui.dsn import ENVIRONMENT, HiddenText
from ..ui.options import json_option


@click.command(
    help="""
    Forget the numbers and texts of old messages.  None of them is sent again.

    Of an old message the state, the times, the sender, the campaign and the tags are
    kept, and it is counted as before.  Its number, key and ids, and what Skycore and
    postbacks said of it, are forgotten, and so are old texts from handsets.  Digests of
    the key and the content stay, so that the message is not sent again under its key.
    Whoever can guess a key or an id can find the message by its digest.

    Messages in doubt or under way are kept as they are, and so are opt-outs.  Rows of a
    campaign go once it is done or cancelled.  Pruning cannot be undone, not even by a
    postback that comes later.

    LEDGER is the file that --ledger names elsewhere, which no other process may have open.
    DSN is a PostgreSQL database that workers share, and can go on using; SKYCORE_DSN stands
    in for it.  A file is written anew at the end, which takes as much room again.  If the
    command is interrupted, run it again to go on.

    \b
    Examples:
      skycore prune promo.db --older-than 180d --dry-run
      skycore prune promo.db --older-than 180d
      skycore prune postgresql://me@db/sms --older-than 26w --yes --json

    Exit codes: 0 done, 1 interrupted, or forgotten data may still be in a file, 2 wrong
    usage, or the ledger cannot be opened, 4 no was answered.
    """
)
@click.argument("ledger", metavar="LEDGER|DSN", type=HiddenText(), envvar=ENVIRONMENT)
@click.option(
    "--older-than",
    type=Age(),
    required=True,
    metavar="AGE",
    help="How long ago it was begun, or came: in days, as 180d, or weeks, as 26w; 7d at least.",
)
@click.option("--dry-run", is_flag=True, help="Say how much there is, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def prune(
    *, ledger: Secret, older_than: timedelta, dry_run: bool, yes: bool, as_json: bool
) -> None:
    from ..actions import prune as action  # noqa: PLC0415 - not for help

    options = action.PruneOptions(older_than=older_than, is_dry_run=dry_run, yes=yes)
    sys.exit(action.prune(ledger, options, as_json=as_json))
