"""What gives messages their turn."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Limiter(Protocol):
    """What gives messages their turn; `RateLimiter` is one."""

    def start_now(self) -> float | None:
        """Return the time of a turn that comes at once, or None where one must wait."""
        ...

    async def wait(self) -> float:
        """Wait for this message's turn, and return the time at which it began."""
        ...

    def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
        """Take into account that the API throttled a message whose turn began at `started`."""
        ...
