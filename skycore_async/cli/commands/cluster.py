"""`skycore cluster`: an operator's commands for the database that workers share."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ...runtime.secret import Secret
from ..ui.dsn import FilePath, HiddenText
from ..ui.help import Subcommands
from ..ui.options import json_option

_campaign: Final = click.argument(
    "arguments", type=HiddenText(), nargs=-1, metavar="[DSN] CAMPAIGN"
)


@click.group(
    cls=Subcommands,
    help="""
    Manage the database that workers share.

    DSN is a PostgreSQL database, such as postgresql://user@host/database.
    SKYCORE_DSN stands in for it.  A password is better kept in ~/.pgpass.

    \b
    Examples:
      skycore cluster migrate postgresql://me@db/sms
      skycore cluster pause postgresql://me@db/sms promo
      SKYCORE_DSN=postgresql://me@db/sms skycore cluster resume promo

    Exit codes: 0 done, 1 the database failed, 2 wrong usage, no such campaign,
    or the database cannot be reached.
    """,
)
def cluster() -> None:
    pass


@cluster.command(
    help="""
    Create the tables, or bring them up to date.

    Nothing else does so.  Stop all workers, listeners and services of an older
    version first: it does not know the new tables, so that what it has in
    flight would end in doubt.

    \b
    Example:
      skycore cluster migrate postgresql://me@db/sms
    """
)
@click.argument("dsn", type=HiddenText(), required=False)
@json_option
def migrate(*, dsn: Secret | None, as_json: bool) -> None:
    from ..actions.cluster import migrate_tables  # noqa: PLC0415 - not for help

    migrate_tables(dsn, as_json=as_json)


@cluster.command(
    help="""
    Copy the ledger FILE into the database.

    Copies its messages, tracking ids, postbacks and opt-outs; what was being sent
    is in doubt.  Run again, it adds what is new.  Where the two contradict each
    other, nothing is copied.  The file stays as it is; use the database from then
    on.

    \b
    Example:
      skycore cluster copy promo.db postgresql://me@db/sms
    """
)
@click.argument("file", type=FilePath(path_type=Path))
@click.argument("dsn", type=HiddenText(), required=False)
@json_option
def copy(*, file: Path, dsn: Secret | None, as_json: bool) -> None:
    from ..actions.cluster import copy_ledger  # noqa: PLC0415 - not for help

    copy_ledger(file, dsn, as_json=as_json)


@cluster.command(
    help="""
    Stop sending for now: what is in flight ends, the rest waits.

    \b
    Example:
      skycore cluster pause postgresql://me@db/sms promo
    """
)
@_campaign
@json_option
def pause(*, arguments: tuple[Secret, ...], as_json: bool) -> None:
    from ..actions.cluster import change_campaign  # noqa: PLC0415 - not for help

    change_campaign(arguments, "pause", as_json=as_json)


@cluster.command(
    help="""
    Go on with a campaign that was paused or halted.

    \b
    Example:
      skycore cluster resume postgresql://me@db/sms promo
    """
)
@_campaign
@json_option
def resume(*, arguments: tuple[Secret, ...], as_json: bool) -> None:
    from ..actions.cluster import change_campaign  # noqa: PLC0415 - not for help

    change_campaign(arguments, "resume", as_json=as_json)


@cluster.command(
    help="""
    Stop sending for good: what was not sent never will be.

    What is in doubt stays in doubt; `skycore status DSN --state in_doubt` lists it.

    \b
    Example:
      skycore cluster cancel postgresql://me@db/sms promo
    """
)
@_campaign
@json_option
def cancel(*, arguments: tuple[Secret, ...], as_json: bool) -> None:
    from ..actions.cluster import change_campaign  # noqa: PLC0415 - not for help

    change_campaign(arguments, "cancel", as_json=as_json)


@cluster.command(
    help="""
    Send again what is in doubt in a campaign, once.

    It may have been sent: whoever has it already gets it twice, and you pay twice.
    Postbacks may still settle it; wait for them first.  Each message is sent once
    more for your word, by the workers, however often it is given before they have
    done so.  What a worker may still get the outcome of is left alone.

    \b
    Example:
      skycore cluster resend postgresql://me@db/sms promo
    """
)
@_campaign
@click.option("--yes", is_flag=True, help="Ask nothing.  Without a terminal it is needed.")
@json_option
def resend(*, arguments: tuple[Secret, ...], yes: bool, as_json: bool) -> None:
    from ..actions.cluster import resend_doubts  # noqa: PLC0415 - not for help

    resend_doubts(arguments, yes=yes, as_json=as_json)
