"""What one timer for many deadlines has to keep of `asyncio.timeout`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest

from skycore_async.transports.deadlines import Deadline, Deadlines

pytestmark = pytest.mark.anyio

SOON, LATE = 0.01, 60.0  # seconds


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone."""
    return "asyncio"


async def forever() -> None:
    await asyncio.Event().wait()


async def inside(
    deadlines: Deadlines, timeout: float, work: Callable[[], Awaitable[None]] = forever
) -> Deadline:
    """Work inside a deadline and return it; what is left of its cancelling is an error."""
    with Deadline(deadlines, timeout) as deadline:
        await work()
    task = asyncio.current_task()
    assert task
    assert not task.cancelling()
    return deadline


async def test_what_takes_too_long_is_cancelled_and_that_ends_there() -> None:
    """The task goes on after the `with`, and knows that its time had passed."""
    assert (await inside(Deadlines(), SOON)).has_passed


async def test_what_is_slow_to_end_is_cancelled_once() -> None:
    """Whoever tidies up has the time for it."""
    tidied = []

    async def tidy() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(SOON)
            tidied.append(True)
            raise

    assert (await inside(Deadlines(), SOON, tidy)).has_passed
    assert tidied


async def test_what_is_in_time_hears_nothing() -> None:
    """Where the timer goes off for one that is gone, nobody is cancelled."""
    deadlines = Deadlines()
    assert not (await inside(deadlines, SOON, anyio.lowlevel.checkpoint)).has_passed
    await asyncio.sleep(2 * SOON)


@pytest.mark.parametrize("order", [(LATE, SOON), (SOON, 2 * SOON), (SOON, SOON)], ids=str)
async def test_each_of_many_has_its_own_time(order: tuple[float, float]) -> None:
    """Whichever of two was begun first, the timer goes off for the earlier, and again."""
    deadlines = Deadlines()
    first, second = (asyncio.create_task(inside(deadlines, timeout)) for timeout in order)
    assert (await second).has_passed
    if order[0] == LATE:
        await asyncio.sleep(0)
        assert not first.done()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    else:
        assert (await first).has_passed


@pytest.mark.parametrize("wait", [0, 2 * SOON], ids=["in time", "with the deadline"])
async def test_a_cancellation_of_anyone_elses_goes_on(wait: float) -> None:
    """What the caller cancels is cancelled, though its time has passed as well."""

    async def stubborn() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.wait_for(asyncio.shield(asyncio.sleep(2 * SOON)), None)
            raise

    task = asyncio.create_task(inside(Deadlines(), SOON, stubborn))
    await asyncio.sleep(wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_is_not_taken_for_the_end() -> None:
    """What is raised where the time has passed is raised on."""

    async def broken() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            raise OSError("broken") from None

    with pytest.raises(OSError, match="broken"):
        await inside(Deadlines(), SOON, broken)


async def test_a_scope_of_the_callers_ends_as_it_would() -> None:
    """Inside an anyio scope that is cancelled, it is the scope that ends."""
    with anyio.move_on_after(SOON) as scope:
        await inside(Deadlines(), LATE)
    assert scope.cancelled_caught


async def test_stopped_it_leaves_no_timer() -> None:
    """Of what nobody waits for, the event loop keeps nothing."""
    deadlines = Deadlines()
    await inside(deadlines, LATE, anyio.lowlevel.checkpoint)
    timer = deadlines._timer
    assert timer
    deadlines.stop()
    deadlines.stop()
    assert timer.cancelled()
