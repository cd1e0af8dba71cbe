"""The interface of a rate limit: it says when each message may start."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from ..errors import ConfigurationError


@runtime_checkable
class Limiter(Protocol):
    """Says when each message may start; `RateLimiter` and `PostgresLimiter` are two.

    Times are in seconds by the limiter's own monotonic clock; a client passes them back unchanged,
    and compares them with no other times.
    """

    def start_now(self) -> float | None:
        """Return the time of a start that is granted at once, or None if one must wait."""
        ...

    async def wait(self) -> float:
        """Wait until this message may start, and return the time at which it did.

        A waiter that is cancelled has started nothing.
        """
        ...

    def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
        """Take into account that the API throttled a message that started at `started`.

        `retry_after` is how many seconds it said to wait, None if it did not say.
        """
        ...


def check_rate(rate: float | None, burst: int) -> None:
    """Raise ConfigurationError for a rate that is not above 0, and for a burst below 1.

    A rate of None is unlimited.  It also raises ConfigurationError for a value that is not a
    number, such as a text from a configuration file.
    """
    if not isinstance(rate, float | int | None):
        raise ConfigurationError(f"rate: a number is needed, not {type(rate).__name__}")
    if not isinstance(burst, int):
        raise ConfigurationError(f"burst: a whole number is needed, not {type(burst).__name__}")
    if rate is not None and not 0 < rate < math.inf:
        raise ConfigurationError(f"rate: {rate!r} is not above 0 messages per second")
    if burst < 1:
        raise ConfigurationError(f"burst: {burst!r} is less than 1")
