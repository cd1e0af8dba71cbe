"""The event loop of worlds: the same in every version of Python, and never left waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from random import Random

import anyio
import anyio.lowlevel
import pytest

from .loop import Crashed, SeededLoop, Stuck

pytestmark = pytest.mark.unmeasured

Note = Callable[[object], None]


async def everything(note: Note) -> None:
    """Do what programs do: wait, wake others, hold locks, leave and be cancelled.

    By what is as it was in every version: not by anyio, nor by asyncio's locks or `gather`.
    """
    event = asyncio.Event()
    taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def worker(number: int) -> None:
        await asyncio.sleep(0.1 * (number % 3))
        note(("waits", number))
        await event.wait()
        note(("goes on", number))
        if not taken.done():
            taken.set_result(number)

    async def left() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            note("is left")
            await asyncio.sleep(0.5)
            note("has left")

    workers = [asyncio.create_task(worker(number)) for number in range(12)]
    others = {asyncio.create_task(left()) for _ in range(5)}
    await asyncio.sleep(0.35)
    event.set()
    note(await taken)
    for task in others:  # by their addresses, which are others in each process
        task.cancel()
    for task in workers:
        await task
    while not all(task.done() for task in others):  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.1)
    note(asyncio.get_running_loop().time())


def run(main: Callable[[Note], Awaitable[None]], seed: int, *, favours: bool = False) -> list[str]:
    notes: list[str] = []
    steps = 0

    def on_step() -> bool:
        nonlocal steps
        steps += 1
        return False

    async def noted() -> None:
        await main(lambda what: notes.append(f"{steps} {what}"))

    loop = SeededLoop(Random(seed), favours=favours, on_step=on_step)  # type: ignore[abstract]
    loop.run(noted(), most=10_000)
    return notes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("favours", "digest"),
    [(False, "7585a97a90e0059d"), (True, "10fef11d91c8ef58")],
)
def test_the_order_is_the_same_everywhere(favours: bool, digest: str) -> None:
    """A seed gives this order of steps, in each version of Python and in each process."""
    notes = [run(everything, seed, favours=favours) for seed in range(5)]
    assert sha256(repr(notes).encode()).hexdigest()[:16] == digest


def test_another_seed_is_another_order() -> None:
    """Nearly every seed has an order of its own."""
    assert len({tuple(run(everything, seed)) for seed in range(20)}) == 20


def test_who_waits_for_nothing_is_told() -> None:
    """Where nothing will ever happen again, the loop says so, and who waits is cancelled."""

    async def forever(note: Note) -> None:
        try:
            await anyio.Event().wait()
        finally:
            note("cancelled")

    with pytest.raises(Stuck, match="nothing will ever happen"):
        run(forever, 1)


def test_who_never_ends_is_told() -> None:
    """A loop that goes round and round is ended after so many steps."""

    async def round_and_round(note: Note) -> None:
        while True:
            await anyio.lowlevel.checkpoint()

    with pytest.raises(Stuck, match="no end"):
        run(round_and_round, 1)


def test_a_crash_comes_between_two_steps() -> None:
    """What was under way at a crash is cancelled before the loop is left."""
    ended: list[str] = []
    steps = iter(range(1000))

    def on_step() -> bool:
        return next(steps) == 20

    async def child() -> None:
        try:
            await anyio.sleep(1000)
        finally:
            ended.append("child")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(child)
            while True:  # noqa: ASYNC110 - until the crash
                await anyio.sleep(1)

    loop = SeededLoop(Random(1), on_step=on_step)  # type: ignore[abstract]
    with pytest.raises(Crashed):
        loop.run(main(), most=1000)
    assert ended == ["child"] * 3


def test_what_waits_may_be_woken_too_late() -> None:
    """Where the loop lags, all whose time has come meanwhile go on at the later one."""
    woken: list[tuple[str, float]] = []

    async def wait(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        await asyncio.gather(*(wait(*each) for each in (("a", 1.0), ("b", 1.25), ("c", 2.0))))

    loop = SeededLoop(Random(1), lag=lambda: 0.5)  # type: ignore[abstract]
    loop.run(main(), most=1000)
    assert sorted(woken) == [("a", 1.5), ("b", 1.5), ("c", 2.5)]
