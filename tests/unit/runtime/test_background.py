"""Background tasks: no caller breaks one off, and closing leaves nothing behind.

Strategy: tasks are held and let go by events, never by time.  What becomes of
tasks whose event loop ends is seen from outside, by running one.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from skycore_async.runtime.background import BackgroundTasks

both_backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Work:
    """Tasks that run until let go, and a finalizer that notes what ran before it."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.log: list[str] = []
        self.tasks = BackgroundTasks(self.finalize)

    async def task(self, name: str) -> None:
        try:
            self.log.append(f"{name} began")
            await self.go.wait()
            self.log.append(f"{name} ended")
        except BaseException:
            self.log.append(f"{name} broken off")
            raise

    async def finalize(self) -> None:
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        self.log.append("finalized")


async def settle() -> None:
    """Let every task come as far as it can."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def cancel_by_scope(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Begin `run()` and cancel it by the scope around it."""
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await settle()
        group.cancel_scope.cancel()


async def cancel_natively(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Begin `run()` and cancel its task."""
    task = asyncio.create_task(run())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.fixture(params=["scope", "native"])
def cancelled(
    request: pytest.FixtureRequest, anyio_backend: str
) -> Callable[[Callable[[], Coroutine[Any, Any, None]]], Coroutine[Any, Any, None]]:
    """Begin something and cancel it, in either way."""
    if request.param == "scope":
        return cancel_by_scope
    if anyio_backend != "asyncio":
        pytest.skip("trio has cancel scopes alone")
    return cancel_natively


@pytest.mark.anyio
async def test_a_task_survives_the_cancellation_of_its_starter(
    cancelled: Callable[..., Coroutine[Any, Any, None]],
) -> None:
    """Who started a task may be cancelled; the task runs to its own end."""
    work = Work()

    async def caller() -> None:
        work.tasks.start(work.task, "first")
        await anyio.lowlevel.checkpoint()
        work.tasks.start(work.task, "second")
        await anyio.sleep_forever()

    await cancelled(caller)
    assert sorted(work.log) == ["first began", "second began"]
    work.go.set()
    await work.tasks.close()
    assert sorted(work.log[2:4]) == ["first ended", "second ended"]
    assert work.log[4:] == ["finalized"]


@pytest.mark.anyio
async def test_closing_waits_then_finalizes_once_however_often() -> None:
    """Every closer waits for what runs and for the finalizer; a later one waits for nothing."""
    work = Work()
    work.tasks.start(work.task, "one")

    async def close() -> None:
        await work.tasks.close()
        work.log.append("closed")

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        group.start_soon(close)
        await settle()
        assert work.tasks.closed
        assert work.log == ["one began"]
        work.go.set()
    await close()
    assert work.log == ["one began", "one ended", "finalized", "closed", "closed", "closed"]


@pytest.mark.anyio
async def test_a_cancelled_closer_breaks_nothing_off(
    cancelled: Callable[..., Coroutine[Any, Any, None]],
) -> None:
    """The closer may go; the tasks end, the finalizer runs, and another may wait for it."""
    work = Work()
    work.tasks.start(work.task, "one")
    await cancelled(work.tasks.close)
    assert work.log == ["one began"]
    work.go.set()
    await work.tasks.close()
    assert work.log == ["one began", "one ended", "finalized"]


@pytest.mark.anyio
async def test_a_closer_cancelled_at_the_finalizer_does_not_break_it_off(
    cancelled: Callable[..., Coroutine[Any, Any, None]],
) -> None:
    """Cancelling the closer does not cancel the finalizer."""
    begun, go, log = anyio.Event(), anyio.Event(), list[str]()

    async def finalize() -> None:
        begun.set()
        await go.wait()
        log.append("finalized")

    tasks = BackgroundTasks(finalize)
    await cancelled(tasks.close)
    assert begun.is_set()
    go.set()
    await tasks.close()
    assert log == ["finalized"]


@pytest.mark.anyio
async def test_closing_without_tasks_runs_the_finalizer() -> None:
    """Closing without any task runs the finalizer once."""
    work = Work()
    await work.tasks.close()
    await work.tasks.close()
    assert work.log == ["finalized"]


@pytest.mark.anyio
async def test_tasks_are_begun_in_one_task_and_closed_in_another() -> None:
    """Tasks may be started in one task and closed in another."""
    work = Work()

    async def use() -> None:
        work.tasks.start(work.task, "one")

    for step in (use, work.tasks.close):
        async with anyio.create_task_group() as group:
            group.start_soon(step)
            await settle()
            work.go.set()
    assert work.log == ["one began", "one ended", "finalized"]


@pytest.mark.anyio
async def test_nothing_starts_after_closing() -> None:
    """After closing, and while it still waits, starting is a clear error."""
    work = Work()
    work.tasks.check()
    work.tasks.start(work.task, "one")
    async with anyio.create_task_group() as group:
        group.start_soon(work.tasks.close)
        await settle()
        with pytest.raises(RuntimeError, match="this client is closed"):
            work.tasks.start(work.task, "two")
        work.go.set()
    with pytest.raises(RuntimeError, match="this client is closed"):
        work.tasks.check()


@both_backends
def test_a_second_event_loop_is_refused_even_after_the_first_has_ended(backend: str) -> None:
    """Another event loop is named as the reason; closing what has ended there is no error."""
    work = Work()

    async def use() -> None:
        work.tasks.start(work.task, "one")
        await settle()

    anyio.run(use, backend=backend)
    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        anyio.run(use, backend=backend)
    anyio.run(work.tasks.close, backend=backend)
    assert work.log == ["one began", "one broken off", "finalized"]


@pytest.mark.anyio
async def test_closing_from_another_event_loop_is_refused_while_the_first_runs(
    anyio_backend: str,
) -> None:
    """It could only hang there, and it leaves the client open where it belongs."""
    work = Work()
    work.tasks.start(work.task, "one")

    def elsewhere() -> None:
        anyio.run(work.tasks.close, backend=anyio_backend)

    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        await anyio.to_thread.run_sync(elsewhere)
    work.tasks.check()
    work.go.set()
    await work.tasks.close()


@pytest.mark.slow
@both_backends
def test_the_end_of_the_event_loop_cancels_and_finalizes(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An event loop that ends without closing cancels the tasks and runs the finalizer."""
    caplog.set_level(logging.ERROR, "asyncio")  # a slow machine is warned of there
    work = Work()

    async def forget() -> None:
        work.tasks.start(work.task, "one")
        await settle()
        work.tasks.start(work.task, "two")
        await settle()

    anyio.run(forget, backend=backend, backend_options=debugging(backend))
    gc.collect()
    assert work.log[:2] == ["one began", "two began"]
    assert sorted(work.log[2:4]) == ["one broken off", "two broken off"]
    assert work.log[4:] == ["finalized"]
    assert work.tasks.closed
    assert not caplog.records


@pytest.mark.slow
@both_backends
def test_an_owner_that_is_dropped_lives_until_the_event_loop_ends(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Tasks whose owner is dropped run until the event loop ends."""
    caplog.set_level(logging.ERROR, "asyncio")  # a slow machine is warned of there
    log: list[str] = []

    async def finalize() -> None:
        log.append("finalized")

    async def drop() -> None:
        BackgroundTasks(finalize).start(anyio.lowlevel.checkpoint)
        await settle()
        gc.collect()
        await settle()
        assert not log

    anyio.run(drop, backend=backend, backend_options=debugging(backend))
    gc.collect()
    assert log == ["finalized"]
    assert not caplog.records


def debugging(backend: str) -> dict[str, Any]:
    return {"debug": True} if backend == "asyncio" else {}


@pytest.mark.anyio
async def test_a_task_that_raises_ends_no_other_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A task's exception ends no other task, and is logged by type and place alone."""
    work = Work()

    async def fail(to: str) -> None:
        raise ValueError(to)

    work.tasks.start(work.task, "one")
    work.tasks.start(fail, "15551234888")
    await settle()
    work.tasks.start(fail, "15551234888")
    work.tasks.start(work.task, "two")
    await settle()
    work.go.set()
    await work.tasks.close()
    assert [line for line in work.log if "broken" in line] == []
    assert work.log[-1] == "finalized"
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert (record.name, record.levelno) == ("skycore_async", logging.ERROR)
        assert record.exc_info is None
        assert "a background task raised ValueError" in record.getMessage()
        assert "in fail" in record.getMessage()
        assert "15551234888" not in caplog.text + repr(record.args)


@pytest.mark.anyio
async def test_a_finalizer_that_raises_hangs_no_closer(caplog: pytest.LogCaptureFixture) -> None:
    """A finalizer that raises is logged, and closing ends."""

    async def finalize() -> None:
        raise OSError

    tasks = BackgroundTasks(finalize)
    await tasks.close()
    assert "a background task raised OSError" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_cancellation_inside_one_task_ends_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A future that is cancelled under one task leaves the others running."""
    work = Work()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await future

    work.tasks.start(work.task, "one")
    work.tasks.start(wait)
    await settle()
    future.cancel()
    await settle()
    work.go.set()
    await work.tasks.close()
    assert work.log == ["one began", "one ended", "finalized"]
    assert not caplog.records


@pytest.fixture
def python_heeds_interrupts() -> Iterator[None]:
    """Have SIGINT handled as in a program of its own, where pytest-xdist has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_heeds_interrupts")
def test_an_interrupt_is_for_the_main_task() -> None:
    """Ctrl-C while trio runs a background task ends the program, and breaks nothing off."""
    log: list[str] = []

    async def main() -> None:
        work = Work()
        work.log = log

        async def interrupted() -> None:
            signal.raise_signal(signal.SIGINT)
            log.append("interrupted ended")
            work.go.set()

        work.tasks.start(work.task, "one")
        work.tasks.start(interrupted)
        try:
            await anyio.sleep_forever()
        finally:
            await work.tasks.close()

    with pytest.raises(KeyboardInterrupt):
        anyio.run(main, backend="trio")
    assert sorted(log[:2]) == ["interrupted ended", "one began"]
    assert log[2:] == ["one ended", "finalized"]


def test_an_owner_that_is_cancelled_before_it_ran_hangs_no_closer() -> None:
    """Closing after all tasks were cancelled does not hang."""
    work = Work()

    async def cancel_all() -> None:
        work.tasks.start(work.task, "one")
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with anyio.fail_after(5):
            await work.tasks.close()

    asyncio.run(cancel_all())
    assert work.tasks.closed
    assert not work.log
