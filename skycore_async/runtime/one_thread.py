"""An object that only one thread at a time may use: steps are run in threads, one by one.

Strategy: tasks that have a step to run wait in line.  The thread itself holds a lock besides,
since a native `Task.cancel()` leaves a thread running that no task waits for any more.

Rule: closing is a step like any other, even after a cancellation.  SQLite crashes the whole
process if a connection is closed while a thread is using it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")


class OneThread:
    """Run steps in threads, one at a time."""

    def __init__(self) -> None:
        self._line = anyio.Lock()
        self._turn = threading.Lock()

    async def run(self, step: Callable[..., T], *given: object) -> T:
        """Run a step, and return its result."""
        async with self._line:
            return await anyio.to_thread.run_sync(self._alone, step, given)

    async def close(self, step: Callable[[], object], *, interrupt: Callable[[], object]) -> None:
        """Run the last step, which closes the object, once the running step has ended.

        `interrupt` is called to end a step soon that still runs and that no task waits for.
        """
        with anyio.CancelScope(shield=True):
            if self._turn.locked():
                await anyio.to_thread.run_sync(interrupt)
            await self.run(step)

    def _alone(self, step: Callable[..., T], given: Sequence[object]) -> T:
        with self._turn:
            return step(*given)
