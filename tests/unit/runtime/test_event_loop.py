"""The event loop and its time, on either backend."""

from __future__ import annotations

from functools import partial

import anyio
import anyio.to_thread
import pytest

from skycore_async.runtime import event_loop as module
from skycore_async.runtime.event_loop import event_loop, is_running, now

pytestmark = pytest.mark.anyio


async def test_the_time_is_the_event_loops() -> None:
    """It is what anyio gives, whose deadlines go by it."""
    before = anyio.current_time()
    assert before <= now() <= anyio.current_time()


async def test_the_event_loop_is_the_same_in_each_of_its_tasks() -> None:
    """And it has an identity of its own."""
    found = []

    async def look() -> None:
        found.append(event_loop())

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        group.start_soon(look)
    assert found[0] is found[1] is event_loop()


async def test_an_event_loop_runs_until_it_ends(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of another thread may run, and that of another process does not run here."""

    async def of_another_thread() -> object:
        return event_loop()

    other = await anyio.to_thread.run_sync(
        partial(anyio.run, of_another_thread, backend=anyio_backend)
    )
    here = event_loop()
    assert is_running(here)
    assert not is_running(other)
    monkeypatch.setattr(module, "_forks", module._forks + 1)
    assert not is_running(here)
    assert is_running(event_loop())


async def test_a_forked_process_has_another_event_loop_than_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the same object there, and so are the sockets within it."""
    of_parent = event_loop()
    monkeypatch.setattr(module, "_forks", module._forks)  # to be as it was after this
    module._in_child()
    of_child = event_loop()
    assert of_parent != of_child == event_loop()
    module._in_child()
    assert of_child != event_loop() != of_parent
