"""What one thread at a time may use: nothing closes it under a thread that is at work with it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import anyio
import anyio.to_thread
import pytest

from skycore_async.runtime.one_thread import OneThread

pytestmark = pytest.mark.anyio


async def test_a_thread_is_closed_where_it_is_left_by_a_cancelled_scope() -> None:
    """Closing in a cancelled scope closes the thread."""
    threads, closed = OneThread(), threading.Event()
    with anyio.CancelScope() as left:
        left.cancel()
        await threads.close(closed.set, interrupt=pytest.fail)
    assert closed.is_set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_thread_is_closed_once_a_step_has_ended_that_nobody_waits_for() -> None:
    """A native `Task.cancel()` leaves the thread at work, which is interrupted."""
    threads, begun, may_end = OneThread(), threading.Event(), threading.Event()
    done: list[str] = []

    def step() -> None:
        begun.set()
        may_end.wait()
        done.append("step")

    waiting = asyncio.ensure_future(threads.run(step))
    await anyio.to_thread.run_sync(begun.wait)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    try:
        await threads.close(lambda: done.append("closed"), interrupt=may_end.set)
        assert done == ["step", "closed"]
    finally:
        may_end.set()
