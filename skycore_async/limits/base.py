"""What a rate limit is: something that says when each message may start."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Limiter(Protocol):
    """Says when each message may start; `RateLimiter` and `PostgresLimiter` are two.

    Times are in seconds by a clock of its own, which only grows; a client gives them back as it
    got them, and compares them with no other.
    """

    def start_now(self) -> float | None:
        """Return the time of a start that is granted at once, or None where one must wait."""
        ...

    async def wait(self) -> float:
        """Wait until this message may start, and return the time at which it did."""
        ...

    def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
        """Take into account that the API throttled a message that started at `started`.

        `retry_after` is how many seconds it said to wait, None where it did not say.
        """
        ...
