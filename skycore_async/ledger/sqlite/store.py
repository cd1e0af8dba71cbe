"""The tables in SQLite, for any connection that is used by one at a time.

Strategy: whoever holds the connection has begun a transaction that nobody else can
write in, so that what was read is as it was read until it is written.

Rule: it is not so much a statement that costs as the way into it: around each, Python
gives its lock up, and has to get it back from an event loop that is busy.  So what is
written for each message that is sent goes in one statement for many.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from ...protocol.numbers import SHORTEST
from ..columns import NEW_ATTEMPT, NOTIFICATION, OPT_OUT
from ..commands import Begin, Finish
from ..model import EarlierAttempt, MessageRecord, MessageState, StoredNotification
from ..opt_outs import OptOut
from ..rules import answer_as_text
from ..settlement import UnmatchedSubmission, unmatched_in
from ..store import Finished
from .reader import CANDIDATE, MESSAGE, SQLiteReader

_RETURNING_FROM: Final = (3, 35)  # the first SQLite that has it

_HAS_NOT_OPTED_OUT: Final = "NOT EXISTS (SELECT 1 FROM opt_outs WHERE number = column3 AND out)"
# To all numbers, or to those that have not opted out.
_INSERT: Final = {
    ignore_opt_outs: (
        "INSERT INTO messages"
        " (key, content, recipient, sender, state, started_at, text_digest)"
        " SELECT column1, column2, column3, column4, 'sending', column5, column6"
        " FROM (VALUES {})"
        f" WHERE {'true' if ignore_opt_outs else _HAS_NOT_OPTED_OUT}"
        " ON CONFLICT (key) DO NOTHING"
    )
    for ignore_opt_outs in (True, False)
}


def _ending(column: str) -> str:
    """Return the ending of a number, as `numbers.ending` does, by which there are indexes."""
    return f"substr({column}, -{SHORTEST})"


# What a `Finished` holds, asked before its own submission is written.  A column that is
# returned has lost its type before SQLite 3.41, which then reads the other table from end to
# end; what is cast it finds by its index.
_FINISHED: Final = (
    "id, key, recipient, EXISTS (SELECT 1 FROM submissions AS own"
    "  WHERE own.tracking_id = CAST(messages.plain_id AS TEXT)),"
    " state = 'in_doubt' OR EXISTS (SELECT 1 FROM submissions AS other"
    "  WHERE other.message IS NULL"
    f" AND {_ending('other.recipient')} = {_ending('CAST(messages.recipient AS TEXT)')})"
)
CANDIDATES: Final = (
    f"SELECT {MESSAGE.listed} FROM messages"
    f" WHERE {CANDIDATE} AND {_ending('recipient')} = ? ORDER BY id"
)
UNMATCHED: Final = (
    f"SELECT {NOTIFICATION.of('events')} FROM submissions"
    " JOIN events ON events.tracking_id = submissions.tracking_id"
    f" WHERE message IS NULL AND {_ending('submissions.recipient')} = ?"
)
UNDER_WAY: Final = (
    f"SELECT id, key, recipient FROM messages WHERE {CANDIDATE} AND state = 'sending'"
)
UNSETTLED: Final = (
    f"SELECT DISTINCT {_ending('messages.recipient')} FROM messages JOIN submissions AS other"
    f" ON {_ending('other.recipient')} = {_ending('messages.recipient')}"
    f" WHERE {CANDIDATE} AND state = 'in_doubt' AND other.message IS NULL"
)
_IS_USUAL: Final = "state = 'sending' AND doubted IS NOT TRUE"
_ENDED: Final = (
    "state",
    "tracking_id",
    "plain_id",
    "code",
    "info",
    "http_status",
    "raw",
    "ended_at",
)
_KEY: Final = f"column{len(_ENDED) + 1}"
_END: Final = (
    "UPDATE messages SET "
    + ", ".join(f"{name} = column{place}" for place, name in enumerate(_ENDED, 1))
    + f" FROM (VALUES {{}}) WHERE key = {_KEY} AND {_IS_USUAL} RETURNING {_FINISHED}"
)
_END_ONE: Final = (
    f"UPDATE messages SET {', '.join(f'{name} = ?' for name in _ENDED)}"
    f" WHERE key = ? AND {_IS_USUAL}"
)
_SUBMIT: Final = (
    "INSERT INTO submissions (tracking_id, message, recipient) VALUES {}"
    " ON CONFLICT (tracking_id) DO UPDATE SET message = excluded.message"
)
_NOTE: Final = (
    "INSERT INTO submissions (tracking_id, recipient) VALUES {}"
    " ON CONFLICT (tracking_id) DO UPDATE SET recipient = excluded.recipient"
    " WHERE submissions.recipient IS NULL"
)

# What a message is known by.
_FIXED: Final = frozenset({"id", "key"})
_CHANGING: Final = [name for name in MESSAGE.names if name not in _FIXED]
_UPDATE: Final = (
    f"UPDATE messages SET {', '.join(f'{name} = ?' for name in _CHANGING)} WHERE id = ?"
)


class SQLiteStore(SQLiteReader):
    """The tables of a ledger over `connection`; see `LedgerStore`."""

    # Messages.

    def insert_new(self, begins: Sequence[Begin]) -> set[str]:
        """Insert those that are new, and return their keys."""
        (last,) = self._one("SELECT coalesce(max(id), 0) FROM messages")
        (before,) = self._one("SELECT total_changes()")
        for ignore_opt_outs, statement in _INSERT.items():
            intents = [each.intent for each in begins if each.ignore_opt_out is ignore_opt_outs]
            self._over(
                statement,
                [
                    (
                        each.key,
                        each.content,
                        each.to,
                        each.from_,
                        each.started_at,
                        each.text_digest,
                    )
                    for each in intents
                ],
            )
        (after,) = self._one("SELECT total_changes()")
        if after - before == len(begins):
            return {each.intent.key for each in begins}
        return {key for (key,) in self._execute("SELECT key FROM messages WHERE id > ?", (last,))}

    def messages_to_change(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys."""
        return self.messages(keys)

    def messages_by_id(self, ids: Collection[int]) -> list[MessageRecord]:
        """Return messages by their ids."""
        found = self._over(
            f"SELECT {MESSAGE.of('messages')} FROM (VALUES {{}}) JOIN messages ON id = column1",
            [(id_,) for id_ in ids],
        )
        return list(map(MESSAGE.value, found))

    def update(self, records: Sequence[MessageRecord]) -> None:
        """Write these records in place of those with their ids."""
        for record in records:
            columns = zip(MESSAGE.names, MESSAGE.row(record), strict=True)
            values = [value for name, value in columns if name not in _FIXED]
            self._execute(_UPDATE, [*values, record.id])

    def insert_attempts(self, attempts: Sequence[EarlierAttempt]) -> None:
        """Insert attempts of messages that are begun again."""
        self._over(
            f"INSERT INTO attempts ({NEW_ATTEMPT.listed}) VALUES {{}}",
            list(map(NEW_ATTEMPT.row, attempts)),
        )

    def finish_usual(self, finishes: Sequence[Finish], *, ended_at: float) -> Finished:
        """Write the outcomes of attempts that are under way and were never in doubt."""
        given = {command.key: command.submission for command in finishes}
        ended = [
            (
                each.state.value,
                each.tracking_id,
                each.plain_id,
                each.code,
                each.info,
                each.http_status,
                answer_as_text(each),
                ended_at,
                key,
            )
            for key, each in given.items()
        ]
        if sqlite3.sqlite_version_info >= _RETURNING_FROM:
            found = self._over(_END, ended)
        else:
            found = self._finished([row[-1] for row in ended if self._end_one(row)])
        return self._submit(found, {key: each.plain_id for key, each in given.items()})

    def submit(self, records: Sequence[MessageRecord]) -> Finished:
        """Write the submissions of messages whose outcome was just decided."""
        plain_ids = {record.key: record.plain_id for record in records}
        return self._submit(self._finished(list(plain_ids)), plain_ids)

    def _end_one(self, row: Sequence[Any]) -> bool:
        self._execute(_END_ONE, row)
        return bool(self._one("SELECT changes()")[0])

    def _finished(self, keys: Sequence[str]) -> list[Any]:
        return self._over(
            f"SELECT {_FINISHED} FROM (VALUES {{}}) JOIN messages ON key = column1",
            [(key,) for key in keys],
        )

    def _submit(self, rows: Sequence[Any], plain_ids: Mapping[str, str | None]) -> Finished:
        self._over(
            _SUBMIT,
            [
                (plain_id, id_, number)
                for id_, key, number, _, _ in rows
                if (plain_id := plain_ids[key]) is not None
            ],
        )
        return Finished.of(rows)

    # Notifications, and the submissions that they are of.

    def insert_notifications(self, notifications: Sequence[StoredNotification]) -> set[bytes]:
        """Insert those that are new, and return their identities."""
        known = {
            identity
            for (identity,) in self._over(
                "SELECT identity FROM (VALUES {}) JOIN events ON identity = column1",
                [(each.identity,) for each in notifications]
                + [(each.former_identity,) for each in notifications if each.former_identity],
            )
        }
        new = [
            each
            for each in notifications
            if known.isdisjoint({each.identity, each.former_identity})
        ]
        self._over(
            f"INSERT INTO events ({NOTIFICATION.listed}) VALUES {{}}",
            list(map(NOTIFICATION.row, new)),
        )
        return {each.identity for each in new}

    def submissions(self, recipients: Mapping[str, str | None]) -> dict[str, int | None]:
        """Return the ids of messages by their tracking ids, which are noted where they are new."""
        self._over(_NOTE, list(recipients.items()))
        return dict(
            self._over(
                "SELECT tracking_id, message FROM (VALUES {})"
                " JOIN submissions ON tracking_id = column1",
                [(tracking_id,) for tracking_id in recipients],
            )
        )

    # Doubt.

    def candidates(self, ending: str) -> list[MessageRecord]:
        """Return the messages that may have a submission which is not known."""
        return list(map(MESSAGE.value, self._execute(CANDIDATES, (ending,)).fetchall()))

    def unmatched(self, ending: str) -> list[UnmatchedSubmission]:
        """Return the submissions to numbers that end so which have no message."""
        rows = self._execute(UNMATCHED, (ending,)).fetchall()
        return unmatched_in(map(NOTIFICATION.value, rows))

    def match(self, pairs: Mapping[str, int]) -> None:
        """Write that these tracking ids are those of these messages."""
        for tracking_id, message in pairs.items():
            self._execute(
                "UPDATE submissions SET message = ? WHERE tracking_id = ?", (message, tracking_id)
            )

    def interrupt(self, *, at: float) -> Sequence[tuple[str, str]]:
        """Write `in_doubt` for what is under way: who has just opened the ledger sends nothing."""
        found: list[tuple[int, str, str]] = self._execute(UNDER_WAY).fetchall()
        self._execute(
            f"UPDATE messages SET state = '{MessageState.IN_DOUBT}', interrupted_at = ?"
            f" WHERE id IN (SELECT id FROM ({UNDER_WAY}))",
            (at,),
        )
        return [(key, number) for _, key, number in found]

    def unsettled_endings(self) -> set[str]:
        """Return how the numbers end that have messages in doubt and unmatched submissions."""
        return {ending for (ending,) in self._execute(UNSETTLED).fetchall()}

    # Opting out.

    def insert_opt_outs(self, opt_outs: Sequence[OptOut]) -> None:
        """Insert those of whose numbers nothing is known."""
        self._write_opt_outs("IGNORE", opt_outs)

    def opt_outs_to_change(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return what is known of these numbers."""
        return self.opt_outs(numbers)

    def update_opt_outs(self, opt_outs: Sequence[OptOut]) -> None:
        """Write these in place of what is known of their numbers."""
        self._write_opt_outs("REPLACE", opt_outs)

    def _write_opt_outs(self, otherwise: str, opt_outs: Sequence[OptOut]) -> None:
        self._over(
            f"INSERT OR {otherwise} INTO opt_outs ({OPT_OUT.listed}) VALUES {{}}",
            list(map(OPT_OUT.row, opt_outs)),
        )
