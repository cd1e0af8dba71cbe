"""Admission takes a slot among the messages in flight, and then a start: both or neither."""

from __future__ import annotations

import anyio
import pytest

from skycore_async.sending.admission import Admission

pytestmark = pytest.mark.anyio


class CountingLimiter:
    """A limiter that grants starts while `free` is set; the n-th start has the time n."""

    def __init__(self) -> None:
        self.free = anyio.Event()
        self.free.set()
        self.given = 0

    def start_now(self) -> float | None:
        return self._give() if self.free.is_set() else None

    async def wait(self) -> float:
        await self.free.wait()
        return self._give()

    def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
        """Ignore throttling, of which these tests have none."""

    def _give(self) -> float:
        self.given += 1
        return float(self.given)


async def test_no_start_is_taken_before_there_is_a_slot() -> None:
    """Admission asks the limiter for a start only once a slot is free."""
    limiter = CountingLimiter()
    admission = Admission(limiter, slots=2)
    assert [admission.acquire_now() for _ in range(4)] == [1.0, 2.0, None, None]
    entered: list[float] = []

    async def acquire() -> None:
        entered.append(await admission.acquire())

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(acquire)
        await anyio.wait_all_tasks_blocked()
        assert limiter.given == 2
        admission.release()
        await anyio.wait_all_tasks_blocked()
        assert entered == [3.0]
        admission.release()
    assert entered == [3.0, 4.0]


async def test_without_a_start_at_once_no_slot_is_kept() -> None:
    """`acquire_now` gives its slot back when the limiter grants no start."""
    limiter = CountingLimiter()
    admission = Admission(limiter, slots=1)
    limiter.free = anyio.Event()
    assert admission.acquire_now() is None
    limiter.free.set()
    assert admission.acquire_now() == 1.0


@pytest.mark.parametrize("waits_for", ["a slot", "a start"])
async def test_a_cancelled_wait_for_admission_holds_nothing(waits_for: str) -> None:
    """A caller cancelled while waiting for admission keeps neither a slot nor a start."""
    limiter = CountingLimiter()
    admission = Admission(limiter, slots=1)
    if waits_for == "a slot":
        assert admission.acquire_now() == 1.0
    else:
        limiter.free = anyio.Event()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(admission.acquire)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    limiter.free.set()
    if waits_for == "a slot":
        admission.release()
    given = limiter.given
    assert admission.acquire_now() == given + 1
    assert admission.acquire_now() is None
