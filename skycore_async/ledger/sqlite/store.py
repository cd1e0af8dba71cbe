"""A ledger as tables, for any connection to SQLite that is used by one at a time.

Strategy: plain synchronous steps, each a few statements found by an index.
What they mean together is decided in `base`; when they become durable, by who
holds the connection and the transaction around them.

Rules:

* A message is a row that changes; a notification is a row that is only ever
  added, and placed once.
* `touched` has the keys and tracking ids that the steps since the last
  transaction changed, for those who wait for news of them.
* Any step leaves the doubts of the number that it was about settled, as far as
  they can be.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from ...errors import KeyConflict, RecipientOptedOut
from ...notifications import Notification
from ..commands import UnderWay
from ..model import MessageState, SendIntent, Submission
from ..opt_outs import OptOut, opt_out_of
from ..rules import known_or_conflict
from ..settlement import (
    SETTLE_WITHIN,
    Doubt,
    StoredNotification,
    UnmatchedSubmission,
    derive_state,
    event_of,
    match_doubts,
)
from .reading import (
    EVENT,
    STRAY,
    SUBMISSION,
    UNDECIDED,
    Connection,
    SQLiteReading,
    columns_of,
    event_in,
    submission_columns,
    submission_in,
)

VERSION: Final = 1
SCHEMA: Final = """
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    content BLOB NOT NULL,
    recipient TEXT NOT NULL,
    sender TEXT,
    state TEXT NOT NULL,
    began REAL NOT NULL,
    ended REAL,
    tracking_id TEXT,
    code TEXT,
    info TEXT,
    http_status INTEGER,
    raw TEXT,
    reason TEXT,
    settled_by TEXT,
    doubted INTEGER
);
CREATE INDEX messages_by_tracking_id ON messages (tracking_id) WHERE tracking_id IS NOT NULL;
CREATE INDEX undecided ON messages (recipient) WHERE state IN ('sending', 'in_doubt');
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    identity BLOB NOT NULL UNIQUE,
    message INTEGER REFERENCES messages,
    tracking_id TEXT,
    recipient TEXT,
    sender TEXT,
    at REAL,
    happened REAL NOT NULL,
    state TEXT,
    reason TEXT,
    raw TEXT NOT NULL
);
CREATE INDEX events_by_message ON events (message) WHERE message IS NOT NULL;
CREATE INDEX unplaced ON events (tracking_id) WHERE message IS NULL AND tracking_id IS NOT NULL;
CREATE INDEX strays ON events (recipient) WHERE message IS NULL AND tracking_id IS NOT NULL;
CREATE TABLE opt_outs (
    number TEXT PRIMARY KEY,
    out INTEGER NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;
"""

_SUBMISSION: Final = f"content, {SUBMISSION}"

# A statement costs more than what most of them find, so that each step asks all it must know
# in one: whether the number has opted out and what came of the key before, and whose the key
# is and whether notifications wait for its tracking id or its number.
_BEFORE: Final = (
    f"SELECT (SELECT 1 FROM opt_outs WHERE number = ? AND out), {_SUBMISSION}"
    " FROM (SELECT 1) LEFT JOIN messages ON key = ?"
)
_WAITING: Final = (
    "SELECT id, recipient, doubted,"
    f" EXISTS (SELECT 1 FROM events WHERE {STRAY} AND tracking_id = ?),"
    f" EXISTS (SELECT 1 FROM events WHERE {STRAY} AND events.recipient = messages.recipient)"
    " FROM messages WHERE key = ? AND state = 'sending'"
)


class SQLiteStore(SQLiteReading):
    """The steps of a ledger over `connection`; `clock` gives seconds since 1970.

    A postback settles a doubt within `settle_within` seconds of its intent.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        clock: Callable[[], float],
        settle_within: float = SETTLE_WITHIN,
    ) -> None:
        super().__init__(connection)
        self._clock = clock
        self._settle_within = settle_within
        self.touched: set[str] = set()

    # Sending.

    def lookup(self, intent: SendIntent, *, resend_in_doubt: bool = False) -> Submission | None:
        """Return what came of a message before; None where it may be begun or is under way."""
        row = self._submitted(intent.key)
        if row is None:
            return None
        known = known_or_conflict(
            intent, row[0], submission_in(row[1:]), resend_in_doubt=resend_in_doubt
        )
        return None if known is None or known.state is MessageState.SENDING else known

    def lookup_many(
        self, intents: Sequence[SendIntent], *, resend_in_doubt: bool = False
    ) -> dict[str, Submission]:
        """Return what came of many messages before, by their keys; no conflict is raised."""
        found = {}
        for intent in intents:
            with suppress(KeyConflict):
                if known := self.lookup(intent, resend_in_doubt=resend_in_doubt):
                    found[intent.key] = known
        return found

    def begin(
        self, intent: SendIntent, *, resend_in_doubt: bool = False, ignore_opt_out: bool = False
    ) -> Submission | None:
        """Write an intent and return None, or give what came of it before.

        Raises UnderWay, KeyConflict and RecipientOptedOut, and has written nothing then.
        """
        opted_out, *row = self._one(_BEFORE, intent.to, intent.key)
        is_new = row[0] is None
        if not is_new:
            submission = submission_in(row[1:])
            known = known_or_conflict(intent, row[0], submission, resend_in_doubt=resend_in_doubt)
            if known is not None:
                if known.state is MessageState.SENDING:
                    raise UnderWay
                return known
        if opted_out and not ignore_opt_out:
            raise RecipientOptedOut("the number has opted out")
        if is_new:
            self._execute(
                "INSERT INTO messages (key, content, recipient, sender, state, began)"
                " VALUES (?, ?, ?, ?, 'sending', ?)",
                (intent.key, intent.content, intent.to, intent.from_, intent.started_at),
            )
        else:
            self._execute(
                "UPDATE messages SET doubted = state = 'in_doubt', state = 'sending', began = ?,"
                " ended = NULL, code = NULL, info = NULL, http_status = NULL WHERE key = ?",
                (intent.started_at, intent.key),
            )
        return None

    def _submitted(self, key: str) -> Any:
        return self._one(f"SELECT {_SUBMISSION} FROM messages WHERE key = ?", key)

    def finish(self, key: str, submission: Submission) -> None:
        """Write what came of a message that was begun, and place what was waiting for it."""
        tracking_id = submission.tracking_id
        row = self._one(_WAITING, tracking_id, key)
        if row is None:
            return
        id_, recipient, doubted, has_come, has_strays = row
        if doubted and submission.state is not MessageState.ACCEPTED:
            # That the second was not accepted says nothing of the first.
            submission = attrs.evolve(submission, state=MessageState.IN_DOUBT)
        self._execute(
            "UPDATE messages SET state = ?, tracking_id = ?, code = ?, info = ?,"
            " http_status = ?, raw = ?, ended = ? WHERE id = ?",
            (*submission_columns(submission), self._clock(), id_),
        )
        self.touched.add(key)
        if has_come and tracking_id is not None:
            self._place(id_, tracking_id)
        if submission.code == "E114":
            self._mark(OptOut(number=recipient, out=True, at=self._clock()))
        if has_strays:
            self._settle(recipient)

    def doubt_what_was_under_way(self) -> None:
        """Take what was being sent when the program ended for in doubt."""
        numbers = self._execute("SELECT DISTINCT recipient FROM messages WHERE " + UNDECIDED)
        recipients = [recipient for (recipient,) in numbers.fetchall()]
        self._execute(
            "UPDATE messages SET state = 'in_doubt' WHERE " + UNDECIDED + " AND state = 'sending'"
        )
        for recipient in recipients:
            self._settle(recipient)

    # Postbacks.

    def record(self, notifications: Collection[Notification]) -> None:
        """Write notifications, each once, and place them where their message is known."""
        received = self._clock()
        strays: set[str] = set()
        for notification in notifications:
            event = event_of(notification, received=received)
            if self._one("SELECT 1 FROM events WHERE identity = ?", event.identity):
                continue
            if not self._record(event) and event.tracking_id is not None and event.to is not None:
                strays.add(event.to)
            if opt_out := opt_out_of(notification, received=received):
                self._mark(opt_out)
        # Of two that come together and could each be meant, neither is the first.
        for recipient in sorted(strays):
            self._settle(recipient)

    def _record(self, event: StoredNotification) -> bool:
        """Write a notification, and tell whether its message is known."""
        message = event.tracking_id and self._one(
            "SELECT id FROM messages WHERE tracking_id = ? ORDER BY id DESC LIMIT 1",
            event.tracking_id,
        )
        self._execute(
            f"INSERT INTO events (message, {EVENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (message[0] if message else None, *columns_of(event)),
        )
        if message:
            self._tell(message[0])
        return bool(message)

    def _place(self, message: int, tracking_id: str) -> None:
        """Place what came for a tracking id before it was known whose it is."""
        self._execute(
            f"UPDATE events SET message = ? WHERE {STRAY} AND tracking_id = ?",
            (message, tracking_id),
        )
        self._tell(message)

    def _tell(self, message: int) -> None:
        """Bring a message's state up to its notifications."""
        state, reason = derive_state(self._events(message))
        self._execute(
            "UPDATE messages SET state = ?, reason = ? WHERE id = ?", (state, reason, message)
        )
        self.touched.update(
            self._one("SELECT key, tracking_id FROM messages WHERE id = ?", message)
        )

    def _settle(self, recipient: str) -> None:
        doubts = [
            Doubt(id=id_, from_=sender, began=began, under_way=state == "sending")
            for id_, sender, began, state in self._execute(
                f"SELECT id, sender, began, state FROM messages WHERE {UNDECIDED}"
                " AND recipient = ?",
                (recipient,),
            ).fetchall()
        ]
        if all(doubt.under_way for doubt in doubts):
            return
        strays = self._strays(recipient)
        for message, tracking_id in match_doubts(doubts, strays, within=self._settle_within):
            self._execute(
                "UPDATE messages SET tracking_id = ?, settled_by = 'postback', code = NULL,"
                " info = NULL, http_status = NULL WHERE id = ?",
                (tracking_id, message),
            )
            self._place(message, tracking_id)

    def _strays(self, recipient: str) -> list[UnmatchedSubmission]:
        rows = self._execute(
            f"SELECT {EVENT} FROM events WHERE {STRAY} AND recipient = ?", (recipient,)
        )
        events: dict[str, list[StoredNotification]] = {}
        for event in map(event_in, rows.fetchall()):
            events.setdefault(str(event.tracking_id), []).append(event)
        return [
            UnmatchedSubmission(tracking_id=id_, events=about) for id_, about in events.items()
        ]

    # Opting out.

    def is_opted_out(self, number: str) -> bool:
        """Return whether a number may not be sent to."""
        return bool(self._one("SELECT 1 FROM opt_outs WHERE number = ? AND out", number))

    def mark(self, number: str, *, out: bool) -> None:
        """Mark or unmark a number now."""
        self._mark(OptOut(number=number, out=out, at=self._clock()))

    def _mark(self, word: OptOut) -> None:
        # The last word counts, in whichever order the words arrive.
        self._execute(
            "INSERT INTO opt_outs (number, out, at) VALUES (?, ?, ?) ON CONFLICT (number)"
            " DO UPDATE SET out = excluded.out, at = excluded.at WHERE excluded.at >= at",
            (word.number, word.out, word.at),
        )
