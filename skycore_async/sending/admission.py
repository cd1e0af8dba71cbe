"""What lets a message begin: a slot among those in flight, then a start within the rate limit.

Rules:

* The slot comes first.  A start is granted for now: if messages waited for slots with starts in
  hand, too many would start at once when slots become free.
* A waiter has begun nothing.  If it is cancelled, or its limiter raises, it holds nothing.
"""

from __future__ import annotations

import anyio

from ..limits.base import Limiter


class Admission:
    """Let at most `slots` messages be in flight, each of which begins when `limiter` lets it."""

    def __init__(self, limiter: Limiter, *, slots: int) -> None:
        self._limiter = limiter
        self._most = slots
        self._slots = anyio.Semaphore(slots, fast_acquire=True)

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return self._most - self._slots.value

    def acquire_now(self) -> float | None:
        """Return the time of a start that is granted at once; None if the caller has to wait."""
        try:
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            return None
        started = None
        try:
            started = self._limiter.start_now()
        finally:
            if started is None:  # or the limiter raised, which may be of the caller's making
                self._slots.release()
        return started

    async def acquire(self) -> float:
        """Wait for a slot and for the rate limit, and return the time of the start."""
        await self._slots.acquire()
        try:
            started = self._limiter.start_now()
            return await self._limiter.wait() if started is None else started
        except BaseException:
            self._slots.release()
            raise

    def release(self) -> None:
        """Release the slot of a message that has ended, or was not begun after all."""
        self._slots.release()
