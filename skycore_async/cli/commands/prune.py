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
    Forget the numbers and texts of what is old.  None of it is sent again.

    Of a message that was begun so long ago, the state, the times, the sender, the campaign
    and the tags are kept, and it counts as before.  Its number, its key, its ids, what
    Skycore and postbacks said of it, and the texts of handsets go.  Digests of its key and
    content stay: sent again under its key, it is known, and not sent.  Who can guess a key
    or an id can find it again by its digest.

    What is in doubt or under way is kept as it is, and so is who opted out.  Rows of
    campaigns go once these are done or cancelled.  It cannot be undone, also not by a
    postback that comes later.

    LEDGER is the file that --ledger names elsewhere, which no other process may have open,
    or DSN a PostgreSQL database that workers share, for which SKYCORE_DSN stands in, and
    which they go on using.  A file is written anew in the end, which takes as much room
    again.  Broken off, it goes on when it is run again.

    \b
    Examples:
      skycore prune promo.db --older-than 180d --dry-run
      skycore prune promo.db --older-than 180d
      skycore prune postgresql://me@db/sms --older-than 26w --yes --json

    Exit codes: 0 done, 1 broken off, or what was dropped may still stand in a file,
    2 wrong usage, or the ledger cannot be opened, 4 it was not to be done after all.
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
