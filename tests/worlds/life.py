"""One process, from its start to its end or its crash, on asyncio or trio.

Strategy: a process is a coroutine that is run by an event loop of its own, from the time
at which the last process ended.  Its worker threads are steps of that loop: the work of a thread
is one step, after a delay that is drawn.

Rules:

* A crash comes between two steps.  Then all tasks that still run are cancelled, as at the end of
  any event loop; what they do then reaches neither the provider nor the next process.
* The work of a thread is done even if nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import Any, Final, TypeVar
from unittest import mock

import anyio
import anyio.to_thread
import attrs
import sniffio
from anyio.lowlevel import checkpoint

from skycore_async.ledger.sqlite import opt_out_sharing

from .loop import Crashed, SeededLoop, Stuck

T = TypeVar("T")

MOST_STEPS: Final = 300_000
LONGEST: Final = 30_000.0  # seconds that a process may take
_SOME: Final = 0.2
_LATE: Final = 0.05  # of the times at which it goes on, where it is late at all
_SHORTEST: Final = math.log(1e-3)  # of the seconds that a thread takes


@attrs.frozen(kw_only=True)
class Life:
    """How a process is run: from `start` on, and `on_step` says at each step whether it ends."""

    chance: Random
    start: float
    favours: bool
    thread: float  # seconds at most that a thread takes
    lags: float  # seconds at most by which it goes on too late, now and then
    on_clock: Callable[[Callable[[], float]], None]  # is given what tells its time
    on_step: Callable[[], bool]
    on_error: Callable[[str], None]

    def run(self, backend: str, main: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Run `main`, and return whether it came to its end; False where it crashed.

        Raises Stuck where it never would, and what `main` raises.
        """
        with _threads_as_steps(self.chance, math.log(self.thread)):
            return _on_trio(self, main) if backend == "trio" else _on_asyncio(self, main)

    def lag(self) -> float:
        """Draw by how many seconds it goes on too late, as a computer that is busy would."""
        return self.lags * self.chance.random() if self.chance.random() < _LATE else 0.0


async def _in_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with anyio.move_on_after(LONGEST) as scope:
        await main()
    if scope.cancelled_caught:
        raise Stuck("the process did not end")


def _on_asyncio(life: Life, main: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    def on_error(context: dict[str, Any]) -> None:
        life.on_error(f"{context.get('message')}: {context.get('exception')!r}")

    loop = SeededLoop(  # type: ignore[abstract]
        life.chance,
        start=life.start,
        favours=life.favours,
        lag=life.lag if life.lags else None,
        on_step=life.on_step,
        on_error=on_error,
    )
    life.on_clock(loop.time)
    with mock.patch.object(sniffio.thread_local, "name", "asyncio"):  # which asks no further
        try:
            loop.run(_in_time(main), most=MOST_STEPS)
        except Crashed:
            return False
    return True


def _on_trio(life: Life, main: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    import trio
    import trio.testing
    from trio._core import _run

    clock = trio.testing.MockClock(autojump_threshold=0)
    autojump = clock._autojump

    def jump() -> None:
        autojump()
        clock.jump(life.lag())

    if life.lags:
        clock._autojump = jump  # type: ignore[method-assign]
    clock.jump(life.start)
    life.on_clock(clock.current_time)
    crashed = False
    scope = trio.CancelScope()

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: Any) -> None:
            nonlocal crashed
            if not crashed and life.on_step():
                crashed = True
                scope.cancel()

    async def all_of_it() -> None:
        with scope:
            await _in_time(main)

    with (
        mock.patch.object(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", new=True),
        mock.patch.object(_run, "_r", Random(life.chance.random())),
    ):
        try:
            trio.run(all_of_it, clock=clock, instruments=[Steps()])
        except Exception:
            if not crashed:  # what comes after a crash, nobody sees
                raise
    return not crashed


@contextlib.contextmanager
def _threads_as_steps(chance: Random, longest: float) -> Iterator[None]:
    """Have what is for worker threads done in steps of the event loop."""

    def lasts() -> float:
        return math.exp(chance.uniform(_SHORTEST, longest))

    async def run_sync(
        work: Callable[..., T], *args: Any, abandon_on_cancel: bool = False, limiter: Any = None
    ) -> T:
        if chance.random() < _SOME:  # have a step of their own before they begin, as all might
            await checkpoint()
        loop = asyncio._get_running_loop()
        with anyio.CancelScope(shield=not abandon_on_cancel):
            if loop is None:
                await anyio.sleep(lasts())
                return work(*args)
            ended: asyncio.Future[T] = loop.create_future()
            loop.call_later(lasts(), _finish, ended, work, args)
            return await ended
        raise AssertionError("this scope is never cancelled")

    with (
        mock.patch.object(anyio.to_thread, "run_sync", run_sync),
        # To compare a ledger with the list takes no time, or the next one would wait, unseen.
        mock.patch.object(opt_out_sharing, "now", float),
    ):
        yield


def _finish(ended: asyncio.Future[T], work: Callable[..., T], args: tuple[Any, ...]) -> None:
    try:
        result = work(*args)
    except Exception as error:  # noqa: BLE001 - it is for who waits for the thread
        if not ended.done():
            ended.set_exception(error)
    else:
        if not ended.done():
            ended.set_result(result)
