"""A place among those in flight, and then a turn: in that order, and both or neither."""

from __future__ import annotations

import anyio
import pytest

from skycore_async.gate import Gate

pytestmark = pytest.mark.anyio


class Turns:
    """A limiter that gives turns while `free`, and numbers them; the number is the time."""

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
        """Nothing here is slow."""

    def _give(self) -> float:
        self.given += 1
        return float(self.given)


async def test_no_turn_is_taken_before_there_is_a_place() -> None:
    """Turns that were kept for a place would all be used when places come free together."""
    turns = Turns()
    gate = Gate(turns, places=2)
    assert [gate.enter_now() for _ in range(4)] == [1.0, 2.0, None, None]
    entered: list[float] = []

    async def enter() -> None:
        entered.append(await gate.enter())

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(enter)
        await anyio.wait_all_tasks_blocked()
        assert turns.given == 2
        gate.leave()
        await anyio.wait_all_tasks_blocked()
        assert entered == [3.0]
        gate.leave()
    assert entered == [3.0, 4.0]


async def test_without_a_turn_at_once_no_place_is_kept() -> None:
    """Who may not begin yet keeps nobody out."""
    turns = Turns()
    gate = Gate(turns, places=1)
    turns.free = anyio.Event()
    assert gate.enter_now() is None
    turns.free.set()
    assert gate.enter_now() == 1.0


@pytest.mark.parametrize("waits_for", ["a place", "a turn"])
async def test_who_is_cancelled_while_waiting_holds_nothing(waits_for: str) -> None:
    """Neither a place nor a turn is lost with a caller who goes."""
    turns = Turns()
    gate = Gate(turns, places=1)
    if waits_for == "a place":
        assert gate.enter_now() == 1.0
    else:
        turns.free = anyio.Event()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(gate.enter)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    turns.free.set()
    if waits_for == "a place":
        gate.leave()
    given = turns.given
    assert gate.enter_now() == given + 1
    assert gate.enter_now() is None
