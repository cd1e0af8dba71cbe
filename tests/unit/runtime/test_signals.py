"""What tells many tasks at once that something has ended."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from skycore_async.runtime.signals import signals
from tests.support.ledger_cases import settle

pytestmark = pytest.mark.anyio


async def test_all_who_wait_go_on_once_it_is_given_and_who_comes_later_does_not_wait() -> None:
    """In the order in which they came; given again it does nothing."""
    signal, woken = signals()(), []

    async def wait(number: int) -> None:
        await signal.wait()
        woken.append(number)

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(wait, number)
            await settle()
        assert woken == []
        signal.set()
        signal.set()
    assert sorted(woken) == [0, 1, 2]
    with anyio.fail_after(1):
        await signal.wait()


async def test_a_cancelled_waiter_does_not_hold_up_the_others() -> None:
    """A cancelled waiter is not woken, and the others are."""
    signal, woken = signals()(), []

    async def wait(number: int, scope: anyio.CancelScope) -> None:
        with scope:
            await signal.wait()
            woken.append(number)

    scopes = [anyio.CancelScope() for _ in range(3)]
    async with anyio.create_task_group() as group:
        for number, scope in enumerate(scopes):
            group.start_soon(wait, number, scope)
        await settle()
        scopes[1].cancel()
        await settle()
        signal.set()
    assert sorted(woken) == [0, 2]
