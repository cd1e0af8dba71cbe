"""The event loop and its time, on either backend."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import anyio
import anyio.to_thread
import pytest
import trio

from skycore_async.runtime import forks
from skycore_async.runtime.event_loop import HomeLoop, event_loop, now

pytestmark = pytest.mark.anyio


async def test_the_time_is_the_event_loops() -> None:
    """It is the time of anyio, which is also the time of anyio's deadlines."""
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
    """A loop of another thread may be running; one of another process is not."""
    other = await anyio.to_thread.run_sync(partial(anyio.run, made, backend=anyio_backend))
    here = HomeLoop()
    assert here.is_running()
    assert not other.is_running()
    monkeypatch.setattr(forks, "count", forks.count + 1)
    assert not here.is_running()
    assert HomeLoop().is_running()


async def test_a_forked_process_has_another_event_loop_than_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the same object there, and so are the sockets within it."""
    of_parent = event_loop()
    monkeypatch.setattr(forks, "count", forks.count)  # to be as it was after this
    forks.in_child()
    of_child = event_loop()
    assert of_parent != of_child == event_loop()
    forks.in_child()
    assert of_child != event_loop() != of_parent


async def is_here(home: HomeLoop) -> bool:
    return home.is_here()


async def made() -> HomeLoop:
    return HomeLoop()


async def test_a_task_is_of_the_event_loop_in_which_something_began(anyio_backend: str) -> None:
    """`is_here` is true in tasks of the same loop, and false in other threads."""
    home = HomeLoop()
    async with anyio.create_task_group() as group:
        group.start_soon(is_here, home)
    assert home.is_here()
    with ThreadPoolExecutor() as threads:
        found = threads.submit(lambda: anyio.run(is_here, home, backend=anyio_backend)).result()
    assert found is False


class Nameless:
    """An event loop of asyncio's that says nothing of its thread, as a later release may."""

    def __init__(self, loop: object) -> None:
        self._is = loop

    def __eq__(self, other: object) -> bool:
        return other is self._is

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_event_loop_that_does_not_tell_its_thread_is_known_by_asyncio(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread is the quick way alone, and no promise of asyncio's."""
    home = HomeLoop()
    monkeypatch.setattr(home, "_loop", Nameless(asyncio.get_running_loop()))
    assert home.is_here()
    with ThreadPoolExecutor() as threads:
        found = threads.submit(lambda: anyio.run(is_here, home, backend=anyio_backend)).result()
    assert found is False
    assert trio.run(is_here, home) is False


async def test_an_event_loop_is_not_that_of_a_forked_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A forked process is not in its parent's event loop."""
    home = HomeLoop()
    monkeypatch.setattr(forks, "count", forks.count + 1)
    assert not home.is_here()
    assert HomeLoop().is_here()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_of_trios_within_one_of_asyncios_is_of_another_event_loop(
    anyio_backend: str,
) -> None:
    """However the one came to be run by the other."""
    assert trio.run(is_here, HomeLoop()) is False


def test_nothing_is_in_an_event_loop_that_has_ended(anyio_backend_name: str) -> None:
    """One that began in it belongs to no other, also of the same thread."""
    home = anyio.run(made, backend=anyio_backend_name)
    assert anyio.run(is_here, home, backend=anyio_backend_name) is False
    with pytest.raises(RuntimeError):
        home.is_here()


def test_an_event_loop_that_goes_on_in_another_thread_is_there_alone() -> None:
    """As one that is set up in the main thread, and then runs in one of its own."""
    loop = asyncio.new_event_loop()
    home = loop.run_until_complete(made())
    is_at_work, may_end = threading.Event(), threading.Event()

    async def at_work() -> bool:
        is_at_work.set()
        may_end.wait(30)  # in the middle of a step
        return home.is_here()

    with ThreadPoolExecutor() as threads:
        there = threads.submit(loop.run_until_complete, at_work())
        assert is_at_work.wait(30)
        try:
            assert asyncio.run(is_here(home)) is False
        finally:
            may_end.set()
        assert there.result() is True
    loop.close()
