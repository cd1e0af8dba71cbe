"""Background tasks: tasks that must outlive the call that started them.

Strategy: each client has one background task, started at the first use.  It holds an
ordinary task group and waits until it is closed; only the event loop itself cancels the
tasks in it.  So a caller that is cancelled, by an anyio scope or a native `Task.cancel()`,
never interrupts an HTTP exchange that it started.  And the client may be opened in one task
and closed in another, since no cancel scope of the caller stays open.

Rules:

* Closing lets all tasks finish and then runs the finalizer in the same background task, so
  that a caller that is cancelled while it closes cannot interrupt the finalizer either.
* One task never ends another: an exception that it raises by accident is logged, with its
  type and place only, since its text and locals may hold a key or a number.
* Ctrl-C is for the main task.  trio raises KeyboardInterrupt in any task that is not protected;
  in a background task it would end all the others, and the event loop.
* Background tasks belong to the event loop that started them; in another event loop, and in a
  forked process, they raise RuntimeError.
"""

from __future__ import annotations

import asyncio
import functools
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

import anyio
import anyio.abc

from .event_loop import Clock, HomeLoop, RunningClock, clock, is_trios, wrong_event_loop
from .logs import log

# asyncio keeps no reference of its own to a task.
_background: Final[set[asyncio.Task[None]]] = set()


class BackgroundTasks:
    """Run tasks until closed, even if the tasks that started them are cancelled.

    `finalize` is awaited once: after closing, when all tasks have finished, or when the event
    loop ends before that.  `of` names in errors what the tasks belong to.
    """

    def __init__(self, finalize: Callable[[], Awaitable[None]], *, of: str = "client") -> None:
        self._finalize = finalize
        self._of = of
        self._life: _Lifetime | None = None
        self.clock: Clock = RunningClock()
        self.at_closing: set[Callable[[], None]] = set()  # called where closing begins
        self.closed = False

    def start(self, run: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Start `run(*args)` as a task; it should not raise.

        Raises RuntimeError after closing, and in another event loop than before.
        """
        self.check()
        life = self._life or self._begin()
        life.start(run, *args)

    def check(self) -> None:
        """Raise RuntimeError after closing, and in another event loop than before."""
        if self._life is not None and not self._life.home.is_here():
            raise wrong_event_loop(self._of)
        if self.closed:
            raise RuntimeError(f"this {self._of} is closed")

    @property
    def is_open(self) -> bool:
        """Whether a background task was started and is not closed yet."""
        return self._life is not None and not self.closed

    async def close(self) -> None:
        """Refuse new tasks, wait for the running ones, and finalize; a second call only waits.

        Raises RuntimeError in another event loop than before, unless that one has ended.
        """
        life = self._life or self._begin()
        if life.finished.is_set():
            return
        if not life.home.is_here():
            raise wrong_event_loop(self._of)
        self._end(life)
        await life.finished.wait()

    def end(self) -> None:
        """Refuse new tasks, and finalize once the running ones have ended, which may call this."""
        self._end(self._life or self._begin())

    def _end(self, life: _Lifetime) -> None:
        self.closed = True
        for tell in tuple(self.at_closing):
            tell()
        life.closing.set()

    def _begin(self) -> _Lifetime:
        life = self._life = _Lifetime()
        self.clock = clock()
        if is_trios():
            import trio  # noqa: PLC0415 - not installed with asyncio alone

            trio.lowlevel.spawn_system_task(self._live, life)
            return life
        task = asyncio.get_running_loop().create_task(self._live(life))
        _background.add(task)
        task.add_done_callback(lambda task: self._ended(task, life))
        return life

    def _ended(self, task: asyncio.Task[None], life: _Lifetime) -> None:
        _background.discard(task)
        # A task that is cancelled before its first step never runs its own `finally`.
        self.closed = True
        life.finished.set()

    async def _live(self, life: _Lifetime) -> None:
        try:
            await life.run()
        finally:
            self.closed = True
            with anyio.CancelScope(shield=True):
                await _guarded(self._finalize)
            life.finished.set()


class _Lifetime:
    """The time from the first task to the last, in the event loop in which it is made."""

    def __init__(self) -> None:
        self.closing = anyio.Event()
        self.finished = anyio.Event()
        self.home = HomeLoop()
        self._guarded: Callable[..., Coroutine[Any, Any, None]] = (
            _guarded_on_trio() if is_trios() else _guarded
        )
        self._group: anyio.abc.TaskGroup | None = None
        self._early: list[tuple[Callable[..., Awaitable[Any]], tuple[object, ...]]] = []

    def start(self, run: Callable[..., Awaitable[Any]], *args: object) -> None:
        if self._group is None:
            self._early.append((run, args))
        else:
            self._group.start_soon(self._guarded, run, *args)

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            self._group = group
            for run, args in self._early:
                group.start_soon(self._guarded, run, *args)
            self._early.clear()
            await self.closing.wait()


async def _guarded(run: Callable[..., Awaitable[Any]], *args: object) -> None:
    try:
        await run(*args)
    except* asyncio.CancelledError:
        pass  # raised any further, it would cancel all other tasks of the group
    except* Exception as failed:  # noqa: BLE001 - it has nobody else to go to
        _log_errors(failed.exceptions)


@functools.cache
def _guarded_on_trio() -> Callable[..., Coroutine[Any, Any, None]]:
    """Return `_guarded`, protected from KeyboardInterrupt."""
    import trio  # noqa: PLC0415 - as above

    return trio.lowlevel.enable_ki_protection(_guarded)


def _log_errors(errors: Iterable[Exception]) -> None:
    for error in errors:
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("a background task raised %s\n%s", type(error).__name__, where)
