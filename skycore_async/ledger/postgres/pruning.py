"""Prune the tables in PostgreSQL, while other processes write to them.

Strategy: first it is written that there are pruned messages, and all writers who do not know that
yet are waited for.  From then on, a writer who has inserted a row checks whether it is of a pruned
message: if that was renamed before the row could be inserted, the next statement sees it.

Rules:

* No table is locked.  Rows are locked in the common order, submissions first.
* A submission is renamed before its notifications are removed: a writer who is just recording one
  for it has done so by then, or finds the new name.
* A row of a campaign is pruned with the message that it became.  If it became none, it is pruned
  once its chunk is done, or the campaign is cancelled, for as long.
* The database keeps removed rows until it is vacuumed, and its disk until their place is reused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import psycopg

from ...errors import LedgerError
from ...postgres.connection import Database, cleaned, describe_error
from ...postgres.schema import Connection
from ...runtime.logs import log
from ..model import MessageRecord
from ..pruning import pruned_name
from . import statements
from .reader import DIALECT, MESSAGE, PostgresReader

NO_ROW: Final = "null"  # what is in a chunk in place of a pruned message, as JSON

_AT_ONCE: Final = 500  # notifications without a message, or their submissions
_PAUSE: Final = 0.05  # seconds between two looks at the writers
_MARK: Final = "UPDATE skycore.pruned SET until = greatest(until, %s)"
_LAST_PRUNABLE: Final = f"""
SELECT coalesce(max(received), 0) FROM skycore.events
WHERE tracking_id IN (SELECT tracking_id {DIALECT.old_submissions})
"""
_WRITERS: Final = """
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND relation IN ('skycore.messages'::regclass, 'skycore.submissions'::regclass)
"""
_LOCK_SUBMISSIONS: Final = """
SELECT FROM skycore.submissions WHERE tracking_id IN (
    SELECT plain_id FROM skycore.messages WHERE id = ANY(%s))
ORDER BY tracking_id FOR UPDATE
"""
_GIVEN: Final = """unnest(%s::text[], %s::text[], %s::bigint[]) AS given (plain_id, name, message)
WHERE tracking_id = given.plain_id AND submissions.message IS NOT DISTINCT FROM given.message"""
# If the tracking id was pruned before, and came again, the new name exists already.
_REMOVE_AGAIN: Final = f"""
DELETE FROM skycore.submissions USING {_GIVEN}
    AND EXISTS (SELECT FROM skycore.submissions AS before WHERE before.tracking_id = given.name)
RETURNING given.plain_id
"""
_RENAME: Final = f"""
UPDATE skycore.submissions
SET tracking_id = given.name, message = coalesce(given.message, 0), recipient = NULL
FROM {_GIVEN}
RETURNING given.plain_id
"""
_PRUNE_ATTEMPTS: Final = """
UPDATE skycore.attempts SET recipient = '', text_digest = NULL, history_id = NULL
WHERE message = ANY(%s)
"""
_CHUNK: Final = f"""
SELECT chunks.id, keys, messages
FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
WHERE chunks.id > %s AND (chunks.state = 'done' OR campaigns.state = 'cancelled')
    AND due < to_timestamp(%s) AND coalesce(held_until < clock_timestamp(), true)
    AND '{NO_ROW}' <> ANY(messages)
ORDER BY chunks.id LIMIT 1 FOR UPDATE OF chunks
"""
_VACUUM: Final = (
    "VACUUM skycore.messages, skycore.submissions, skycore.events, skycore.attempts,"
    " skycore.chunks"
)


class PostgresPruning(PostgresReader):
    """The part of a `LedgerStore` that prunes."""

    def mark_pruned(self, until: float) -> None:
        """Write that messages begun until then are being pruned."""
        if not self._execute(_MARK, (until,)).rowcount:
            self._execute("INSERT INTO skycore.pruned VALUES (%s)", (until,))

    def change_mark(self, marked: float, until: float) -> None:
        """Replace the mark `marked` by `until`: messages begun until then were pruned."""
        self._execute("UPDATE skycore.pruned SET until = %s WHERE until = %s", (until, marked))

    def last_prunable_notification(self, before: float) -> float:
        """Return the time of the last prunable notification with a tracking id and no message."""
        (last,) = self._execute(_LAST_PRUNABLE, (before,)).fetchone()
        return float(last)

    def messages_to_prune(self, before: float, after: int, until: int) -> list[MessageRecord]:
        """Return the prunable messages in that span of ids, locked after their submissions."""
        rows = self._execute(
            "SELECT id FROM skycore.messages"
            f" WHERE id > %s AND id <= %s AND {DIALECT.may_be_pruned}",
            (after, until, before),
        )
        ids = [id_ for (id_,) in rows]
        self._execute(_LOCK_SUBMISSIONS, (ids,))
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM skycore.messages"
            f" WHERE id = ANY(%s) AND {DIALECT.may_be_pruned} ORDER BY id FOR UPDATE",
            (ids, before),
        )
        return list(map(MESSAGE.value, rows))

    def prune(self, pairs: Sequence[tuple[MessageRecord, MessageRecord]]) -> int:
        """Write what stays of messages, and return how many notifications were removed."""
        records = [after for _, after in pairs]
        ids = [record.id for record in records]
        self._execute(statements.UPDATE, MESSAGE.by_column(records))
        known = [(each.plain_id, each.id) for each, _ in pairs if each.plain_id is not None]
        self._execute(
            "DELETE FROM skycore.attempts WHERE message = ANY(%s) AND state <> 'not_sent'", (ids,)
        )
        self._execute(_PRUNE_ATTEMPTS, (ids,))
        return self._remove(known)

    def _remove(self, known: Sequence[tuple[str, int | None]]) -> int:
        """Remove the notifications of submissions, and return how many; rename the submissions."""
        given = (
            [plain_id for plain_id, _ in known],
            [pruned_name(plain_id) for plain_id, _ in known],
            [message for _, message in known],
        )
        rows = [*self._execute(_REMOVE_AGAIN, given), *self._execute(_RENAME, given)]
        return self._remove_notifications([plain_id for (plain_id,) in rows])

    def _remove_notifications(self, ids: Sequence[str]) -> int:
        removed = self._execute("DELETE FROM skycore.events WHERE tracking_id = ANY(%s)", (ids,))
        return int(removed.rowcount)

    def prune_notifications(self, before: float) -> int:
        """Remove some notifications that have no message, and return how many."""
        removed = self._execute(
            "DELETE FROM skycore.events WHERE id IN"
            f" (SELECT id {DIALECT.old_texts} ORDER BY received LIMIT {_AT_ONCE})",
            (before,),
        )
        rows = self._execute(
            f"SELECT tracking_id {DIALECT.old_submissions} ORDER BY tracking_id LIMIT {_AT_ONCE}"
            " FOR UPDATE",
            (before,),
        )
        return int(removed.rowcount) + self._remove([(plain_id, None) for (plain_id,) in rows])

    # What comes for pruned messages.

    def remove_pruned(self, keys: Sequence[str]) -> set[str]:
        """Remove just inserted messages that were pruned before; return the keys of the others."""
        pruned = self._execute(statements.REMOVE_PRUNED, (keys,))
        return {*keys} - {key for (key,) in pruned}

    def remove_late(self, ids: Sequence[str]) -> set[str]:
        """Remove just noted submissions that were pruned before, and return their tracking ids."""
        late = {id_ for (id_,) in self._execute(statements.REMOVE_LATE, (ids,))}
        if late:
            self._remove_notifications(sorted(late))
        return late


# All below runs over a connection of its own, in a thread.


def wait_for_writers(database: Database, sleep: Callable[[float], None]) -> None:
    """Return once all transactions that are writing now have ended."""
    with _connected(database) as connection:
        others = set(connection.execute(_WRITERS))
        while others:
            sleep(_PAUSE)
            others &= set(connection.execute(_WRITERS))


def end_pruning(database: Database, before: float) -> None:
    """Prune the rows of campaigns, and vacuum the tables."""
    with _connected(database) as connection:
        chunk: int | None = 0
        while chunk is not None:
            with connection.transaction():
                chunk = _prune_chunk(connection, chunk, before)
        connection.add_notice_handler(
            lambda notice: log.warning("%s: %s", database.name, notice.message_primary)
        )
        connection.execute(_VACUUM)


@contextmanager
def _connected(database: Database) -> Iterator[Connection]:
    try:
        with database.open() as connection:
            yield connection
    except psycopg.Error as error:
        raise LedgerError(f"{database.name}: {describe_error(error)}") from cleaned(error)


def _prune_chunk(connection: Connection, after: int, before: float) -> int | None:
    """Prune the rows of the first chunk beyond the id `after`; return its id, or None for none."""
    row = connection.execute(_CHUNK, (after, before)).fetchone()
    if row is None:
        return None
    id_, keys, messages = row
    found = connection.execute("SELECT key FROM skycore.messages WHERE key = ANY(%s)", (keys,))
    kept = {key for (key,) in found}
    rows = [
        (key, row) if key in kept or row == NO_ROW else (pruned_name(key), NO_ROW)
        for key, row in zip(keys, messages, strict=True)
    ]
    connection.execute(
        "UPDATE skycore.chunks SET keys = %s, messages = %s WHERE id = %s",
        ([key for key, _ in rows], [row for _, row in rows], id_),
    )
    return int(id_)
