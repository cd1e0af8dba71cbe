"""What one thread at a time may use: steps that are taken in threads, one after the other.

Strategy: those who wait for a step wait in line.  Beside that a lock is held by the thread itself,
since a native `Task.cancel()` leaves a thread at work for which nobody waits any more.

Rule: to close it is a step as any other, whoever was cancelled.  SQLite ends the whole process
where a connection is closed under a thread that is at work with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")


class OneThread:
    """Take steps in threads, one at a time."""

    def __init__(self) -> None:
        self._line = anyio.Lock()
        self._turn = threading.Lock()

    async def run(self, step: Callable[..., T], *given: object) -> T:
        """Take a step, and return what comes of it."""
        async with self._line:
            return await anyio.to_thread.run_sync(self._alone, step, given)

    async def close(self, step: Callable[[], object], *, interrupt: Callable[[], object]) -> None:
        """Take the last step, which closes it, once the one that is taken has ended.

        Where there is one, for which nobody waits any more, `interrupt` is to have it end soon.
        """
        with anyio.CancelScope(shield=True):
            if self._turn.locked():
                await anyio.to_thread.run_sync(interrupt)
            await self.run(step)

    def _alone(self, step: Callable[..., T], given: Sequence[object]) -> T:
        with self._turn:
            return step(*given)
