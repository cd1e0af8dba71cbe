"""What `skycore cluster` does: make the tables, copy a ledger in, stop and resume campaigns.

Rule: what may have been sent is sent again only after a yes, or with --yes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio
import attrs

from ...campaigns import queue
from ...campaigns.campaigns import change
from ...campaigns.resending import doubts_of, resend
from ...errors import LedgerError
from ...ledger.postgres.import_sqlite import Copied, copy
from ...ledger.sqlite.ledger import SQLiteLedger
from ...postgres import schema
from ...postgres.connection import Database
from ...runtime.secret import Secret
from ..bulk.earlier_campaigns import note_copied
from ..ui.campaigns import say_what_stops_it
from ..ui.confirm import confirm
from ..ui.database import name_of_database, with_connection
from ..ui.dsn import dsn_and_names, dsn_of
from ..ui.output import emit, fail, number_of, say

_TO_MIGRATE: Final = "it takes CREATE on the database, and to own the tables that there are"
_STATES: Final = {"pause": "paused", "resume": "running", "cancel": "cancelled"}


def migrate_tables(dsn: Secret | None, *, as_json: bool) -> None:
    """Create the tables or bring them up to date, and print what was done."""
    before, after = with_connection(
        dsn_of(dsn), schema.migrate, connect=Database.open_to_migrate, rights=_TO_MIGRATE
    )
    is_new = with_connection(dsn_of(dsn), queue.migrate, rights=_TO_MIGRATE)
    if as_json:
        emit({"before": before, "after": after, "queue_made": is_new})
    elif before == after and not is_new:
        say(f"The tables are up to date: schema {after}.")
    else:
        say(f"The tables are made: schema {after}, before {before or 'none'}.")


def copy_ledger(file: Path, dsn: Secret | None, *, as_json: bool) -> None:
    """Copy the ledger in a file into the database, and print how much there was."""
    if not (file.is_file() and file.stat().st_size):
        fail(f"{file}: there is no such ledger; name the file that --ledger named")

    async def copied() -> Copied:
        # Open, so that no other process sends from it meanwhile.
        async with SQLiteLedger(file):
            return with_connection(dsn_of(dsn), lambda connection: copy(connection, file))

    try:
        done = anyio.run(copied)
    except LedgerError as error:
        fail(str(error))
    note_copied(file, name_of_database(dsn_of(dsn)))
    if as_json:
        emit(done)
    else:
        say(f"{file}: {done.messages:,} messages, {done.new:,} of them new here")


def change_campaign(arguments: Sequence[Secret], verb: str, *, as_json: bool) -> None:
    """Pause, resume or cancel the campaign that `arguments` name, after the DSN or without."""
    dsn, (name,) = dsn_and_names(arguments, names="CAMPAIGN")
    before = with_connection(dsn, lambda connection: change(connection, verb, name))
    after = _STATES[verb]
    if as_json:
        emit({"campaign": name, "before": before, "state": after})
    else:
        was = "already" if before == after else f"was {before}, and is"
        say(f"{name}: {was} {after}")


def resend_doubts(arguments: Sequence[Secret], *, yes: bool, as_json: bool) -> None:
    """Have workers send again what is in doubt in the campaign that `arguments` name."""
    dsn, (name,) = dsn_and_names(arguments, names="CAMPAIGN")
    doubts = with_connection(dsn, lambda connection: doubts_of(connection, name))
    if doubts and not yes:
        question = (
            f"{number_of(len(doubts), 'message')} may have been sent already, and would be billed"
            " and delivered twice. Send again?"
        )
        confirm(question, otherwise="nothing is sent again")
    done = with_connection(dsn, lambda connection: resend(connection, name, doubts))
    if as_json:
        emit({"campaign": name, **attrs.asdict(done)})
        return
    say(f"{name}: {number_of(done.new, 'message')} to send once more, {done.marked:,} in all")
    if done.under_way:
        why = "the outcome may still come, or they came into doubt since"
        say(f"{done.under_way:,} are left in doubt: {why}", err=True)
    if done.marked and done.state != "running":
        say_what_stops_it(done.state)
