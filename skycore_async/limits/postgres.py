"""One rate for many processes, on the clock of one PostgreSQL server.

Strategy: the first waiter watches the clock for all others of this process, and has as many
permits requested as are wanted.  A background task asks the database, one request at a time, in a
worker thread.  `permits` decides what to ask and which permit is due, and the row in `shared_rate`
what is granted.

Rules:

* No message starts without a permit from the database.  While the database is away messages wait,
  and it is asked again after a pause that grows to two seconds.
* A cancelled waiter takes no permit with it: a permit belongs to nobody until it begins, and then
  to the first waiter.
* No task sleeps: closing waits for one statement at most.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from ..errors import ConfigurationError
from ..postgres.connection import Database, describe_error
from ..runtime.background import BackgroundTasks
from ..runtime.logs import log
from ..runtime.secret import Secret
from .base import check_rate
from .permits import Permits
from .shared_rate import SharedRate


class PostgresLimiter:
    """Let all processes that share `name` start at most `rate` messages per second together.

    Up to `burst` of them start at once.  `dsn` is a PostgreSQL database with the
    tables of `skycore cluster migrate`.  It is used as a `RateLimiter` is:

        async with PostgresLimiter(dsn, "promo", 1000, burst=20) as limiter:
            async with SkycoreClient(rate=limiter) as client:
                ...

    Processes are served in the order in which they ask, a few permits at a time, and
    a throttle answer to one slows all.  The rate and burst of the process that opened it
    last hold for all, so that a new rate can be rolled out.  The schedule runs 1 % below
    the rate, so that a permit that begins a little late makes no second too full.  A permit
    that is missed by more than 10 ms, or by more than half the time to the next one if that
    is longer, is lost.  While the database cannot be reached nothing starts.

    Open it with `async with`, or with `open` and `aclose`, around the clients that
    use it; it belongs to one event loop.  `clock` returns monotonic seconds; `sleep` waits
    for a number of seconds.

    Raises ConfigurationError for an invalid DSN, an empty name, a rate that is
    not above 0 or a burst below 1.
    """

    def __init__(
        self,
        dsn: str,
        name: str,
        rate: float,
        burst: int = 1,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        given, dsn = Secret(dsn), ""  # so that no frame of a traceback has its password
        if not name or "\0" in name:
            raise ConfigurationError(f"name: {name!r} names no rate to share")
        check_rate(rate, burst)
        database = Database(given.reveal())
        self._said = f"the rate {name!r} in {database.name}"
        self._shared_rate = SharedRate(database, name, rate=rate, burst=burst, clock=clock)
        self._permits = Permits()
        self._clock = clock
        self._sleep = sleep
        self._opening = anyio.Lock()
        self._line = anyio.Lock()
        self._waiting = 0
        # A thread limiter of its own: the program's handlers may wait in the usual one for a
        # start.
        self._thread = anyio.CapacityLimiter(1)
        self._is_asking = False
        self._is_away = False
        self._answered: anyio.Event | None = None
        self._tasks: BackgroundTasks | None = None

    def __repr__(self) -> str:
        # A traceback also shows an object whose `__init__` failed.
        return f"<{getattr(self, '_said', 'a rate that cannot be')}>"

    async def open(self) -> None:
        """Connect, and set the rate and burst for all who share this name.

        Raises ConfigurationError if the database cannot be reached or lacks the tables.
        """
        async with self._opening:
            if self._tasks is not None:
                self._tasks.check()
                return
            grant = await anyio.to_thread.run_sync(self._shared_rate.open)
            self._permits.granted(grant, self._clock())
            self._tasks = BackgroundTasks(self._close, of="limiter")

    async def aclose(self) -> None:
        """Close the connection; `wait` raises RuntimeError in tasks that still wait."""
        if self._tasks is not None:
            await self._tasks.close()
            self._notify()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def start_now(self) -> float | None:
        """Return the clock's time if a permit is due and nobody waits for it."""
        now = self._clock()
        return now if not self._waiting and self._permits.start(now) else None

    async def wait(self) -> float:
        """Wait for this message's permit, and return the clock's time at which it began.

        Raises ConfigurationError if it is not open, and RuntimeError if it is closed or belongs to
        another event loop.
        """
        tasks = self._opened()
        self._waiting += 1
        try:
            async with self._line:
                while not self._permits.start(now := self._clock()):
                    tasks.check()
                    await self._wait_for_more(tasks, now)
                return now
        finally:
            self._waiting -= 1

    def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
        """Pause everyone, in all processes, and halve the rate for a while.

        `started` is what `wait` returned for the throttled message, and `retry_after` the seconds
        that the server asked for.  Other processes learn
        of it when they next ask for permits, within some hundredths of a second.
        """
        now = self._clock()
        self._permits.slow_down(now, started=started, retry_after=retry_after)
        if self._tasks is not None and not self._tasks.closed:
            self._ask(self._tasks, now)

    def _opened(self) -> BackgroundTasks:
        if self._tasks is None:
            raise ConfigurationError(
                f"{self._said} is not open: use `async with`, or call `await limiter.open()`"
            )
        self._tasks.check()
        return self._tasks

    async def _wait_for_more(self, tasks: BackgroundTasks, now: float) -> None:
        self._ask(tasks, now)
        pause = self._permits.pause(now, is_asking=self._is_asking)
        if pause is not None:
            await self._sleep(pause)
            return
        self._answered = self._answered or anyio.Event()
        await self._answered.wait()

    def _ask(self, tasks: BackgroundTasks, now: float) -> None:
        if not self._is_asking and self._permits.is_to_ask(now, self._waiting):
            self._is_asking = True
            tasks.start(self._ask_all)

    async def _ask_all(self) -> None:
        """Ask for permits until none are wanted."""
        try:
            while ask := self._permits.ask(self._clock(), self._waiting):
                try:
                    grant = await anyio.to_thread.run_sync(
                        self._shared_rate.ask, ask, limiter=self._thread
                    )
                except Exception as error:  # noqa: BLE001 - without an answer nobody starts
                    self._permits.failed(ask, self._clock())
                    self._note(error)
                else:
                    self._permits.granted(grant, self._clock())
                    self._note(None)
                self._notify()
        finally:
            self._is_asking = False
            self._notify()

    def _note(self, error: Exception | None) -> None:
        """Log once that the database went away, and once that it is back."""
        if error is not None and not self._is_away:
            log.warning(
                "%s: nothing starts until it answers again: %s", self, describe_error(error)
            )
        elif error is None and self._is_away:
            log.warning("%s answers again", self)
        self._is_away = error is not None

    def _notify(self) -> None:
        if self._answered is not None:
            self._answered.set()
            self._answered = None

    async def _close(self) -> None:
        await anyio.to_thread.run_sync(self._shared_rate.close)
