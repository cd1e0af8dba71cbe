"""The rate limit of one process: `rate` messages a second, and fewer for a while if throttled.

Strategy: decisions are synchronous arithmetic on an injected clock; waiting is separate.
`reserve` either grants a start now and notes it, or returns how long to wait before asking
again; `wait` asks until a start is granted, first come, first served.

Rules:

* Starts follow a schedule (GCRA, the generic cell rate algorithm of ITU-T I.371): one every
  `1 / rate` seconds, and up to `burst` at once.
* A waiter that wakes up late catches up, but only a little (`CATCH_UP`), and never beyond
  `rate + burst` starts in any window of one second: the last starts are remembered for that, and
  one place is kept free for delays between a start here and the request on the wire.  Time in
  which nobody waited is not made up for.
* A refusal uses nothing up, so that asking and giving up does no harm.
* A throttle answer pauses everyone until a time, not until an event, so that
  no lost wake-up can stop a client.  It also halves the rate, once for all
  messages that were under way together; then the rate recovers in steps.
* It may be shared by event loops in several threads.  Each event loop has a line of its own, since
  a task cannot be woken from another loop; the first in each line asks.
* Without a rate nothing is held back before the first throttle answer; from then on the full rate
  is the number of starts in the last second of sending, until the rate has recovered and nothing
  is held back again.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final
from weakref import WeakSet

import anyio

from ..errors import ConfigurationError
from ..runtime.event_loop import event_loop
from ..runtime.forks import call_in_child
from .base import Limiter, check_rate

CATCH_UP: Final = 0.02  # seconds of the schedule that a late start may make up for
PAUSE: Final = 1.0  # seconds that a throttle answer without Retry-After stops everyone
SLOWEST: Final = 1 / 32  # of the rate, however often it is halved
RECOVERY_STEP: Final = 1 / 8  # of the rate, given back after every RECOVERY_TIME
RECOVERY_TIME: Final = 1.0  # seconds

_WINDOW: Final = 1.0  # seconds


class _Line:
    """The tasks that wait in one event loop, each for its turn to ask."""

    def __init__(self) -> None:
        self.turn = anyio.Lock()
        self.waiting = 0


class RateLimiter:
    """Let at most `rate` messages start per second, up to `burst` of them at once.

    `rate` None lets everything start until the API throttles.  Any number of tasks may wait, in
    any threads; those of one event loop are served first come, first served.  A throttle answer
    stops all of them for as long as it asks, or for a second, and halves the rate, which then
    grows by an eighth of the full rate each second.  `clock` returns monotonic seconds; `sleep`
    waits for a number of seconds.

    Raises ConfigurationError for a rate that is not above 0 or a burst below 1.
    """

    def __init__(
        self,
        rate: float | None,
        burst: int = 1,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        check_rate(rate, burst)
        self._rate = rate
        self._full = rate or 1.0  # what `_share` is a share of; learnt where there is no rate
        self._share = 1.0
        self._burst = burst
        self._clock = clock
        self._sleep = sleep
        self._guard = threading.RLock()
        self._lines: dict[object, _Line] = {}  # of event loops in which somebody waits
        self._waited_since = -math.inf
        self._due = -math.inf
        self._starts: deque[float] = deque()
        self._slowed_at = -math.inf
        self._paused_until = -math.inf
        _limiters.add(self)

    def start_now(self) -> float | None:
        """Return the clock's time if a message may start at once and nobody waits before it."""
        with self._guard:
            now = self._clock()
            return None if self._lines or self._reserve(now) > 0 else now

    async def wait(self) -> float:
        """Wait until this message may start, and return the clock's time at which it did."""
        with self._in_line() as line:
            async with line.turn:
                now, pause = self._ask()
                while pause > 0:
                    await self._sleep(pause)
                    now, pause = self._ask()
                return now

    @contextmanager
    def _in_line(self) -> Iterator[_Line]:
        """Join the line of this event loop while the block runs."""
        loop = event_loop()
        with self._guard:
            if not self._lines:
                self._waited_since = self._clock()
            line = self._lines.setdefault(loop, _Line())
            line.waiting += 1
        try:
            yield line
        finally:
            with self._guard:
                line.waiting -= 1
                if not line.waiting and self._lines.get(loop) is line:
                    del self._lines[loop]

    def reserve(self) -> float:
        """Grant a start now and return 0, or return the seconds after which to ask again."""
        _, pause = self._ask()
        return pause

    def _ask(self) -> tuple[float, float]:
        """Return the clock's time and the result of `reserve` at it."""
        with self._guard:
            now = self._clock()
            return now, self._reserve(now)

    def _reserve(self, now: float) -> float:
        if now < self._paused_until:
            return self._paused_until - now
        while self._starts and self._starts[0] + _WINDOW <= now:
            self._starts.popleft()
        rate = self._rate_at(now)
        if rate is not None:
            # A start that was due at a lower rate comes sooner once the rate has recovered, so
            # nobody sleeps through the recovery.
            self._due = min(self._due, now + self._burst / rate)
            due = max(self._due, self._catch_up_from(now))
            if (wait := due - (self._burst - 1) / rate - now) > 0:
                return min(wait, RECOVERY_TIME)
            most = math.ceil(rate * _WINDOW) + self._burst - 1
            if len(self._starts) >= most:
                return self._starts[-most] + _WINDOW - now
            self._due = due + 1 / rate
        self._starts.append(now)
        return 0.0

    def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
        """Pause everyone, and halve the rate for a while.

        `started` is what `wait` returned for the throttled message, and `retry_after` the seconds
        that the server asked for.
        """
        with self._guard:
            self._slow_down(self._clock(), started, retry_after)

    def _slow_down(self, now: float, started: float, retry_after: float | None) -> None:
        if retry_after is None or not 0 <= retry_after < math.inf:
            retry_after = PAUSE
        share = self._share = self._share_at(now)  # it recovers from here, after the pause
        self._paused_until = max(self._paused_until, now + retry_after)
        if started <= self._slowed_at:
            return  # the rate was halved already while this one was under way
        if self._rate is None and share == 1.0:
            self._full = max(1.0, len(self._starts) / _WINDOW)
        self._share = max(SLOWEST, share / 2)
        self._slowed_at = now

    def _catch_up_from(self, now: float) -> float:
        """Return the time from which on missed starts may be caught up."""
        if not self._lines:
            return now
        return max(self._waited_since, self._paused_until, now - CATCH_UP)

    def _rate_at(self, now: float) -> float | None:
        share = self._share_at(now)
        return self._rate if share == 1.0 else self._full * share

    def _share_at(self, now: float) -> float:
        if self._share == 1.0:
            return 1.0
        steps = min((now - self._paused_until) / RECOVERY_TIME, 1 / RECOVERY_STEP)
        return min(1.0, self._share + RECOVERY_STEP * max(0, math.floor(steps)))

    def after_fork_in_child(self) -> None:
        """Make a new guard in a forked child, where nobody would release the old one."""
        self._guard = threading.RLock()
        self._lines.clear()


_limiters: Final[WeakSet[RateLimiter]] = WeakSet()


def _in_child() -> None:
    for limiter in list(_limiters):
        limiter.after_fork_in_child()


call_in_child(_in_child)


def limiter_of(rate: float | Limiter | None, burst: int) -> Limiter:
    """Return a client's `rate` if it is a limiter, or make a limiter of so many messages a second.

    Raises ConfigurationError if it is neither a limiter nor a rate.
    """
    limiter = RateLimiter(rate, burst) if isinstance(rate, float | int | None) else rate
    if not isinstance(limiter, Limiter):
        raise ConfigurationError(
            f"rate: {rate!r} is neither a number of messages per second nor a Limiter"
        )
    return limiter
