"""The statements for PostgreSQL, each for any number of rows, given as arrays.

Rule: if something must not happen twice, the statement that changes the row decides it; of two
such statements at the same time, one sees what the other did.
"""

from __future__ import annotations

from typing import Any, Final

from ..attempts import TURNS
from ..columns import INTENT, NEW_ATTEMPT, NOTIFICATION, OPT_OUT, OUTCOME, TOLD, Columns
from .reader import MESSAGE, OF_MESSAGES

# The types of columns other than text, by the annotations of their fields.
_TYPES: Final = {"bytes": "bytea", "float": "float8", "int": "bigint", "bool": "boolean"}


def _arrays(columns: Columns[Any]) -> str:
    """Return the placeholders of the arrays, one for each column."""
    return ", ".join(f"%b::{_TYPES.get(type_, 'text')}[]" for type_ in columns.types)


# The rule of `rules.begin` and `opt_outs.entry_for` for a number that has opted out, by itself or
# in its national form.  The statement that writes the row checks it, so that nobody can opt out in
# between.
INSERT: Final = f"""
INSERT INTO skycore.messages ({INTENT.listed}, state, session, attempt)
SELECT {INTENT.listed}, 'sending', session, attempt
FROM unnest({_arrays(INTENT)}, %b::bigint[], %b::bigint[], %b::boolean[], %b::text[], %b::text[])
    AS given ({INTENT.listed}, session, attempt, is_willing, dialled, called)
WHERE is_willing
    OR NOT EXISTS (SELECT 1 FROM skycore.opt_outs AS said
        WHERE number IN (recipient, dialled, called) AND out
        AND (number = recipient OR NOT EXISTS (SELECT 1 FROM skycore.opt_outs AS own
            WHERE own.number = recipient AND NOT own.out AND own.at > said.at)))
ORDER BY key
ON CONFLICT (key) DO NOTHING
RETURNING key, EXISTS (SELECT FROM skycore.pruned)
"""
# A statement of its own, so that it sees what was pruned while the insertion waited.
REMOVE_PRUNED: Final = """
DELETE FROM skycore.messages AS new WHERE key = ANY(%s) AND EXISTS (
    SELECT FROM skycore.messages WHERE key = skycore.pruned_name(new.key))
RETURNING key
"""
REMOVE_LATE: Final = """
DELETE FROM skycore.submissions AS new WHERE tracking_id = ANY(%s) AND EXISTS (
    SELECT FROM skycore.submissions WHERE tracking_id = skycore.pruned_name(new.tracking_id))
RETURNING tracking_id
"""
INSERT_ATTEMPTS: Final = f"""
INSERT INTO skycore.attempts ({NEW_ATTEMPT.listed})
SELECT {NEW_ATTEMPT.listed}
FROM unnest({_arrays(NEW_ATTEMPT)}) AS given ({NEW_ATTEMPT.listed})
"""
# Turns come from the sequence of the messages' ids, so that no two are the same.
NEXT_TURNS: Final = f"""
SELECT nextval(pg_get_serial_sequence('skycore.messages', 'id')) * {TURNS}
FROM generate_series(1, %s)
"""
# A key has another form while its message is pruned.
UPDATE: Final = f"""
UPDATE skycore.messages
SET {", ".join(f"{name} = given.{name}" for name in MESSAGE.names[1:])}
FROM unnest({_arrays(MESSAGE)}) AS given ({MESSAGE.listed})
WHERE messages.id = given.id
"""
# The columns that are returned of `ended`.  Tracking ids with notifications are looked up in an
# array, and not by a join: the database expects few rows in a CTE, and would compare each row with
# each other one.
_RETURNED: Final = """
SELECT id, key, recipient,
    coalesce(plain_id = ANY (ARRAY(SELECT tracking_id FROM submitted WHERE has_come)), false),
    state = 'in_doubt' OR EXISTS (SELECT 1 FROM skycore.submissions AS other
        WHERE other.message IS NULL AND right(other.recipient, 5) = right(ended.recipient, 5))
FROM ended
"""
# A postback and an answer both write a row for a tracking id; the second finds the first one's.
_SUBMIT: Final = """
INSERT INTO skycore.submissions AS submission (tracking_id, message, recipient)
SELECT plain_id, id, recipient FROM ended WHERE plain_id IS NOT NULL
ORDER BY plain_id
ON CONFLICT (tracking_id) DO UPDATE SET message = excluded.message
RETURNING tracking_id, xmax <> 0 AS has_come
"""
# The rule of `rules.finish` for a message without an outcome that was never in doubt, or only
# since its session expired.  A compare-and-set: an outcome is written only for its own attempt.
# The comparison is in a CASE, so that rows are found by their keys: otherwise the database would
# search by state first, and compare each row under way or in doubt with each given one.
FINISH: Final = f"""
WITH given AS (
    SELECT * FROM unnest(%b::text[], %b::bigint[], %b::bigint[], {_arrays(OUTCOME)})
    AS given (key, session, attempt, {OUTCOME.listed})
), ended AS (
    UPDATE skycore.messages AS message
    SET {", ".join(f"{name} = given.{name}" for name in OUTCOME.names)},
        ended_at = %s, settled_by = NULL
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
DECIDED: Final = f"""
WITH ended AS (
    SELECT * FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[])
    AS given (id, key, recipient, state, plain_id)
), submitted AS ({_SUBMIT})
{_RETURNED}
"""
RECORD: Final = f"""
INSERT INTO skycore.events ({NOTIFICATION.listed})
SELECT {NOTIFICATION.listed}
FROM unnest({_arrays(NOTIFICATION)}, %b::bytea[]) WITH ORDINALITY
    AS given ({NOTIFICATION.listed}, former, place)
WHERE NOT EXISTS (SELECT 1 FROM skycore.events AS known WHERE known.identity = former)
ORDER BY place
ON CONFLICT (identity) DO NOTHING
RETURNING identity
"""
NOTE: Final = """
INSERT INTO skycore.submissions AS known (tracking_id, recipient)
SELECT tracking_id, recipient
FROM unnest(%b::text[], %b::text[]) AS given (tracking_id, recipient)
ORDER BY tracking_id
ON CONFLICT (tracking_id)
    DO UPDATE SET recipient = coalesce(known.recipient, excluded.recipient)
RETURNING tracking_id, message, EXISTS (SELECT FROM skycore.pruned)
"""
TOLD_OF: Final = f"""
SELECT messages.id, {TOLD} {OF_MESSAGES}
"""
PROGRESS: Final = """
UPDATE skycore.messages AS message SET state = given.state, reason = given.reason,
    history_id = coalesce(given.history_id, message.history_id)
FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::text[])
    AS given (id, state, reason, history_id)
WHERE message.id = given.id
RETURNING key, plain_id
"""
# The candidates of `settlement.match_doubts`: messages that are under way, in doubt, or were sent
# again after doubt.  Numbers are looked up by their last digits, see `numbers.ending`.  Messages
# under way have no index of their own: they are found by their sessions, each of which has few.
CANDIDATES: Final = f"""
WITH named AS MATERIALIZED (SELECT %s::text AS ending), possible AS MATERIALIZED (
    SELECT id FROM skycore.messages, named WHERE uncertain AND right(recipient, 5) = ending
    UNION ALL
    SELECT messages.id FROM named, skycore.sessions JOIN skycore.messages
        ON session = sessions.id AND attempt >= oldest_attempt
    WHERE state = 'sending' AND NOT doubted AND right(recipient, 5) = ending
)
SELECT {MESSAGE.listed} FROM skycore.messages
WHERE id IN (SELECT id FROM possible) AND (state IN ('sending', 'in_doubt') OR doubted)
ORDER BY id
"""
LOCK_CANDIDATES: Final = f"{CANDIDATES}FOR UPDATE OF messages"
# An advisory lock on all endings with the same first digits, held until the transaction ends.
LOCK_ENDINGS: Final = "SELECT pg_advisory_xact_lock(%s, %s)"
# A cheap test of whether `settlement.match_doubts` could match anything: there is a doubt, or a
# message that a report found, and a submission without a message.  Two doubts to the same number
# from the same sender do not count: nothing tells which of them a submission is of.
MAY_SETTLE: Final = """
SELECT FROM skycore.messages AS one
WHERE uncertain AND right(recipient, 5) = %s
    AND (state = 'in_doubt' AND NOT EXISTS (
        SELECT FROM skycore.messages AS other
        WHERE uncertain AND right(recipient, 5) = %s AND other.id <> one.id
            AND other.recipient = one.recipient
            AND other.sender IS NOT DISTINCT FROM one.sender)
        OR history_id IS NOT NULL AND plain_id IS NULL)
    AND EXISTS (SELECT FROM skycore.submissions AS unmatched
        WHERE message IS NULL AND right(unmatched.recipient, 5) = %s)
LIMIT 1
"""
UNMATCHED: Final = f"""
SELECT {NOTIFICATION.of("events")}
FROM skycore.submissions JOIN skycore.events USING (tracking_id)
WHERE message IS NULL AND right(submissions.recipient, 5) = %s
"""
# Sessions whose lease has expired.  A row that is locked is skipped: its session is alive after
# all, or another process is looking at it.
LOCK_EXPIRED: Final = """
SELECT id FROM skycore.sessions
WHERE alive_until <= clock_timestamp() AND oldest_attempt IS NOT NULL
ORDER BY id FOR UPDATE SKIP LOCKED
"""
# A message that no living process is sending is in doubt.  Three statements have this rule: this
# one, that of SQLite's store, and that of `campaign_messages` for a chunk that has changed hands.
INTERRUPT: Final = """
UPDATE skycore.messages SET state = 'in_doubt', interrupted_at = %s
FROM skycore.sessions
WHERE sessions.id = ANY(%s) AND session = sessions.id AND attempt >= oldest_attempt
    AND state = 'sending'
RETURNING key
"""
INTERRUPTED: Final = "UPDATE skycore.sessions SET oldest_attempt = NULL WHERE id = ANY(%s)"
UNSETTLED: Final = """
SELECT DISTINCT right(messages.recipient, 5)
FROM skycore.messages JOIN skycore.submissions AS other
    ON right(other.recipient, 5) = right(messages.recipient, 5)
WHERE uncertain AND state = 'in_doubt' AND other.message IS NULL
"""
# Of two writers, the second waits for the first, and then finds the first one's row.
NEW_OPT_OUTS: Final = f"""
INSERT INTO skycore.opt_outs ({OPT_OUT.listed})
SELECT {OPT_OUT.listed} FROM unnest({_arrays(OPT_OUT)}) AS given ({OPT_OUT.listed})
ORDER BY number
ON CONFLICT (number) DO NOTHING
"""
OPT_OUTS: Final = f"""
SELECT {OPT_OUT.listed} FROM skycore.opt_outs WHERE number = ANY(%s) ORDER BY number FOR UPDATE
"""
OTHER_OPT_OUTS: Final = f"""
UPDATE skycore.opt_outs SET out = given.out, at = given.at, stamped = given.stamped
FROM unnest({_arrays(OPT_OUT)}) AS given ({OPT_OUT.listed})
WHERE opt_outs.number = given.number
"""
# Two statements, so that the second sees a chunk as the worker that finished it left it, and the
# worker that finishes it next sees the messages that are not sent.
REOPEN: Final = """
UPDATE skycore.chunks SET state = 'waiting', due = clock_timestamp()
WHERE id = ANY(%s) AND state = 'done'
"""
# Messages of no campaign are in no chunk, and wait for their callers.  No index finds chunks by
# keys, so they are looked up only where that is rare: after a report, and after `DOUBTED`.
KEEP_WITH: Final = """
SELECT id FROM skycore.chunks WHERE keys && %s::text[] COLLATE "C" ORDER BY id FOR KEY SHARE
"""
# The messages that were in doubt before they had an outcome: their chunks may be done already.
DOUBTED: Final = """
SELECT key FROM skycore.messages WHERE key = ANY(%s) AND interrupted_at IS NOT NULL
"""

# The sessions of ledgers that are open.

_AS_PUT: Final = (
    "RETURNING current_setting('synchronous_commit'), extract(epoch FROM alive_until)::float8,"
    " (SELECT max(version) FROM skycore.version)"
)
PUT_SESSION: Final = f"""
INSERT INTO skycore.sessions (id, alive_until, oldest_attempt)
VALUES (%(id)s, clock_timestamp() + %(lease)s * interval '1 second', %(oldest)s)
ON CONFLICT (id) DO UPDATE
SET alive_until = excluded.alive_until, oldest_attempt = excluded.oldest_attempt
{_AS_PUT}
"""
# Finds no row if the row is older than what was written to it, or gone.
_IS_AS_KEPT: Final = "id = %(id)s AND extract(epoch FROM alive_until)::float8 >= %(kept)s::float8"
SESSION: Final = f"""
UPDATE skycore.sessions
SET alive_until = clock_timestamp() + %(lease)s * interval '1 second', oldest_attempt = %(oldest)s
WHERE {_IS_AS_KEPT} {_AS_PUT}
"""
SESSION_IS_KEPT: Final = f"SELECT FROM skycore.sessions WHERE {_IS_AS_KEPT}"
OVER: Final = "UPDATE skycore.sessions SET alive_until = '-infinity' WHERE id = %s"
END_SESSION: Final = "DELETE FROM skycore.sessions WHERE id = %s"
# If the database has forgotten what was sent, every campaign that could send it again is halted.
# Campaigns that were created after the last known state are not: they know the tables as they are.
HALT_ALL: Final = """
UPDATE skycore.campaigns SET state = 'halted', reason = %(reason)s, in_doubt_in_a_row = 0
WHERE state <> 'cancelled' AND extract(epoch FROM created)::float8 <= %(kept)s::float8 AND EXISTS (
    SELECT FROM skycore.chunks WHERE campaign = campaigns.id AND chunks.state <> 'done')
"""
