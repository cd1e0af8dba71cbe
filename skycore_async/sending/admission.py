"""What lets a message begin: a place among those in flight, and then its turn.

Rules:

* The place comes first: a turn is a moment, and one that were kept until a place
  is free would be used together with all the others that were.
* Who waits here has begun nothing, and whoever is cancelled here holds nothing.
"""

from __future__ import annotations

import anyio

from ..limits.base import Limiter


class Admission:
    """Let at most `places` messages be in flight, each beginning in its turn by `limiter`."""

    def __init__(self, limiter: Limiter, *, places: int) -> None:
        self._limiter = limiter
        self._places = anyio.Semaphore(places, fast_acquire=True)

    def acquire_now(self) -> float | None:
        """Return the time of a turn that comes at once, or None where one must wait."""
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            return None
        if (started := self._limiter.start_now()) is None:
            self._places.release()
        return started

    async def acquire(self) -> float:
        """Wait for a place and a turn, and return the time at which that began."""
        await self._places.acquire()
        try:
            started = self._limiter.start_now()
            return await self._limiter.wait() if started is None else started
        except BaseException:
            self._places.release()
            raise

    def release(self) -> None:
        """Return the place of a message that has ended, or was not begun after all."""
        self._places.release()
