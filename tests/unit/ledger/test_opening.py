"""Opening a ledger: cancellation, waiting for another process, and event loops."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from skycore_async import MemoryLedger, PostbackInbox, SQLiteLedger
from skycore_async.errors import ConfigurationError, LedgerError, LedgerInUse
from skycore_async.ledger.sqlite.file_lock import is_in_use
from skycore_async.ledger.sqlite.open_file import OpenFile, connect
from tests.support.ledger_cases import intent
from tests.support.ledger_owner import kill, opened_elsewhere, owner

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


class SlowConnect:
    """A `connect` that holds its thread until told."""

    def __init__(self) -> None:
        self.is_begun = threading.Event()
        self.may_go_on = threading.Event()

    def __call__(self, path: str) -> Any:
        self.is_begun.set()
        assert self.may_go_on.wait(20)
        return connect(path)

    async def until_begun(self) -> None:
        while not self.is_begun.is_set():
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_opening_that_is_cancelled_natively_leaves_it_free(path: Path) -> None:
    """An opening cancelled by `Task.cancel()` leaves the ledger free to be opened."""
    slow = SlowConnect()
    ledger = SQLiteLedger(path, connect=slow)
    task = asyncio.ensure_future(ledger.open())
    await slow.until_begun()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not ledger.is_open
    slow.may_go_on.set()
    async with ledger:
        assert await ledger.begin(intent()) is None
    assert opened_elsewhere(path) == "it has 1 messages"


async def test_an_opening_that_is_cancelled_leaves_it_free(path: Path) -> None:
    """An opening cancelled by a scope leaves the ledger free for another process."""
    slow = SlowConnect()
    ledger = SQLiteLedger(path, connect=slow)
    async with anyio.create_task_group() as group:
        group.start_soon(ledger.open)
        await slow.until_begun()
        group.cancel_scope.cancel()
    slow.may_go_on.set()
    await ledger.aclose()
    assert not ledger.is_open
    assert opened_elsewhere(path) == "it has 0 messages"


async def test_an_opening_that_everyone_left_closes_what_its_thread_opens(path: Path) -> None:
    """A cancelled opening closes what its thread opens later."""
    slow = SlowConnect()
    ledger = SQLiteLedger(path, connect=slow)
    async with anyio.create_task_group() as group:
        group.start_soon(ledger.open)
        await slow.until_begun()
        group.cancel_scope.cancel()
    slow.may_go_on.set()
    async with SQLiteLedger(path, open_timeout=20) as other:
        assert await other.begin(intent()) is None
    assert not ledger.is_open


async def test_who_comes_to_an_opening_that_is_given_up_has_it_open(path: Path) -> None:
    """A task that opens while another task's opening is cancelled gets the ledger open."""
    elsewhere = SQLiteLedger(path)
    await elsewhere.open()
    ledger = SQLiteLedger(path, open_timeout=20)
    leaving = anyio.CancelScope()

    async def leave() -> None:
        with leaving:
            await ledger.open()

    async with anyio.create_task_group() as group:
        group.start_soon(leave)
        while ledger._opening is None:
            await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        leaving.cancel()
        await anyio.lowlevel.checkpoint()
        group.start_soon(ledger.open)
        await elsewhere.aclose()
    assert await ledger.begin(intent()) is None
    await ledger.aclose()


async def test_one_of_two_who_open_it_may_be_cancelled(path: Path) -> None:
    """Of two tasks that open a ledger, one may be cancelled and the other gets it open."""
    slow = SlowConnect()
    ledger = SQLiteLedger(path, connect=slow)
    async with anyio.create_task_group() as group:
        leaving = anyio.CancelScope()

        async def leave() -> None:
            with leaving:
                await ledger.open()

        group.start_soon(leave)
        group.start_soon(ledger.open)
        await slow.until_begun()
        leaving.cancel()
        await anyio.lowlevel.checkpoint()
        slow.may_go_on.set()
    assert ledger.is_open
    await ledger.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_one_who_is_cancelled_when_it_has_just_opened_leaves_it_free(path: Path) -> None:
    """A `Task.cancel()` just after the opening leaves the ledger closed and free."""
    ledger = SQLiteLedger(path)
    task = asyncio.ensure_future(ledger.open())
    while not ledger.is_open:
        await anyio.lowlevel.checkpoint()
    if task.cancel():
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not ledger.is_open
    async with ledger:
        assert (await ledger.summary()).total == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_closing_that_is_cancelled_natively_closes_all_the_same(path: Path) -> None:
    """A cancelled closing still closes, and the ledger can be opened at once."""
    ledger = SQLiteLedger(path)
    await ledger.open()
    task = asyncio.ensure_future(ledger.aclose())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with ledger:
        assert await ledger.begin(intent()) is None
    assert opened_elsewhere(path) == "it has 1 messages"


async def test_what_kept_it_from_opening_is_raised_to_everyone_and_may_be_mended(
    path: Path,
) -> None:
    """An opening error is raised to all who wait, and a later opening tries again."""
    ledger = SQLiteLedger(path.parent / "missing" / "ledger.db")
    errors = []

    async def fail() -> None:
        try:
            await ledger.open()
        except LedgerError as error:
            errors.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(fail)
        group.start_soon(fail)
    assert len(errors) == 2
    assert all("there is no directory" in error for error in errors)
    with pytest.raises(RuntimeError, match="is not open"):
        await ledger.summary()
    ledger.path.parent.mkdir()
    async with ledger:
        assert (await ledger.summary()).total == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_closed_ledger_can_be_opened_in_another_event_loop(
    path: Path, backend: str, kind: str
) -> None:
    """A closed ledger can be opened in another event loop."""
    ledger = SQLiteLedger(path) if kind == "file" else MemoryLedger()

    async def use(key: str) -> int:
        async with ledger:
            assert await ledger.begin(intent(key)) is None
            return (await ledger.summary()).total

    totals = [anyio.run(use, key, backend=backend) for key in ("a", "b")]
    assert totals == ([1, 2] if kind == "file" else [1, 1])


def test_an_open_ledger_belongs_to_its_event_loop(path: Path) -> None:
    """Using or opening an open ledger in another event loop raises RuntimeError."""

    async def main() -> list[str]:
        async with SQLiteLedger(path) as ledger:

            async def use(what: Callable[[], Any]) -> str:
                with pytest.raises(RuntimeError) as caught:
                    await what()
                return str(caught.value)

            def elsewhere() -> list[str]:
                return [anyio.run(use, what) for what in (ledger.open, ledger.summary)]

            return await anyio.to_thread.run_sync(elsewhere)

    for said in anyio.run(main):
        assert said.startswith("this ledger belongs to another event loop")


# anyio says so of a task that is cancelled before its first step.
@pytest.mark.filterwarnings("ignore:coroutine '_guarded' was never awaited:RuntimeWarning")
@pytest.mark.parametrize("steps", [*range(6), 100])
@pytest.mark.parametrize("what", ["open", "aclose"])
def test_the_end_of_the_event_loop_leaves_it_free(path: Path, what: str, steps: int) -> None:
    """An event loop that ends during opening or closing leaves the ledger free."""

    async def main() -> None:
        ledger = SQLiteLedger(path)
        if what == "aclose":
            await ledger.open()
        task = asyncio.ensure_future(getattr(ledger, what)())
        for _ in range(steps):
            await asyncio.sleep(0)
        del task

    anyio.run(main)
    gc.collect()  # in here, and not in a test that knows nothing of it
    assert not is_in_use(path)
    assert opened_elsewhere(path) == "it has 0 messages"


def test_one_that_is_closed_before_its_thread_begins_is_not_opened(path: Path) -> None:
    """A file closed before its opening thread begins is not opened."""
    file = OpenFile(path, name="ledger.db", clock=time.time, settle_within=1)
    file.close()
    with pytest.raises(LedgerError, match=r"ledger\.db is closed before it was opened"):
        file.open()
    assert not path.exists()


# Waiting for another process.


async def test_another_process_is_waited_for_and_it_is_said_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Opening waits for another process, and logs once which process has the ledger."""
    slept = []
    with owner(path) as process:

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 20:
                kill(process)

        async with SQLiteLedger(path, open_timeout=30, sleep=sleep) as ledger:
            assert (await ledger.summary()).total == 0
    assert 20 <= len(slept) < 40
    (record,) = (each for each in caplog.records if each.name == "skycore_async")
    assert record.levelno == logging.WARNING
    said = record.getMessage()
    assert said.startswith(f"waiting 30 seconds at most: {path} is in use")
    assert f"process {process.pid} has it open" in said


async def test_the_wait_for_another_process_ends(path: Path) -> None:
    """The wait for another process ends after `open_timeout` seconds."""
    for timeout in (0, 3):
        slept: list[float] = []

        async def sleep(seconds: float, slept: list[float] = slept) -> None:
            slept.append(seconds)

        with (
            owner(path),
            pytest.raises(LedgerInUse, match="is in use: one process at a time"),
        ):
            await SQLiteLedger(path, open_timeout=timeout, sleep=sleep).open()
        assert sum(slept) == pytest.approx(max(timeout, 0.25), abs=0.06)


async def test_a_wait_for_another_process_can_be_cancelled(path: Path) -> None:
    """A cancelled wait for another process leaves nothing behind."""
    is_waiting = anyio.Event()

    async def sleep(_seconds: float) -> None:
        is_waiting.set()
        await anyio.sleep_forever()

    with owner(path) as process:
        ledger = SQLiteLedger(path, open_timeout=1e9, sleep=sleep)
        async with anyio.create_task_group() as group:
            group.start_soon(ledger.open)
            await is_waiting.wait()
            group.cancel_scope.cancel()
        await ledger.aclose()
        kill(process)
    assert opened_elsewhere(path) == "it has 0 messages"


@pytest.mark.parametrize("wrong", [-1, float("nan"), "3600", None])
@pytest.mark.parametrize(
    "make", [MemoryLedger, partial(SQLiteLedger, "a"), partial(PostbackInbox, "a")]
)
def test_a_bad_settle_within_is_refused(make: Callable[..., object], wrong: Any) -> None:
    """A `settle_within` that is negative or no number is refused."""
    with pytest.raises(ConfigurationError, match=f"settle_within: {wrong!r} is no number"):
        make(settle_within=wrong)


async def test_a_bad_open_timeout_is_refused() -> None:
    """An `open_timeout` that is negative or no number is refused."""
    for wrong in (-1, float("nan"), "60", None):
        with pytest.raises(ValueError, match="open_timeout"):
            SQLiteLedger("ledger.db", open_timeout=cast("float", wrong))
