"""A ledger that forgets with its process, and holds so much at most.

It is `Store` over a database in memory: the same steps, less durability.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeVar

import anyio.lowlevel

from ..errors import ConfigurationError, LedgerError
from ..messages import Notification
from .base import Intent, Submission
from .one_process import OneProcessLedger, Step
from .receipts import SETTLE_WITHIN
from .store import SCHEMA, Store

T = TypeVar("T")

# Calls after which what is too much is forgotten: one at a time would cost more than the call.
_EVERY: Final = 100


class MemoryLedger(OneProcessLedger):
    """Remember the last messages sent and notifications taken in, in this process alone.

    `capacity` is how many messages it holds at most, and how many notifications
    for each on average; the oldest are forgotten first, but none that is under
    way or in doubt.  A postback settles a doubt within `settle_within` seconds of
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
        self._capacity = capacity
        self._connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False
        )
        self._connection.executescript(SCHEMA)
        self._store = Store(self._connection, clock=clock, settle_within=settle_within)
        self._calls = 0

    async def begin(
        self, intent: Intent, *, resend_in_doubt: bool = False, ignore_opt_out: bool = False
    ) -> Submission | None:
        """Keep an intent, and give None; or give what came of it before."""
        if not await self._make_room():
            raise LedgerError(
                f"the ledger holds {self._capacity:,} messages that are under way or in doubt,"
                " and has no room for another: make it larger, or use SQLiteLedger"
            )
        return await super().begin(
            intent, resend_in_doubt=resend_in_doubt, ignore_opt_out=ignore_opt_out
        )

    async def record(self, *notifications: Notification) -> None:
        """Take notifications in, all or none of them; one that came before changes nothing."""
        await super().record(*notifications)
        await self._make_room()

    async def _make_room(self) -> bool:
        self._calls += 1
        if self._calls % min(_EVERY, self._capacity):
            return True
        most = self._capacity - 1
        return await self._run(
            lambda store: store.forget_oldest(messages=most, events=4 * self._capacity)
        )

    async def _run(self, step: Step[T]) -> T:
        await anyio.lowlevel.checkpoint()
        self._connection.execute("BEGIN")
        try:
            done = step(self._store)
        except BaseException:
            self._connection.execute("ROLLBACK")
            self._store.touched.clear()
            raise
        self._connection.execute("COMMIT")
        self._news.tell(self._store.touched)
        self._store.touched.clear()
        return done

    async def aclose(self) -> None:
        """Forget everything."""
        self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
