"""Copy an SQLite ledger into the database: whole or not at all, and repeatably.

Strategy: the rows of the file go into temporary tables, and from there a few statements insert
what is new, in one transaction.  The file is open as a ledger meanwhile, so that nobody sends from
it, and what was being sent is in doubt.

Rules:

* What the database knows already stays as it is there, since postbacks may have told it more.
* Nothing is copied if the file contradicts the database: other content under a key, another
  tracking id, or an outcome for a message that has none there.
* Digests of two versions differ for the same content, and a row does not tell what they were made
  of.  In that case number and sender are compared.
* A receipt that the database had before its message is matched with it now.
* The order in which the file's messages were begun is kept: they get ids in that order.
* Others send, receive and prune meanwhile, as no table is locked.  New messages are inserted
  before the two are compared, so that nobody begins one of their keys in between.  Rows are not
  locked in a common order: if two transactions deadlock, the copy starts over.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import attrs

from ...errors import LedgerError
from ...postgres.collisions import transact
from ...postgres.schema import Connection
from ...protocol.numbers import LONGEST
from ..attempts import TURNS
from ..columns import NOTIFICATION, OPT_OUT, Columns
from ..execution import CommandExecutor
from ..model import EarlierAttempt, MessageRecord
from ..opt_outs import CLEAR
from ..settlement import SETTLE_WITHIN, identities, rebuilt
from .store import PostgresStore

# Turns derive from ids, which differ in the database, so they are copied separately.
_COLUMNS: Final = Columns(MessageRecord, without=("id", "turn", "session", "attempt"))
_MESSAGE: Final = _COLUMNS.listed
_EVENT: Final = NOTIFICATION.listed
_ATTEMPT: Final = Columns(EarlierAttempt, without=("id", "message", "turn"))

# The indexes of columns that are numbers in SQLite, and booleans in PostgreSQL.
_FLAGS: Final = {
    table: [place for place, type_ in enumerate(of.types) if type_ == "bool"]
    for table, of in (("messages", _COLUMNS), ("opt_outs", OPT_OUT))
}
# The queries on the file, by the tables that the rows go into.
_READ: Final = {
    "messages": f"SELECT {_MESSAGE}, coalesce(turn, id * {TURNS}) FROM messages",
    "attempts": f"SELECT key, {_ATTEMPT.of('attempts')},"
    f" coalesce(attempts.turn, message * {TURNS}) FROM attempts"
    " JOIN messages ON messages.id = message ORDER BY attempts.id",
    "events": f"SELECT {_EVENT} FROM events ORDER BY id",
    # Earlier versions kept longer numbers, to which nothing can be sent.
    "opt_outs": f"SELECT {OPT_OUT.listed} FROM opt_outs WHERE length(number) <= {LONGEST}",
    # Submissions without a message that were pruned: only their names are kept.
    "forgotten": "SELECT tracking_id FROM submissions WHERE message = 0",
    "pruned": "SELECT until FROM pruned",
}
_TEMPORARY: Final = f"""
CREATE TEMP TABLE copied_messages ON COMMIT DROP AS
    SELECT {_MESSAGE}, turn FROM skycore.messages WITH NO DATA;
CREATE TEMP TABLE copied_attempts ON COMMIT DROP AS
    SELECT key, {_ATTEMPT.of("attempts")}, attempts.turn
    FROM skycore.attempts, skycore.messages WITH NO DATA;
CREATE TEMP TABLE copied_events ON COMMIT DROP AS
    SELECT {_EVENT}, identity AS former FROM skycore.events WITH NO DATA;
CREATE TEMP TABLE copied_forgotten (tracking_id text) ON COMMIT DROP;
CREATE TEMP TABLE copied_pruned (until float8) ON COMMIT DROP;
CREATE TEMP TABLE copied_new (id bigint, key text COLLATE "C") ON COMMIT DROP;
CREATE INDEX ON copied_new (key);
CREATE TEMP TABLE copied_opt_outs ON COMMIT DROP AS
    SELECT {OPT_OUT.listed} FROM skycore.opt_outs WITH NO DATA;
"""
_RANK: Final = (
    "CASE WHEN {0}.state = 'not_sent' THEN 0 WHEN {0}.state IN ('sending', 'in_doubt') THEN 1"
    " ELSE 2 END"
)
# A digest's version shows in its length.
_OTHER: Final = """CASE WHEN length(copy.content) = length(known.content)
    THEN copy.content <> known.content
    ELSE copy.recipient <> known.recipient OR copy.sender IS DISTINCT FROM known.sender END"""
# All conflicts are found before the first is taken: with a plain LIMIT the database would go
# through the whole file for each message.
_CONFLICTS: Final = f"""
WITH found AS MATERIALIZED (SELECT key, CASE WHEN {_OTHER} THEN 'has other content'
    WHEN copy.plain_id <> known.plain_id THEN 'has another tracking id'
    ELSE 'is ' || copy.state || ' in the file, and ' || known.state || ' there' END AS why
FROM copied_messages AS copy JOIN skycore.messages AS known USING (key)
WHERE {_OTHER} OR copy.plain_id <> known.plain_id
    OR {_RANK.format("copy")} > {_RANK.format("known")})
SELECT key, why FROM found ORDER BY key LIMIT 1
"""
_MESSAGES: Final = f"""
WITH new AS (
    INSERT INTO skycore.messages ({_MESSAGE}, session, attempt)
    SELECT {_MESSAGE}, 0, 0 FROM copied_messages WHERE true ORDER BY turn
    ON CONFLICT (key) DO NOTHING RETURNING id, key)
INSERT INTO copied_new SELECT id, key FROM new
"""
# A message that was pruned in one of the two has another key there.  It stays as it is in the
# database, only its state is compared, and its notifications are not copied.
_AS_KNOWN: Final = ", ".join(
    f"{name} = known.{name}" for name in ("key", "content", "recipient", "sender", "plain_id")
)
_PRUNED: Final = f"""
INSERT INTO skycore.pruned SELECT 0
WHERE NOT EXISTS (SELECT FROM skycore.pruned) AND EXISTS (SELECT FROM copied_pruned);
UPDATE skycore.pruned SET until = greatest(until, (SELECT max(until) FROM copied_pruned));
UPDATE copied_messages AS copy SET {_AS_KNOWN} FROM skycore.messages AS known
WHERE known.key = skycore.pruned_name(copy.key) AND EXISTS (SELECT FROM skycore.pruned);
UPDATE copied_messages AS copy SET {_AS_KNOWN} FROM skycore.messages AS known
WHERE copy.key = skycore.pruned_name(known.key) AND EXISTS (SELECT FROM copied_pruned);
INSERT INTO skycore.submissions (tracking_id, message) SELECT tracking_id, 0 FROM copied_forgotten
ON CONFLICT (tracking_id) DO NOTHING;
DELETE FROM copied_events AS copy USING skycore.submissions AS known
WHERE known.tracking_id = skycore.pruned_name(copy.tracking_id)
    AND EXISTS (SELECT FROM skycore.pruned);
"""
# If others are just pruning a message, it has its other key once the row can be inserted: it is
# known, too.
_PRUNED_MEANWHILE: Final = """
WITH known AS (
    DELETE FROM skycore.messages USING copied_new
    WHERE messages.id = copied_new.id AND EXISTS (SELECT FROM skycore.pruned)
        AND EXISTS (SELECT FROM skycore.messages AS other
            WHERE other.key = skycore.pruned_name(copied_new.key))
    RETURNING messages.key)
DELETE FROM copied_new USING known WHERE copied_new.key = known.key
"""
# Attempts of messages that the database knew are known there.  The turn of each is after that of
# the last new message before it, or before all new ones.
_ATTEMPTS: Final = f"""
CREATE INDEX ON copied_messages (turn);
INSERT INTO skycore.attempts (message, turn, {_ATTEMPT.listed})
SELECT new.id, 1 + {TURNS} * coalesce((
    SELECT known.id FROM copied_messages AS before JOIN copied_new AS known USING (key)
    WHERE before.turn < copy.turn ORDER BY before.turn DESC LIMIT 1
), (SELECT min(id) - 1 FROM copied_new)), {_ATTEMPT.of("copy")}
FROM copied_attempts AS copy JOIN copied_new AS new USING (key)
"""
_EVENTS: Final = f"""
INSERT INTO skycore.events ({_EVENT}) SELECT {_EVENT} FROM copied_events
WHERE NOT EXISTS (SELECT 1 FROM skycore.events AS known WHERE known.identity = former)
ON CONFLICT (identity) DO NOTHING
"""
_SUBMISSIONS: Final = """
INSERT INTO skycore.submissions AS known (tracking_id, message, recipient)
SELECT DISTINCT ON (tracking_id) tracking_id, id, recipient FROM (
    SELECT plain_id AS tracking_id, id, nullif(recipient, '') AS recipient FROM skycore.messages
    WHERE plain_id IS NOT NULL AND key IN (SELECT key FROM copied_messages)
    UNION ALL SELECT tracking_id, NULL, recipient FROM copied_events
    WHERE tracking_id IS NOT NULL
) AS given ORDER BY tracking_id, id DESC NULLS LAST
ON CONFLICT (tracking_id) DO UPDATE SET message = coalesce(known.message, excluded.message),
    recipient = coalesce(known.recipient, excluded.recipient)
RETURNING message
"""
# Only their times tell which of two entries is the later one; if these are close, the number has
# opted out.
_OPT_OUTS: Final = f"""
INSERT INTO skycore.opt_outs ({OPT_OUT.listed}) SELECT {OPT_OUT.listed} FROM copied_opt_outs
WHERE true
ON CONFLICT (number) DO UPDATE
SET out = excluded.out, at = excluded.at, stamped = excluded.stamped
WHERE CASE
    WHEN (excluded.stamped AND opt_outs.stamped) OR excluded.out = opt_outs.out
        OR abs(excluded.at - opt_outs.at) > {CLEAR}
    THEN excluded.at > opt_outs.at
    ELSE excluded.out END
"""


@attrs.frozen(kw_only=True)
class Copied:
    """How many messages the file has, how many were new to the database, and new `events`."""

    messages: int
    new: int
    events: int


def copy(connection: Connection, path: Path) -> Copied:
    """Copy the ledger at `path`, which has to be open, into the database.

    Raises LedgerError, having copied nothing, if the two contradict each other.
    """
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as file:
        return transact(connection, lambda: _copied(connection, file, path))


def _copied(connection: Connection, file: sqlite3.Connection, path: Path) -> Copied:
    execute: Any = connection.execute  # statements are made of the names of our own columns
    execute(_TEMPORARY)
    for table, query in _READ.items():
        _fill(connection, table, file.execute(query))
    (count,) = execute("SELECT count(*) FROM copied_messages").fetchone() or (0,)
    execute(_PRUNED)
    new = execute(_MESSAGES).rowcount
    if pruned := execute(_PRUNED_MEANWHILE).rowcount:
        new -= pruned
        execute(_PRUNED)
    _check(connection, path)
    execute(_ATTEMPTS)
    events = execute(_EVENTS).rowcount
    placed = [id_ for (id_,) in execute(_SUBMISSIONS) if id_ is not None]
    execute(_OPT_OUTS)
    _place(connection, placed)
    return Copied(messages=count, new=new, events=events)


def _fill(connection: Connection, table: str, rows: Iterator[Any]) -> None:
    flags = _FLAGS.get(table, ())
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY copied_{table} FROM STDIN") as into,  # type: ignore[arg-type,unused-ignore] # pyright: ignore[reportArgumentType, reportCallIssue]
    ):
        for row in rows:
            values = _identified(row) if table == "events" else list(row)
            for flag in flags:
                values[flag] = bool(values[flag])
            into.write_row(values)


def _identified(row: Sequence[Any]) -> list[Any]:
    """Return a notification's columns with its identity in this version, and its former one."""
    kept = NOTIFICATION.value(row)
    identity, former = identities(rebuilt(kept))
    if kept.identity == former:  # a former version wrote it
        kept = attrs.evolve(kept, identity=identity)
    return [*NOTIFICATION.row(kept), former if kept.identity == identity else None]


def _check(connection: Connection, path: Path) -> None:
    row = connection.execute(_CONFLICTS).fetchone()  # pyright: ignore[reportArgumentType, reportCallIssue]
    if row is None:
        return
    key, said = row
    raise LedgerError(
        f"{path} was not copied: the key {key[:80]!r} {said}, so that one of the two is no ledger"
        " of what was sent"
    )


def _place(connection: Connection, messages: list[int]) -> None:
    executor = CommandExecutor(
        PostgresStore(connection), clock=time.time, settle_within=SETTLE_WITHIN
    )
    with_events = connection.execute(
        "SELECT DISTINCT message FROM skycore.submissions JOIN skycore.events USING (tracking_id)"
        " WHERE message = ANY(%s)",
        (messages,),
    )
    ids = [id_ for (id_,) in with_events]
    for first in range(0, len(ids), 1000):
        executor.update_states(ids[first : first + 1000])
