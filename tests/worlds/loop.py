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
import sys
from bisect import insort
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from random import Random
from typing import Any, Final

import anyio
from anyio._backends import _asyncio

_ENDING: Final = 100_000  # steps in which what is cancelled has to end
_ROUNDS: Final = 3
_FAVOURED: Final = 0.8  # of the steps are those of the favourite, where there is one
_NOBODY: Final = 1e9  # the place of a callback that is no task's


class Stuck(Exception):
    """Somebody waits for what never comes."""


class Crashed(BaseException):
    """The process is gone."""


class _Handle:
    """What is to be called, at a time: as much of a handle of asyncio's as is asked of one."""

    __slots__ = ("args", "callback", "context", "is_cancelled", "time")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        time: float,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.is_cancelled = False
        self.time = time

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.time


class SeededLoop(asyncio.AbstractEventLoop):
    """Run callbacks in an order that `chance` draws, from the time `start` on.

    `on_step` is called before each step and returns whether the process is gone, and then
    `Crashed` is raised; `on_error` is told what the event loop is told.  Where it `favours`
    some tasks, those that it prefers run as long as they can, but for a few steps; otherwise
    all have the same chance.
    """

    def __init__(
        self,
        chance: Random,
        *,
        start: float = 0.0,
        favours: bool = False,
        on_step: Callable[[], bool] = lambda: False,
        on_error: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self._random = chance.random
        self._favours = favours
        self._now = start
        self._on_step = on_step
        self._on_error = on_error
        self._ready: list[tuple[float, int, _Handle]] = []
        self._timers: list[tuple[float, float, int, _Handle]] = []
        self._count = itertools.count()
        self._tasks: dict[int, tuple[asyncio.Task[Any], float]] = {}
        self._births = itertools.count()
        self._newborn: set[int] = set()  # numbers of callbacks that begin a task

    # What runs it.

    def run(self, main: Coroutine[Any, Any, None], *, most: float) -> None:
        """Run `main` to its end, and then end what is left; `most` steps are allowed.

        Raises what `main` raises, Crashed, and Stuck where it does not come to its end.
        """
        with _known(self):
            self._run(main, most)

    def _run(self, main: Coroutine[Any, Any, None], most: float) -> None:
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            try:
                self._run_until(task.done, most)
            finally:
                self._on_step = lambda: False
                self._end()
            if not task.cancelled():
                task.result()
        finally:
            asyncio._set_running_loop(None)

    def _run_until(self, is_done: Callable[[], bool], most: float) -> None:
        # Whatever is asked for here is asked for at each step.
        draw, favours, ready, newborn = self._random, self._favours, self._ready, self._newborn
        on_step = self._on_step
        while not is_done():
            if not ready:
                self._jump()
            most -= 1
            if most < 0:
                raise Stuck("there is no end of steps")
            if on_step():
                raise Crashed
            place = 0
            if not favours or draw() > _FAVOURED:
                place = int(draw() * len(ready))
            _, number, handle = ready.pop(place)
            newborn.discard(number)
            if not handle.is_cancelled:
                self._call(handle)

    def _call(self, handle: _Handle) -> None:
        try:
            handle.context.run(handle.callback, *handle.args)
        except Exception as error:  # noqa: BLE001 - as any event loop does
            self._on_error({"message": f"{handle.callback} raised", "exception": error})

    def _jump(self) -> None:
        """Go on to the next moment at which something is to be done."""
        while self._timers:
            when = self._timers[0][0]
            while self._timers and self._timers[0][0] == when:
                _, place, number, handle = heapq.heappop(self._timers)
                if not handle.is_cancelled:
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
                if not handle.is_cancelled:
                    self._call(handle)
        for task, _ in self._tasks.values():
            if task.done() and not task.cancelled():
                task.exception()  # and nobody is told that nobody asked for it

    def _begin_all(self) -> None:
        """Begin each task: what is cancelled before that would be said to be forgotten."""
        while self._newborn:
            number = self._newborn.pop()
            at = next(at for at, each in enumerate(self._ready) if each[1] == number)
            self._call(self._ready.pop(at)[2])

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
    ) -> _Handle:
        handle = _Handle(callback, args, copy_context() if context is None else context, self._now)
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
    ) -> _Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> _Handle:
        handle = _Handle(callback, args, copy_context() if context is None else context, when)
        heapq.heappush(self._timers, (when, self._place(callback), next(self._count), handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._on_error(context)

    def _place(self, callback: Callable[..., object]) -> float:
        """Return where among the ready a callback stands: at its task's."""
        owner: Any = getattr(callback, "__self__", None)
        known = self._tasks.get(id(owner))  # most are of a task that is known
        if known is not None:
            return known[1]
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


# Who asks for the loop or the task that runs: at nearly every step, and Python 3.11 asks the
# system then whether this is still the process that it was.
_ASKED: Final = {
    "get_running_loop": (asyncio, asyncio.events, _asyncio),
    "_get_running_loop": (asyncio, asyncio.events),
    "current_task": (asyncio, asyncio.tasks, _asyncio),
}


@contextmanager
def _known(loop: SeededLoop) -> Iterator[None]:
    """Have those told at once who ask what runs, while this loop does."""
    if sys.version_info >= (3, 12):
        yield
        return
    tasks: dict[Any, Any] = vars(asyncio.tasks)["_current_tasks"]
    known = {
        "get_running_loop": lambda: loop,
        "_get_running_loop": lambda: loop,
        "current_task": lambda: tasks.get(loop),
    }
    before = [(of, name, vars(of)[name]) for name, asked in _ASKED.items() for of in asked]
    for of, name, _ in before:
        setattr(of, name, known[name])
    try:
        yield
    finally:
        for of, name, as_it_was in before:
            setattr(of, name, as_it_was)
