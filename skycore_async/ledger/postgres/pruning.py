"""What the tables in PostgreSQL are told of pruning, while other processes write to them.

Strategy: that there are pruned messages is written first, and writers who do not know that are
waited for.  From then on, a writer who has inserted a row looks whether it is of a pruned message:
what was given another name before that row could be inserted is seen by the next statement.

Rules:

* No table is locked: rows are, in the order in which everybody locks them, submissions first.
* A submission gets its other name before what came for it is removed: a writer who is just
  recording something for it has done so by then, or finds the name.
* The rows of a campaign are pruned with the messages that they became.  Those that became none
  are when their chunk is done or the campaign is cancelled, and that is as long ago.
* The database keeps what was removed until it is vacuumed, and on its disk until that place is
  used again.
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
# Of what was pruned before, and has come or was given again, there is the name already.
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
    """The tables as they are pruned; see `LedgerStore`."""

    def mark_pruned(self, until: float) -> None:
        """Write that what was begun until then is being pruned."""
        if not self._execute(_MARK, (until,)).rowcount:
            self._execute("INSERT INTO skycore.pruned VALUES (%s)", (until,))

    def change_mark(self, marked: float, until: float) -> None:
        """Write that what was begun until then was pruned, in place of what was marked."""
        self._execute("UPDATE skycore.pruned SET until = %s WHERE until = %s", (until, marked))

    def last_prunable_notification(self, before: float) -> float:
        """Return the time of the last that has a tracking id, no message, and may be pruned."""
        (last,) = self._execute(_LAST_PRUNABLE, (before,)).fetchone()
        return float(last)

    def messages_to_prune(self, before: float, after: int, until: int) -> list[MessageRecord]:
        """Return the messages there that may be pruned, locked after their submissions."""
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
        """Write what stays of messages, and no more of them."""
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
        """Remove what came for submissions of messages, or of none; return how much it was."""
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
        """Remove some notifications that have no message, and return how many there were."""
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

    # What comes for what was pruned.

    def remove_pruned(self, keys: Sequence[str]) -> set[str]:
        """Remove messages, just inserted, that were pruned, and return the keys of the others."""
        pruned = self._execute(statements.REMOVE_PRUNED, (keys,))
        return {*keys} - {key for (key,) in pruned}

    def remove_late(self, ids: Sequence[str]) -> set[str]:
        """Remove submissions, just noted, that were pruned, with what came; return their ids."""
        late = {id_ for (id_,) in self._execute(statements.REMOVE_LATE, (ids,))}
        if late:
            self._remove_notifications(sorted(late))
        return late


# From here on over a connection of its own, in a thread.


def wait_for_writers(database: Database, sleep: Callable[[float], None]) -> None:
    """Return once every transaction has ended that writes now."""
    with _connected(database) as connection:
        others = set(connection.execute(_WRITERS))
        while others:
            sleep(_PAUSE)
            others &= set(connection.execute(_WRITERS))


def end_pruning(database: Database, before: float) -> None:
    """Prune the rows of campaigns, and have the database make room of what was removed."""
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
    """Prune the rows of the first chunk beyond the id `after`, and return its id, if there is."""
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
