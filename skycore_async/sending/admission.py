"""What lets a message begin: a slot among those in flight, and then a start within the rate.

Rules:

* The slot comes first.  A start is granted for now: were those kept that wait for a slot,
  all of them would be used as soon as slots are free, and too many would start at once.
* A waiter has begun nothing, and one that is cancelled here holds nothing, nor does
  one whose limiter raised.
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
        """Return the time of a start that is granted at once, or None where one must wait."""
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
        """Free the slot of a message that has ended, or was not begun after all."""
        self._slots.release()
