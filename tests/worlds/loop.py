"""An event loop for asyncio without a clock or a selector: time and order come from a seed.

Strategy: the callbacks that are ready are kept in an order that is the same in every process, and
one is drawn for each step.  If none is ready, time jumps to the next timer.

Rules:

* The order in which callbacks become ready is ignored, because sets of tasks are iterated in the
  order of their addresses.  A callback belongs to a task, and tasks are numbered as they are made.
* A loop that has nothing to do and is not done would wait for ever, which is an error.
* A crash ends it between two steps.  The tasks that are left are cancelled, as at the end of
  `asyncio.run`, and take the time they need: nothing sees them any more.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys
from asyncio import mixins
from bisect import insort
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from itertools import repeat
from random import Random
from typing import Any, Final

import anyio
from anyio import lowlevel
from anyio._backends import _asyncio
from anyio._core import _synchronization, _tasks

_ENDING: Final = 100_000  # steps in which what is cancelled has to end
_ROUNDS: Final = 3
_FAVOURED: Final = 0.8  # of the steps are those of the favourite, where there is one
_NOBODY: Final = 1e9  # the place of a callback that is no task's


class Stuck(Exception):
    """Somebody waits for what never comes."""


class Crashed(BaseException):
    """The process is gone."""


class _Handle(list[Any]):
    """What is to be called, at a time: as much of a handle of asyncio's as is asked of one.

    It is a list, which is made and compared at once: its place, and its number, which no
    other has; what is called, with which arguments, in which context; and when.
    """

    __slots__ = ()

    def cancel(self) -> None:
        self[_CALLBACK] = None

    def cancelled(self) -> bool:
        return self[_CALLBACK] is None

    def when(self) -> float:
        time: float = self[_TIME]
        return time


_NUMBER: Final = 1
_CALLBACK: Final = 2
_TIME: Final = 5


class SeededLoop(asyncio.AbstractEventLoop):
    """Run callbacks in an order that `chance` draws, from the time `start` on.

    `on_step` is called before each step and returns whether the process is gone, and then
    `Crashed` is raised; `on_error` is told what the event loop is told.  Where it `favours`
    some tasks, those that it prefers run as long as they can, but for a few steps; otherwise
    all have the same chance.  `lag` returns the seconds by which what waits is woken too late.
    """

    def __init__(
        self,
        chance: Random,
        *,
        start: float = 0.0,
        favours: bool = False,
        lag: Callable[[], float] | None = None,
        on_step: Callable[[], bool] = lambda: False,
        on_error: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self._random = chance.random
        self._lag = lag
        self._favours = favours
        self._now = start
        self._on_step = on_step
        self._on_error = on_error
        self._is_running = False
        self._ready: list[_Handle] = []
        self._timers: list[tuple[float, _Handle]] = []
        self._count = itertools.count()
        self._tasks: list[asyncio.Task[Any]] = []
        self._places: dict[int, float] = {id(None): _NOBODY}  # by the identities of tasks
        self._newborn: set[int] = set()  # numbers of callbacks that begin a task
        # What is asked for as often as these is not asked of Python.
        self.get_debug = bool  # type: ignore[method-assign]
        self.get_task_factory = type(None)  # type: ignore[method-assign]
        self.create_future = partial(asyncio.Future, loop=self)  # type: ignore[method-assign]

    # What runs it.

    def run(self, main: Coroutine[Any, Any, None], *, most: float) -> None:
        """Run `main` to its end, and then end what is left; `most` steps are allowed.

        Raises what `main` raises, Crashed, and Stuck where it does not come to its end.
        """
        with _known(self):
            self._run(main, most)

    def _run(self, main: Coroutine[Any, Any, None], most: float) -> None:
        asyncio._set_running_loop(self)
        self._is_running = True
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
            self._is_running = False
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
            _, number, callback, args, context, _ = ready.pop(place)
            if newborn:
                newborn.discard(number)
            if callback is not None:
                try:
                    context.run(callback, *args)
                except Exception as error:  # noqa: BLE001 - as any event loop does
                    self._failed(callback, error)

    def _call(self, handle: _Handle) -> None:
        _, _, callback, args, context, _ = handle
        if callback is None:
            return
        try:
            context.run(callback, *args)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(callback, error)

    def _failed(self, callback: object, error: Exception) -> None:
        self._on_error({"message": f"{callback} raised", "exception": error})

    def _jump(self) -> None:
        """Go on to the next moment at which something is to be done."""
        timers, ready = self._timers, self._ready
        while timers:
            now = max(self._now, timers[0][0])
            if self._lag is not None:
                now += self._lag()
            while timers and timers[0][0] <= now:
                _, handle = heapq.heappop(timers)
                if handle[_CALLBACK] is not None:
                    insort(ready, handle)
            if ready:
                self._now = now
                return
        waiting = sorted(task.get_name() for task in self._tasks if not task.done())
        raise Stuck(f"nothing will ever happen again, and these wait: {', '.join(waiting)}")

    def _end(self) -> None:
        while left := self._left():
            for task in left:
                task.cancel()
            self._run_until(lambda left=left: all(task.done() for task in left), _ENDING)  # type: ignore[misc]
        for _ in range(_ROUNDS):  # of what is called when tasks are done
            ready, self._ready = self._ready, []
            for handle in ready:
                self._call(handle)
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.exception()  # and nobody is told that nobody asked for it

    def _left(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that have not ended, and begin those that have not begun."""
        self._begin_all()
        return [task for task in self._tasks if not task.done()]

    def _begin_all(self) -> None:
        """Begin each task: what is cancelled before that would be said to be forgotten."""
        while self._newborn:
            number = self._newborn.pop()
            at = next(at for at, each in enumerate(self._ready) if each[_NUMBER] == number)
            self._call(self._ready.pop(at))

    # What asyncio and anyio ask of it.

    def time(self) -> float:
        return self._now

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return False

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        number = next(self._count)
        # Most are of a task that is known, or of none, and too many to ask elsewhere.
        place = self._places.get(id(getattr(callback, "__self__", None)))
        if place is None:
            births = len(self._tasks)
            place = self._place(callback)
            if len(self._tasks) > births:
                self._newborn.add(number)
        if context is None:
            context = copy_context()
        handle = _Handle((place, number, callback, args, context, self._now))
        insort(self._ready, handle)
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
        if context is None:
            context = copy_context()
        place = self._places.get(id(getattr(callback, "__self__", None)))
        if place is None:
            place = self._place(callback)
        handle = _Handle((place, next(self._count), callback, args, context, when))
        heapq.heappush(self._timers, (when, handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._on_error(context)

    def _place(self, callback: Callable[..., object]) -> float:
        """Return where among the ready a callback stands: at its task's."""
        owner: Any = getattr(callback, "__self__", None)
        if isinstance(owner, _asyncio.CancelScope):
            owner = getattr(owner, "_host_task", None)
        place = self._places.get(id(owner))
        if place is None:
            if not isinstance(owner, asyncio.Task):
                return _NOBODY
            place = self._random() if self._favours else float(len(self._tasks))
            self._places[id(owner)] = place
            self._tasks.append(owner)
        return place


# What is asked for at nearly every step: what runs, of which Python 3.11 asks the system then
# whether this is still the process that it was, and what a lock of asyncio's runs on; and anyio,
# which makes the same scopes and events each time.  None of these modules is one from which
# another takes a name for good.
_ASYNCIO: Final = {
    "get_running_loop": (asyncio, asyncio.events, _asyncio),
    "_get_running_loop": (asyncio, asyncio.events),
    "current_task": (asyncio, asyncio.tasks, _asyncio),
}
_ANYIO: Final = {
    "get_async_backend": (_synchronization, _tasks, lowlevel),
    "CancelScope": (anyio, _tasks),
    "Event": (anyio, _synchronization),
    "_task_states": (_asyncio,),
    "_get_loop": (mixins._LoopBoundMixin,),
}


@contextmanager
def _known(loop: SeededLoop) -> Iterator[None]:
    """Have those told at once who ask what runs, while this loop does."""
    known: dict[str, object] = {
        "get_async_backend": repeat(_asyncio.AsyncIOBackend).__next__,
        "CancelScope": _asyncio.CancelScope,
        "Event": _asyncio.Event,
        "_task_states": {},
        "_get_loop": repeat(loop).__next__,
    }
    asked: dict[str, tuple[Any, ...]] = _ANYIO
    if sys.version_info < (3, 12):
        known["get_running_loop"] = known["_get_running_loop"] = repeat(loop).__next__
        known["current_task"] = partial(vars(asyncio.tasks)["_current_tasks"].get, loop)
        asked = _ANYIO | _ASYNCIO
    before = [(of, name, getattr(of, name)) for name, asking in asked.items() for of in asking]
    for of, name, _ in before:
        setattr(of, name, known[name])
    try:
        yield
    finally:
        for of, name, as_it_was in before:
            setattr(of, name, as_it_was)
