"""The limiter of a process, which notes when messages start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skycore_async import RateLimiter

from .log import Accident
from .notes import Notes

if TYPE_CHECKING:
    from .world import World


class NotedLimiter(RateLimiter):
    """The rate limiter, of which is noted when it lets messages start.

    In a world with accidents it raises now and then.
    """

    def __init__(self, rate: float, burst: int, notes: Notes, world: World) -> None:
        super().__init__(rate, burst, clock=world.now)
        self.has_accidents = world.plan.settings.has_accidents
        self._calls = 0
        self._noted_starts = notes.paced()

    def start_now(self) -> float | None:
        """Note a start."""
        self._calls += 1
        if self.has_accidents and self._calls % 5 == 0:
            raise Accident
        return self._noted(super().start_now())

    def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
        """Slow down, and raise."""
        super().slow_down(started=started, retry_after=retry_after)
        if self.has_accidents:
            raise Accident

    async def wait(self) -> float:
        """Note a start."""
        started = await super().wait()
        self._noted(started)
        return started

    def _noted(self, started: float | None) -> float | None:
        if started is not None:
            self._noted_starts.append(started)
        return started
