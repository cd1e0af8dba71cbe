"""An event loop for asyncio without a clock or a selector: time and order come from a seed.

Strategy: whatever is ready is kept in an order that is the same in every process, and
one of it is drawn for each step.  Where nothing is ready, time jumps to the next timer.

Rules:

* The order in which things become ready is not asked: sets of tasks are walked by their
  addresses.  A callback belongs to a task, and tasks are numbered as they are made.
* A loop that has nothing to do and is not done would wait for ever, which is an error.
* A crash ends it between two steps.  What was left is cancelled, as at the end of
  `asyncio.run`, and takes what time it needs: nobody sees that any more.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from bisect import insort
from collections.abc import Callable, Coroutine
from contextvars import Context
from random import Random
from typing import Any, Final

import anyio

_ENDING: Final = 100_000  # steps in which what is cancelled has to end
_ROUNDS: Final = 3
_FAVOURED: Final = 0.8  # of the steps are those of the favourite, where there is one
_NOBODY: Final = 1e9  # the place of a callback that is no task's


class Stuck(Exception):
    """Somebody waits for what never comes."""


class Crashed(BaseException):
    """The process is gone."""


class SeededLoop(asyncio.AbstractEventLoop):
    """Run callbacks in an order that `chance` draws, from the time `start` on.

    `on_step` is called before each step and may raise `Crashed`; `on_error` is told what
    the event loop is told.  Where it `favours` some tasks, those that it prefers run as
    long as they can, but for a few steps; otherwise all have the same chance.
    """

    def __init__(
        self,
        chance: Random,
        *,
        start: float = 0.0,
        favours: bool = False,
        on_step: Callable[[], None] = lambda: None,
        on_error: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self._random = chance.random
        self._favours = favours
        self._now = start
        self._on_step = on_step
        self._on_error = on_error
        self._ready: list[tuple[float, int, asyncio.Handle]] = []
        self._timers: list[tuple[float, float, int, asyncio.TimerHandle]] = []
        self._count = itertools.count()
        self._tasks: dict[int, tuple[asyncio.Task[Any], float]] = {}
        self._births = itertools.count()
        self._newborn: set[int] = set()  # numbers of callbacks that begin a task

    # What runs it.

    def run(self, main: Coroutine[Any, Any, None], *, most: float) -> None:
        """Run `main` to its end, and then end what is left; `most` steps are allowed.

        Raises what `main` raises, Crashed, and Stuck where it does not come to its end.
        """
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            try:
                self._run_until(task.done, most)
            finally:
                self._on_step = lambda: None
                self._end()
            if not task.cancelled():
                task.result()
        finally:
            asyncio._set_running_loop(None)

    def _run_until(self, is_done: Callable[[], bool], most: float) -> None:
        while not is_done():
            if not self._ready:
                self._jump()
            most -= 1
            if most < 0:
                raise Stuck("there is no end of steps")
            self._on_step()
            place = 0
            if not self._favours or self._random() > _FAVOURED:
                place = int(self._random() * len(self._ready))
            _, number, handle = self._ready.pop(place)
            self._newborn.discard(number)
            if not handle.cancelled():
                handle._run()

    def _jump(self) -> None:
        """Go on to the next moment at which something is to be done."""
        while self._timers:
            when = self._timers[0][0]
            while self._timers and self._timers[0][0] == when:
                _, place, number, handle = heapq.heappop(self._timers)
                if not handle.cancelled():
                    insort(self._ready, (place, number, handle))
            if self._ready:
                self._now = max(self._now, when)
                return
        waiting = sorted(task.get_name() for task, _ in self._tasks.values() if not task.done())
        raise Stuck(f"nothing will ever happen again, and these wait: {', '.join(waiting)}")

    def _end(self) -> None:
        self._begin_all()
        left = [task for task, _ in self._tasks.values() if not task.done()]
        for task in left:
            task.cancel()
        if left:
            self._run_until(lambda: all(task.done() for task in left), _ENDING)
        for _ in range(_ROUNDS):  # of what is called when tasks are done
            ready, self._ready = self._ready, []
            for _, _, handle in ready:
                if not handle.cancelled():
                    handle._run()
        for task, _ in self._tasks.values():
            if task.done() and not task.cancelled():
                task.exception()  # and nobody is told that nobody asked for it

    def _begin_all(self) -> None:
        """Begin each task: what is cancelled before that would be said to be forgotten."""
        while self._newborn:
            number = self._newborn.pop()
            at = next(at for at, each in enumerate(self._ready) if each[1] == number)
            self._ready.pop(at)[2]._run()

    # What asyncio and anyio ask of it.

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_task_factory(self) -> Any:
        return None

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        number, births = next(self._count), len(self._tasks)
        insort(self._ready, (self._place(callback), number, handle))
        if len(self._tasks) > births:
            self._newborn.add(number)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, self._place(callback), next(self._count), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._on_error(context)

    def _place(self, callback: Callable[..., object]) -> float:
        """Return where among the ready a callback stands: at its task's."""
        owner: Any = getattr(callback, "__self__", None)
        if isinstance(owner, anyio.CancelScope):
            owner = getattr(owner, "_host_task", None)
        if not isinstance(owner, asyncio.Task):
            return _NOBODY
        known = self._tasks.get(id(owner))
        if known is None:
            number = next(self._births)
            place = self._random() if self._favours else float(number)
            known = self._tasks[id(owner)] = owner, place
        return known[1]
