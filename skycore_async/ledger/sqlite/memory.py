"""A ledger that forgets with its process, and holds so much at most.

It is `SQLiteStore` over a database in memory: the same steps, less durability.
"""

from __future__ import annotations

import sqlite3
import time
import weakref
from collections.abc import Callable, Collection
from typing import Any, Final

import anyio.lowlevel

from ...errors import ConfigurationError, LedgerError
from ...notifications import Notification
from ..commands import BaseLedger, LedgerCommand
from ..model import SendIntent, Submission
from ..settlement import SETTLE_WITHIN
from .reading import UNDECIDED, Connection
from .store import SCHEMA, SQLiteStore

_EVENTS: Final = 4  # notifications for a message, on average
_PART: Final = 100  # of what it holds, a hundredth is forgotten at a time: one by one costs more


class MemoryLedger(BaseLedger):
    """Remember the last messages sent and notifications taken in, in this process alone.

    `capacity` is how many messages it holds at most, with four notifications for
    each on average; the oldest are forgotten first, but none that is under way or
    in doubt.  A postback settles a doubt within `settle_within` seconds of
    its intent.  `clock` gives seconds since 1970.

    Raises LedgerError where it is full of messages in doubt.
    """

    def __init__(
        self,
        *,
        capacity: int = 100_000,
        settle_within: float = SETTLE_WITHIN,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        if capacity < 1:
            raise ConfigurationError(f"capacity: {capacity!r} is less than 1")
        self._connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False
        )
        weakref.finalize(self, self._connection.close)
        self._connection.executescript(SCHEMA)
        self._store = _Bounded(
            self._connection, capacity=capacity, clock=clock, settle_within=settle_within
        )
        self._closed = False

    async def take(self, step: LedgerCommand) -> Any:
        """Take a step, and return when it is in memory."""
        await anyio.lowlevel.checkpoint()
        if self._closed:
            raise RuntimeError("this ledger is closed")
        self._connection.execute("BEGIN")
        try:
            done = step.take(self._store)
        except BaseException:
            self._connection.execute("ROLLBACK")
            self._store.touched.clear()
            raise
        self._connection.execute("COMMIT")
        self._news.tell(self._store.touched)
        self._store.touched.clear()
        return done

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return not self._closed

    async def aclose(self) -> None:
        """Forget everything."""
        self._closed = True
        self._connection.close()
        self._news.end()


class _Bounded(SQLiteStore):
    """A store that forgets what is oldest; none that is under way or in doubt.

    It counts down to when it may be full, and counts what there is only then.
    """

    def __init__(self, connection: Connection, *, capacity: int, **settings: Any) -> None:
        super().__init__(connection, **settings)
        self._capacity = capacity
        self._room = {"messages": capacity, "events": _EVENTS * capacity}

    def begin(
        self, intent: SendIntent, *, resend_in_doubt: bool = False, ignore_opt_out: bool = False
    ) -> Submission | None:
        known = super().begin(
            intent, resend_in_doubt=resend_in_doubt, ignore_opt_out=ignore_opt_out
        )
        if known is None and not self._took(1, "messages", self._capacity):
            raise LedgerError(
                f"the ledger holds {self._capacity:,} messages that are under way or in doubt,"
                " and has no room for another: make it larger, or use SQLiteLedger"
            )
        return known

    def record(self, notifications: Collection[Notification]) -> None:
        super().record(notifications)
        self._took(len(notifications), "events", _EVENTS * self._capacity)

    def _took(self, count: int, table: str, most: int) -> bool:
        """Forget what is too much after so many were added; tell whether that could be."""
        self._room[table] -= count
        if self._room[table] >= 0:
            return True
        (held,) = self._one(f"SELECT count(*) FROM {table}")
        if held > most:
            held -= self._forget(table, held - most + most // _PART)
        self._room[table] = most - held
        return bool(held <= most)

    def _forget(self, table: str, count: int) -> int:
        # Of the notifications those without a message go first: the others tell its state.
        which = (
            f"NOT ({UNDECIDED}) ORDER BY id"
            if table == "messages"
            else "1 ORDER BY message IS NOT NULL, id"
        )
        ids = self._execute(f"SELECT id FROM {table} WHERE {which} LIMIT ?", (count,)).fetchall()
        for (id_,) in ids:
            if table == "messages":
                self._execute("DELETE FROM events WHERE message = ?", (id_,))
            self._execute(f"DELETE FROM {table} WHERE id = ?", (id_,))
        return len(ids)
