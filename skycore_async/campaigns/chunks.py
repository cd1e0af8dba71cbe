"""Chunks: who may send which messages, for how long, and what is left of them.

Strategy: a chunk is a row with an epoch and a lease.  Taking it counts the epoch
up, under the row's lock, so that whoever had it before is refused by the fence at
its next intent.  All times are the database's.

Rules:

* What was being sent when a chunk changes hands is in doubt, from the same moment.
* A chunk is done when every message in it has an outcome in the ledger and is not to be
  sent again, or was refused before it was begun.  What the database says counts, not what
  a worker saw.
* A chunk that is left goes back at once.  One whose messages do not get through
  is due again after a pause.
* When a chunk may be taken is one expression: its campaign has started, it is due, and
  nobody's lease is in the way.  The queue hands it out then, and who takes it asks again
  under the lock.
* Every step can be repeated, and one that is late changes nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

import attrs
import psycopg

from ..messages import SMS
from ..postgres.schema import Connection

_TO_SEND: Final = "chunks.state <> 'done' AND campaigns.state = 'running'"
_FREE_AT: Final = "greatest(due, held_until, starts_at)"  # which passes over what is NULL
_DUE: Final = f"""
SELECT chunks.id, {_FREE_AT}
FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
WHERE {_TO_SEND} AND {_FREE_AT} <= clock_timestamp() + %s * interval '1 second'
ORDER BY number, chunks.id LIMIT %s
"""  # noqa: S608 - conditions of our own
_LEFT: Final = f"""
SELECT 1 FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
WHERE {_TO_SEND} LIMIT 1
"""  # noqa: S608 - a condition of our own
_LOCK: Final = f"""
SELECT campaigns.name, number, keys, messages
FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
WHERE chunks.id = %s AND {_TO_SEND} AND {_FREE_AT} <= clock_timestamp() FOR UPDATE OF chunks
"""  # noqa: S608 - conditions of our own
_TAKE: Final = """
UPDATE skycore.chunks SET epoch = epoch + 1, state = 'held', worker = %s,
    held_until = clock_timestamp() + %s * interval '1 second'
WHERE id = %s RETURNING epoch
"""
_DOUBT: Final = """
UPDATE skycore.messages
SET state = 'in_doubt', interrupted_at = extract(epoch FROM clock_timestamp())
WHERE id IN (
    SELECT id FROM skycore.messages WHERE key = ANY(%s) AND state = 'sending'
    ORDER BY key FOR UPDATE)
"""
_RENEW: Final = """
UPDATE skycore.chunks SET held_until = clock_timestamp() + %s * interval '1 second'
WHERE id = %s AND epoch = %s AND state = 'held' RETURNING true
"""
_OPEN: Final = """
SELECT count(*) FROM unnest(%s::text[]) AS given (key) LEFT JOIN skycore.messages USING (key)
WHERE given.key <> ALL(%s) AND (coalesce(state, 'not_sent') IN ('not_sent', 'sending')
    OR (state = 'in_doubt' AND settled_by IS NOT NULL))
"""
_CLOSE: Final = """
UPDATE skycore.chunks SET state = %s, worker = NULL, held_until = NULL, tally = %s,
    due = clock_timestamp() + %s * interval '1 second'
WHERE id = %s AND epoch = %s
"""


@attrs.frozen(kw_only=True)
class Chunk:
    """Messages to send: the worker's that took them, until the epoch is counted up."""

    id: int
    epoch: int
    campaign: str
    number: int
    keys: tuple[str, ...] = attrs.field(repr=False)
    rows: tuple[str, ...] = attrs.field(repr=False)

    def messages(self) -> Iterator[SMS]:
        """Return the messages."""
        for key, row in zip(self.keys, self.rows, strict=True):
            yield SMS(key=key, **json.loads(row))


def due(connection: Connection, most: int, *, within: float = 0) -> dict[int, datetime]:
    """Return chunks to send, and when each may be taken: now, or `within` seconds.

    Those of all campaigns take turns.  A chunk whose worker has stopped renewing its
    lease is among them before the lease ends.
    """
    return dict(connection.execute(_DUE, (within, most)).fetchall())


def are_left(connection: Connection) -> bool:
    """Return whether a running campaign has a chunk that is not done."""
    return bool(connection.execute(_LEFT).fetchone())


def take(connection: Connection, chunk: int, *, worker: str, lease: float) -> Chunk | None:
    """Take a chunk for `lease` seconds; None where it is not to be had, or not now."""
    try:
        with connection.transaction():
            row = connection.execute(_LOCK, (chunk,)).fetchone()
            if row is None:
                return None
            campaign, number, keys, rows = row
            (epoch,) = connection.execute(_TAKE, (worker, lease, chunk)).fetchone() or (0,)
            connection.execute(_DOUBT, (keys,))
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return None
    return Chunk(
        id=chunk,
        epoch=epoch,
        campaign=campaign,
        number=number,
        keys=tuple(keys),
        rows=tuple(rows),
    )


def renew(connection: Connection, chunk: Chunk, *, lease: float) -> bool:
    """Keep a chunk for `lease` seconds more; False where it is somebody else's."""
    row = connection.execute(_RENEW, (lease, chunk.id, chunk.epoch)).fetchone()
    return row is not None


def finish(
    connection: Connection, chunk: Chunk, *, left_out: Mapping[str, str], pause: float
) -> int:
    """Mark a chunk as done if it is; else it is due again after `pause` seconds.

    `left_out` says by key why a message was refused before it was begun.  Gives how
    many messages are still to be sent.  A chunk that is somebody else's is left alone.
    """
    with connection.transaction():
        row = connection.execute(
            "SELECT state FROM skycore.chunks WHERE id = %s AND epoch = %s FOR UPDATE",
            (chunk.id, chunk.epoch),
        ).fetchone()
        if row is None or row == ("done",):
            return 0
        (left,) = connection.execute(_OPEN, (list(chunk.keys), list(left_out))).fetchone() or (0,)
        tally = json.dumps(Counter(left_out.values())) if left_out else None
        state = "waiting" if left else "done"
        connection.execute(_CLOSE, (state, tally, pause, chunk.id, chunk.epoch))
    return int(left)
