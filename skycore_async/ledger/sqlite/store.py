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

from ..columns import NOTIFICATION
from ..commands import Begin, Finish
from ..model import MessageRecord, MessageState, StoredNotification
from ..opt_outs import OptOut
from ..rules import answer_as_text
from ..settlement import UnmatchedSubmission, unmatched_in
from ..store import FinishedMessage
from .reader import MESSAGE, UNDECIDED, SQLiteReader

_UPDATE_FROM: Final = (3, 33)  # the first SQLite that has it

_INSERT: Final = (
    "INSERT INTO messages (key, content, recipient, sender, state, started_at)"
    " SELECT column1, column2, column3, column4, 'sending', column5 FROM (VALUES {})"
    " WHERE column6 OR NOT EXISTS (SELECT 1 FROM opt_outs WHERE number = column3 AND out)"
    " ON CONFLICT (key) DO NOTHING"
)
# Whether notifications came for a tracking id before, and whether some that came for the
# number have no message.
_CAME: Final = (
    " EXISTS (SELECT 1 FROM submissions WHERE tracking_id = column2),"
    " EXISTS (SELECT 1 FROM submissions AS other"
    "  WHERE other.message IS NULL AND other.recipient = messages.recipient)"
)
_USUAL: Final = (
    f"SELECT id, key, recipient, {_CAME} FROM (VALUES {{}}) JOIN messages ON key = column1"
    " WHERE state = 'sending' AND doubted IS NOT TRUE"
)
_DECIDED: Final = f"SELECT id, {_CAME} FROM (VALUES {{}}) JOIN messages ON id = column1"
_ENDED: Final = ("state", "tracking_id", "code", "info", "http_status", "raw", "ended_at")
_END_ONE: Final = f"UPDATE messages SET {', '.join(f'{name} = ?' for name in _ENDED)} WHERE id = ?"
_END: Final = (
    "UPDATE messages SET "
    + ", ".join(f"{name} = column{place}" for place, name in enumerate(_ENDED, 1))
    + f" FROM (VALUES {{}}) WHERE id = column{len(_ENDED) + 1}"
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
_OPT_OUT: Final = (
    # The last word counts, in whichever order they come.
    "INSERT INTO opt_outs (number, out, at) VALUES (?, ?, ?) ON CONFLICT (number)"
    " DO UPDATE SET out = excluded.out, at = excluded.at WHERE excluded.at >= at"
)

# What stays as it was when a message is begun for the first time.
_FIXED: Final = frozenset({"id", "key", "content", "recipient", "sender"})
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
        rows = [
            (
                command.intent.key,
                command.intent.content,
                command.intent.to,
                command.intent.from_,
                command.intent.started_at,
                command.ignore_opt_out,
            )
            for command in begins
        ]
        if self._count(_INSERT, rows) == len(rows):
            return {row[0] for row in rows}
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

    def finish_usual(
        self, finishes: Sequence[Finish], *, ended_at: float
    ) -> Sequence[FinishedMessage]:
        """Write the outcomes of attempts that are under way and were never in doubt."""
        given = {command.key: command.submission for command in finishes}
        found = self._over(_USUAL, [(key, each.tracking_id) for key, each in given.items()])
        ended, submitted, finished = [], [], []
        for id_, key, number, has_notifications, has_unmatched in found:
            submission = given[key]
            raw = answer_as_text(submission)
            state, tracking_id = submission.state, submission.tracking_id
            ended.append(
                (
                    state.value,
                    tracking_id,
                    submission.code,
                    submission.info,
                    submission.http_status,
                    raw,
                    ended_at,
                    id_,
                )
            )
            if tracking_id is not None:
                submitted.append((tracking_id, id_, number))
            finished.append(
                FinishedMessage(
                    id=id_,
                    key=key,
                    to=number,
                    state=state,
                    has_notifications=bool(has_notifications),
                    has_unmatched=bool(has_unmatched),
                )
            )
        if sqlite3.sqlite_version_info >= _UPDATE_FROM:
            self._over(_END, ended)
        else:
            for row in ended:
                self._execute(_END_ONE, row)
        self._over(_SUBMIT, submitted)
        return finished

    def submit(self, records: Sequence[MessageRecord]) -> Sequence[FinishedMessage]:
        """Write the submissions of messages whose outcome was just decided."""
        by_id = {record.id: record for record in records}
        found = self._over(_DECIDED, [(record.id, record.tracking_id) for record in records])
        self._over(
            _SUBMIT,
            [
                (record.tracking_id, record.id, record.to)
                for record in records
                if record.tracking_id is not None
            ],
        )
        return [
            FinishedMessage(
                id=id_,
                key=by_id[id_].key,
                to=by_id[id_].to,
                state=by_id[id_].state,
                has_notifications=bool(has_notifications),
                has_unmatched=bool(has_unmatched),
            )
            for id_, has_notifications, has_unmatched in found
        ]

    # Notifications, and the submissions that they are of.

    def insert_notifications(self, notifications: Sequence[StoredNotification]) -> set[bytes]:
        """Insert those that are new, and return their identities."""
        known = {
            identity
            for (identity,) in self._over(
                "SELECT identity FROM (VALUES {}) JOIN events ON identity = column1",
                [(each.identity,) for each in notifications],
            )
        }
        new = [each for each in notifications if each.identity not in known]
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

    def undecided(self, recipient: str) -> list[MessageRecord]:
        """Return the messages to a number that are under way or in doubt."""
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM messages WHERE {UNDECIDED} AND recipient = ?"
            " ORDER BY id",
            (recipient,),
        )
        return list(map(MESSAGE.value, rows.fetchall()))

    def unmatched(self, recipient: str) -> list[UnmatchedSubmission]:
        """Return the submissions to a number that have no message."""
        rows = self._execute(
            f"SELECT {NOTIFICATION.of('events')} FROM submissions"
            " JOIN events ON events.tracking_id = submissions.tracking_id"
            " WHERE message IS NULL AND submissions.recipient = ?",
            (recipient,),
        )
        return unmatched_in(map(NOTIFICATION.value, rows.fetchall()))

    def match(self, pairs: Mapping[str, int]) -> None:
        """Write that these tracking ids are those of these messages."""
        for tracking_id, message in pairs.items():
            self._execute(
                "UPDATE submissions SET message = ? WHERE tracking_id = ?", (message, tracking_id)
            )

    def interrupt(self) -> Sequence[tuple[str, str]]:
        """Write `in_doubt` for what is under way: who has just opened the ledger sends nothing."""
        under_way = f"FROM messages WHERE {UNDECIDED} AND state = '{MessageState.SENDING}'"
        found: list[tuple[str, str]] = self._execute(
            f"SELECT key, recipient {under_way}"
        ).fetchall()
        self._execute(
            f"UPDATE messages SET state = '{MessageState.IN_DOUBT}' WHERE id IN"
            f" (SELECT id {under_way})"
        )
        return found

    def unsettled_numbers(self) -> set[str]:
        """Return the numbers that have undecided messages and unmatched submissions."""
        rows = self._execute(
            "SELECT DISTINCT recipient FROM messages JOIN submissions AS other USING (recipient)"
            f" WHERE {UNDECIDED} AND other.message IS NULL"
        )
        return {number for (number,) in rows.fetchall()}

    # Opting out.

    def write_opt_outs(self, opt_outs: Sequence[OptOut]) -> None:
        """Write these, each where nothing later is known of its number."""
        for each in opt_outs:
            self._execute(_OPT_OUT, (each.number, each.out, each.at))

    def _count(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement over rows, and return how many it changed."""
        (before,) = self._one("SELECT total_changes()")
        self._over(statement, rows)
        (after,) = self._one("SELECT total_changes()")
        return int(after) - int(before)
