"""The tables in PostgreSQL: sets of rows read and written, while other processes do the same.

Strategy: each set is a statement or two over arrays, however many rows it has.  What
must not happen twice is decided by the statement that changes it.

Rules:

* An intent is an insert, or an update of a row that was locked before it was read.  It
  bears its session and its number there, by which its session knows its own again after
  a lost connection, and by which nobody else's outcome is taken for its own.
* Any two that are about one submission do it one after the other: each writes
  its row, and what it goes by was read after that.
* So do any two that change what settles a doubt at a number: each writes first,
  then locks the candidates at all numbers that end like it, and then looks.  What misses each
  other all the same is found by whoever looks for expired sessions next.
* Rows are written in the sorted order.  Where the database finds a deadlock all
  the same, the transaction is begun anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from ..columns import NOTIFICATION, OPT_OUT, Columns
from ..commands import Begin, Finish
from ..model import MessageRecord, MessageState, StoredNotification
from ..opt_outs import OptOut
from ..rules import answer_as_text
from ..settlement import UnmatchedSubmission, unmatched_in
from ..store import Finished
from .reader import MESSAGE, PostgresReader

# The types of columns that are no text.
_TYPES: Final = {
    "id": "bigint",
    "content": "bytea",
    "identity": "bytea",
    "started_at": "float8",
    "ended_at": "float8",
    "at": "float8",
    "happened": "float8",
    "received": "float8",
    "http_status": "int",
    "doubted": "boolean",
    "out": "boolean",
    "stamped": "boolean",
    "session": "bigint",
    "attempt": "bigint",
}


def _arrays(names: Sequence[str]) -> str:
    """Return the places of so many arrays, one a column."""
    return ", ".join(f"%b::{_TYPES.get(name, 'text')}[]" for name in names)


def _by_column(columns: Columns[Any], values: Sequence[Any]) -> tuple[list[Any], ...]:
    """Return the columns of values, each as a list."""
    rows = [columns.row(value) for value in values]
    return tuple(map(list, zip(*rows, strict=True))) if rows else ([],) * len(columns.names)


# The number is looked at where the row is written: nobody can opt out in between.
_INSERT: Final = """
INSERT INTO skycore.messages
    (key, content, recipient, sender, state, started_at, session, attempt)
SELECT key, content, recipient, sender, 'sending', started_at, session, attempt
FROM unnest(%b::text[], %b::bytea[], %b::text[], %b::text[], %b::float8[], %b::bigint[],
    %b::bigint[], %b::boolean[])
    AS given (key, content, recipient, sender, started_at, session, attempt, is_willing)
WHERE is_willing
    OR NOT EXISTS (SELECT 1 FROM skycore.opt_outs WHERE number = recipient AND out)
ORDER BY key
ON CONFLICT (key) DO NOTHING
RETURNING key
"""
_FIXED: Final = frozenset({"id", "key"})
_UPDATE: Final = f"""
UPDATE skycore.messages
SET {", ".join(f"{name} = given.{name}" for name in MESSAGE.names if name not in _FIXED)}
FROM unnest({_arrays(MESSAGE.names)}) AS given ({MESSAGE.listed})
WHERE messages.id = given.id
"""
# What is returned of `ended`.  Those with notifications are looked up in an array, and not by a
# join: the database expects few rows of a CTE, and would compare each of them with each other.
_RETURNED: Final = """
SELECT id, key, recipient,
    coalesce(plain_id = ANY (ARRAY(SELECT tracking_id FROM submitted WHERE has_come)), false),
    state = 'in_doubt' OR EXISTS (SELECT 1 FROM skycore.submissions AS other
        WHERE other.message IS NULL AND right(other.recipient, 5) = right(ended.recipient, 5))
FROM ended
"""
# Who learns of a tracking id second, a postback or an answer, finds the row of the first.
_SUBMIT: Final = """
INSERT INTO skycore.submissions AS submission (tracking_id, message, recipient)
SELECT plain_id, id, recipient FROM ended WHERE plain_id IS NOT NULL
ORDER BY plain_id
ON CONFLICT (tracking_id) DO UPDATE SET message = excluded.message
RETURNING tracking_id, xmax <> 0 AS has_come
"""
# A compare-and-set: an outcome is written for the attempt that it is of, and no other.  What it
# compares is in a CASE, so that rows are found by their keys: taken apart, it would be looked for
# first, and each row that is under way or in doubt compared with each that is given.
FINISH: Final = f"""
WITH given AS (
    SELECT * FROM unnest(%b::text[], %b::bigint[], %b::bigint[], %b::text[], %b::text[],
        %b::text[], %b::text[], %b::text[], %b::int[], %b::text[])
    AS given (key, session, attempt, state, tracking_id, plain_id, code, info, http_status, raw)
), ended AS (
    UPDATE skycore.messages AS message
    SET state = given.state, ended_at = %s, tracking_id = given.tracking_id,
        plain_id = given.plain_id, code = given.code, info = given.info,
        http_status = given.http_status, raw = given.raw, settled_by = NULL
    FROM given
    WHERE message.key = given.key AND CASE
        WHEN message.session = given.session AND message.attempt = given.attempt
        THEN message.state IN ('sending', 'in_doubt') AND message.ended_at IS NULL
            AND NOT message.doubted
        END
    RETURNING message.id, message.key, recipient, message.state, message.plain_id
), submitted AS ({_SUBMIT})
{_RETURNED}
"""
_DECIDED: Final = f"""
WITH ended AS (
    SELECT * FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[])
    AS given (id, key, recipient, state, plain_id)
), submitted AS ({_SUBMIT})
{_RETURNED}
"""
_RECORD: Final = f"""
INSERT INTO skycore.events ({NOTIFICATION.listed})
SELECT {NOTIFICATION.listed}
FROM unnest({_arrays(NOTIFICATION.names)}, %b::bytea[]) WITH ORDINALITY
    AS given ({NOTIFICATION.listed}, former, place)
WHERE NOT EXISTS (SELECT 1 FROM skycore.events AS known WHERE known.identity = former)
ORDER BY place
ON CONFLICT (identity) DO NOTHING
RETURNING identity
"""
_NOTE: Final = """
INSERT INTO skycore.submissions AS known (tracking_id, recipient)
SELECT tracking_id, recipient
FROM unnest(%b::text[], %b::text[]) AS given (tracking_id, recipient)
ORDER BY tracking_id
ON CONFLICT (tracking_id)
    DO UPDATE SET recipient = coalesce(known.recipient, excluded.recipient)
RETURNING tracking_id, message
"""
# Numbers are looked up by their last digits, as `numbers.ending` has them.
CANDIDATES: Final = f"""
SELECT {MESSAGE.listed} FROM skycore.messages
WHERE (state IN ('sending', 'in_doubt') OR doubted) AND right(recipient, 5) = %s
ORDER BY id FOR UPDATE
"""
UNMATCHED: Final = f"""
SELECT {NOTIFICATION.of("events")}
FROM skycore.submissions JOIN skycore.events USING (tracking_id)
WHERE message IS NULL AND right(submissions.recipient, 5) = %s
"""
# What nobody alive is sending: its session has let its time run out, or has ended.
EXPIRED: Final = """
UPDATE skycore.messages SET state = 'in_doubt'
WHERE state = 'sending' AND NOT EXISTS (
    SELECT 1 FROM skycore.sessions
    WHERE sessions.id = session AND alive_until > clock_timestamp())
RETURNING key, recipient
"""
UNSETTLED: Final = """
SELECT DISTINCT right(messages.recipient, 5)
FROM skycore.messages JOIN skycore.submissions AS other
    ON right(other.recipient, 5) = right(messages.recipient, 5)
WHERE state = 'in_doubt' AND other.message IS NULL
"""
# Who comes second waits for the first, and then finds what that wrote.
_NEW_OPT_OUTS: Final = f"""
INSERT INTO skycore.opt_outs ({OPT_OUT.listed})
SELECT {OPT_OUT.listed} FROM unnest({_arrays(OPT_OUT.names)}) AS given ({OPT_OUT.listed})
ORDER BY number
ON CONFLICT (number) DO NOTHING
"""
_OPT_OUTS: Final = f"""
SELECT {OPT_OUT.listed} FROM skycore.opt_outs WHERE number = ANY(%s) ORDER BY number FOR UPDATE
"""
_OTHER_OPT_OUTS: Final = f"""
UPDATE skycore.opt_outs SET out = given.out, at = given.at, stamped = given.stamped
FROM unnest({_arrays(OPT_OUT.names)}) AS given ({OPT_OUT.listed})
WHERE opt_outs.number = given.number
"""
# In two statements, so that the second sees a chunk as whoever finished it has left it.
_KEEP: Final = "SELECT FROM skycore.chunks WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE"
_REOPEN: Final = """
UPDATE skycore.chunks SET state = 'waiting', due = clock_timestamp()
WHERE id = ANY(%s) AND state = 'done'
"""


class PostgresStore(PostgresReader):
    """The tables of a ledger over `connection`; see `LedgerStore`."""

    # Messages.

    def insert_new(self, begins: Sequence[Begin]) -> set[str]:
        """Insert those that are new, and return their keys."""
        intents = [command.intent for command in begins]
        attempts = [command.attempt for command in begins]
        rows = self._execute(
            _INSERT,
            (
                [intent.key for intent in intents],
                [intent.content for intent in intents],
                [intent.to for intent in intents],
                [intent.from_ for intent in intents],
                [intent.started_at for intent in intents],
                [attempt.session if attempt else None for attempt in attempts],
                [attempt.number if attempt else None for attempt in attempts],
                [command.ignore_opt_out for command in begins],
            ),
        )
        return {key for (key,) in rows}

    def messages_to_change(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys, locked."""
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM skycore.messages WHERE key = ANY(%s)"
            " ORDER BY key FOR UPDATE",
            (list(keys),),
        )
        return {record.key: record for record in map(MESSAGE.value, rows)}

    def messages_by_id(self, ids: Collection[int]) -> list[MessageRecord]:
        """Return messages by their ids, locked."""
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM skycore.messages WHERE id = ANY(%s)"
            " ORDER BY id FOR UPDATE",
            (list(ids),),
        )
        return list(map(MESSAGE.value, rows))

    def update(self, records: Sequence[MessageRecord]) -> None:
        """Write these records in place of those with their ids."""
        self._execute(_UPDATE, _by_column(MESSAGE, records))

    def finish_usual(self, finishes: Sequence[Finish], *, ended_at: float) -> Finished:
        """Write the outcomes of attempts that are under way and were never in doubt."""
        self._reopen(finishes)
        given = [command.submission for command in finishes]
        attempts = [command.attempt for command in finishes]
        rows = self._execute(
            FINISH,
            (
                [command.key for command in finishes],
                [attempt.session if attempt else None for attempt in attempts],
                [attempt.number if attempt else None for attempt in attempts],
                [submission.state.value for submission in given],
                [submission.tracking_id for submission in given],
                [submission.plain_id for submission in given],
                [submission.code for submission in given],
                [submission.info for submission in given],
                [submission.http_status for submission in given],
                [answer_as_text(submission) for submission in given],
                ended_at,
            ),
        )
        return Finished.of(rows.fetchall())

    def submit(self, records: Sequence[MessageRecord]) -> Finished:
        """Write the submissions of messages whose outcome was just decided."""
        rows = self._execute(
            _DECIDED,
            (
                [record.id for record in records],
                [record.key for record in records],
                [record.to for record in records],
                [record.state.value for record in records],
                [record.plain_id for record in records],
            ),
        )
        return Finished.of(rows.fetchall())

    def _reopen(self, finishes: Sequence[Finish]) -> None:
        """Have chunks looked at again that were done before it was known what is not sent.

        Who was taken for dead can be the one who learns it, after others were done
        with the chunk.
        """
        chunks = {
            command.fence.chunk
            for command in finishes
            if command.fence is not None and command.submission.state is MessageState.NOT_SENT
        }
        if chunks:
            self._execute(_KEEP, (sorted(chunks),))
            self._execute(_REOPEN, (sorted(chunks),))

    # Notifications, and the submissions that they are of.

    def insert_notifications(self, notifications: Sequence[StoredNotification]) -> set[bytes]:
        """Insert those that are new, and return their identities."""
        former = [each.former_identity for each in notifications]
        rows = self._execute(_RECORD, (*_by_column(NOTIFICATION, notifications), former))
        return {bytes(identity) for (identity,) in rows}

    def submissions(self, recipients: Mapping[str, str | None]) -> dict[str, int | None]:
        """Return the ids of messages by their tracking ids, which are noted where they are new."""
        rows = self._execute(_NOTE, (list(recipients), list(recipients.values())))
        return dict(rows.fetchall())

    # Doubt.

    def candidates(self, ending: str) -> list[MessageRecord]:
        """Return the messages that may have a submission which is not known, locked."""
        return list(map(MESSAGE.value, self._execute(CANDIDATES, (ending,))))

    def unmatched(self, ending: str) -> list[UnmatchedSubmission]:
        """Return the submissions to numbers that end so which have no message."""
        return unmatched_in(map(NOTIFICATION.value, self._execute(UNMATCHED, (ending,))))

    def match(self, pairs: Mapping[str, int]) -> None:
        """Write that these tracking ids are those of these messages."""
        for tracking_id, message in sorted(pairs.items()):
            self._execute(
                "UPDATE skycore.submissions SET message = %s WHERE tracking_id = %s",
                (message, tracking_id),
            )

    def interrupt(self) -> Sequence[tuple[str, str]]:
        """Write `in_doubt` for what expired sessions were sending."""
        found: list[tuple[str, str]] = self._execute(EXPIRED).fetchall()
        return found

    def unsettled_endings(self) -> set[str]:
        """Return how the numbers end that have messages in doubt and unmatched submissions."""
        return {ending for (ending,) in self._execute(UNSETTLED)}

    # Opting out.

    def insert_opt_outs(self, opt_outs: Sequence[OptOut]) -> None:
        """Insert those of whose numbers nothing is known."""
        self._execute(_NEW_OPT_OUTS, _by_column(OPT_OUT, opt_outs))

    def opt_outs_to_change(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return what is known of these numbers, locked."""
        found = map(OPT_OUT.value, self._execute(_OPT_OUTS, (list(numbers),)))
        return {each.number: each for each in found}

    def update_opt_outs(self, opt_outs: Sequence[OptOut]) -> None:
        """Write these in place of what is known of their numbers."""
        self._execute(_OTHER_OPT_OUTS, _by_column(OPT_OUT, opt_outs))
