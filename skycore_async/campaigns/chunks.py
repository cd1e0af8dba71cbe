"""Chunks: who may send which messages, for how long, and which remain to be sent.

Strategy: a chunk is a row with an epoch and a lease.  Taking it increments the epoch, under the
row's lock, so that the fence refuses the previous worker's next intent.  All times are the
database's.

Rules:

* Messages that are being sent when a chunk changes hands are in doubt from that moment.
* A chunk is done when every message in it has an outcome in the ledger and is not to be sent
  again, or was refused before it was begun.  The database decides that, not what a worker saw.
* A chunk that a worker gives back is due again at once; one whose messages do not get through,
  after a pause; and one whose messages are outside of their hours, when the first may be sent.
* One expression says when a chunk may be taken: its campaign has started, it is due, and no
  lease is running.  The queue hands it out by that, and taking it checks again under the lock.
* Every step can be repeated, and a step that comes too late changes nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import attrs
import psycopg

from ..ledger.postgres.campaign_messages import count_to_send, interrupt
from ..ledger.postgres.pruning import NO_ROW
from ..messages import SMS
from ..postgres.schema import Connection
from ..sending.hours import ANY_TIME, SendingHours
from .hours import hours_of

TO_SEND: Final = "chunks.state <> 'done' AND campaigns.state = 'running'"
FREE_AT: Final = "greatest(due, held_until, starts_at)"  # which passes over what is NULL
# All chunks of a campaign, in the order in which everybody locks them.
LOCK_CHUNKS: Final = "SELECT FROM skycore.chunks WHERE campaign = %s ORDER BY id FOR UPDATE"
_DUE: Final = f"""
SELECT chunks.id, {FREE_AT}, number
FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
WHERE {TO_SEND} AND {FREE_AT} <= clock_timestamp() + %s * interval '1 second'
ORDER BY number, chunks.id LIMIT %s
"""  # noqa: S608 - conditions of our own
_LEFT: Final = f"""
SELECT 1 FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
WHERE {TO_SEND} LIMIT 1
"""  # noqa: S608 - a condition of our own
_LOCK: Final = f"""
SELECT campaigns.id, campaigns.name, number, keys, messages, resends
FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
WHERE chunks.id = %s AND {TO_SEND} AND {FREE_AT} <= clock_timestamp() FOR UPDATE OF chunks
"""  # noqa: S608 - conditions of our own
_TAKE: Final = """
UPDATE skycore.chunks SET epoch = epoch + 1, state = 'held', worker = %s, put_off = 0,
    held_until = clock_timestamp() + %s * interval '1 second'
WHERE id = %s RETURNING epoch
"""
_RENEW: Final = """
UPDATE skycore.chunks SET held_until = clock_timestamp() + %s * interval '1 second'
WHERE id = %s AND epoch = %s AND state = 'held' RETURNING true
"""
_CLOSE: Final = """
UPDATE skycore.chunks SET state = %s, worker = NULL, held_until = NULL, left_out = %s,
    put_off = %s, resends = %s, due = clock_timestamp() + %s * interval '1 second'
WHERE id = %s AND epoch = %s
"""


@attrs.frozen(kw_only=True)
class Chunk:
    """A chunk taken by a worker; valid until its epoch changes.

    `doubts_to_resend` has the keys of doubts to send once more, and when each attempt started.
    """

    id: int
    epoch: int
    campaign: str
    number: int
    hours: SendingHours = ANY_TIME
    keys: tuple[str, ...] = attrs.field(repr=False)
    rows: tuple[str, ...] = attrs.field(repr=False)
    doubts_to_resend: Mapping[str, float] = attrs.field(repr=False)

    def messages(self) -> Iterator[SMS]:
        """Return the messages, except those that were pruned."""
        for key, row in self._kept():
            yield SMS(key=key, **json.loads(row))

    def keys_to_send(self) -> list[str]:
        """Return the keys of its messages, except those that were pruned."""
        return [key for key, _ in self._kept()]

    def _kept(self) -> Iterator[tuple[str, str]]:
        rows = zip(self.keys, self.rows, strict=True)
        return ((key, row) for key, row in rows if row != NO_ROW)


@attrs.frozen(kw_only=True)
class DueChunk:
    """When a chunk may be taken, and its number, by which chunks of all campaigns take turns."""

    free_at: datetime
    number: int


def due(connection: Connection, most: int, *, within: float = 0) -> dict[int, DueChunk]:
    """Return chunks to send that may be taken now, or `within` seconds, by their ids.

    Chunks of all campaigns take turns.  A chunk whose worker has stopped renewing its lease is
    among them before the lease ends.
    """
    rows = connection.execute(_DUE, (within, most))
    return {id_: DueChunk(free_at=free_at, number=number) for id_, free_at, number in rows}


def are_left(connection: Connection) -> bool:
    """Return whether a running campaign has a chunk that is not done."""
    return bool(connection.execute(_LEFT).fetchone())


def take(connection: Connection, chunk: int, *, worker: str, lease: float) -> Chunk | None:
    """Take a chunk for `lease` seconds; return None if it cannot be taken, or not now.

    Raises ConfigurationError if its campaign has hours that this machine cannot compute.
    """
    try:
        with connection.transaction():
            row = connection.execute(_LOCK, (chunk,)).fetchone()
            if row is None:
                return None
            campaign_id, campaign, number, keys, rows, resends = row
            # A separate statement, as the lock may have waited for somebody who sets the hours.
            hours = hours_of(connection, campaign_id)
            (epoch,) = connection.execute(_TAKE, (worker, lease, chunk)).fetchone() or (0,)
            interrupt(connection, keys)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return None
    return Chunk(
        id=chunk,
        epoch=epoch,
        campaign=campaign,
        number=number,
        hours=hours,
        keys=tuple(keys),
        rows=tuple(rows),
        doubts_to_resend=doubts_in(keys, resends),
    )


def doubts_in(keys: Sequence[str], resends: Sequence[float | None] | None) -> dict[str, float]:
    """Return the doubts to send once more, as `Chunk` has them, from a chunk's columns.

    `resends` has a time or None in the place of each key, and is None if no doubt is resent.
    """
    given = zip(keys, resends or (), strict=False)
    return {key: started_at for key, started_at in given if started_at is not None}


def in_places(keys: Sequence[str], doubts: Mapping[str, float]) -> list[float | None] | None:
    """Return doubts to send once more as the column `resends` has them; see `doubts_in`."""
    return [doubts.get(key) for key in keys] if doubts else None


def renew(connection: Connection, chunk: Chunk, *, lease: float) -> bool:
    """Keep a chunk for `lease` seconds more; return False if another worker has it."""
    row = connection.execute(_RENEW, (lease, chunk.id, chunk.epoch)).fetchone()
    return row is not None


def finish(
    connection: Connection,
    chunk: Chunk,
    *,
    left_out: Mapping[str, str],
    pause: float,
    put_off: Sequence[str] = (),
) -> int:
    """Mark a chunk as done if it is; otherwise make it due again after `pause` seconds.

    `left_out` says by key why a message was refused before it was begun; `put_off` has the keys
    of the messages that are outside of their hours.
    Returns how many messages are still to be sent.  A chunk that another worker has is left alone.
    """
    with connection.transaction():
        row = connection.execute(
            "SELECT state, resends FROM skycore.chunks WHERE id = %s AND epoch = %s FOR UPDATE",
            (chunk.id, chunk.epoch),
        ).fetchone()
        if row is None or row[0] == "done":
            return 0
        doubts = doubts_in(chunk.keys, row[1])  # some may have been added meanwhile
        count = partial(count_to_send, connection, left_out=left_out, doubts_to_resend=doubts)
        left = count(chunk.keys_to_send())
        waiting = count(put_off) if put_off else 0
        kept = {key: at for key, at in doubts.items() if left and key not in left_out}
        if kept.items() - chunk.doubts_to_resend.items():
            pause = 0  # they were not looked at, and wait for nobody's hours
        # A doubt was begun, and is counted from the ledger.
        why = [why for key, why in left_out.items() if key not in chunk.doubts_to_resend]
        counts = json.dumps(Counter(why)) if why else None
        values = (
            "waiting" if left else "done",
            counts,
            waiting,
            in_places(chunk.keys, kept),
            pause,
        )
        connection.execute(_CLOSE, (*values, chunk.id, chunk.epoch))
    return left
