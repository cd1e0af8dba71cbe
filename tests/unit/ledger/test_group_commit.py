"""Group commit when the writing thread cannot run, or callers leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from skycore_async import LedgerError, MessageState, SQLiteLedger
from skycore_async.ledger.model import SendIntent

pytestmark = pytest.mark.anyio

NUMBER = "15551234888"


async def _no_thread(*_arguments: object, **_options: object) -> NoReturn:
    raise RuntimeError("can't start new thread")


async def test_the_end_of_waiting_is_not_taken_for_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers get LedgerError if no thread can be started, and later commands are written."""
    refused = []
    async with SQLiteLedger(tmp_path / "ledger.db") as ledger:

        async def caller() -> None:
            try:
                await ledger.opt_out(NUMBER)
            except LedgerError as error:
                refused.append(error)

        with monkeypatch.context() as patch:
            patch.setattr(anyio.to_thread, "run_sync", _no_thread)
            with anyio.fail_after(30):
                async with anyio.create_task_group() as group:
                    for _ in range(1500):
                        group.start_soon(caller)
        assert len(refused) == 1500
        assert not await ledger.is_opted_out(NUMBER)
        await ledger.opt_out(NUMBER)
        assert await ledger.is_opted_out(NUMBER)


async def test_a_handler_that_waits_in_a_thread_takes_none_from_the_ledger(tmp_path: Path) -> None:
    """The ledger goes on when all threads of the program wait for it, as sync handlers do."""
    threads = anyio.to_thread.current_default_thread_limiter()
    before, threads.total_tokens = threads.total_tokens, 1
    async with SQLiteLedger(tmp_path / "ledger.db") as ledger:

        async def opt_out() -> None:
            with anyio.fail_after(5):
                await ledger.opt_out(NUMBER)

        try:
            await anyio.to_thread.run_sync(anyio.from_thread.run, opt_out)
        finally:
            threads.total_tokens = before
        assert await ledger.is_opted_out(NUMBER)


INTENT = SendIntent(key="k", content=b"one", to=NUMBER, from_="60856", started_at=0.0)


async def _state(ledger: SQLiteLedger) -> MessageState | None:
    delivery = await ledger.delivery(key="k")
    return None if delivery is None else delivery.state


async def test_a_message_of_a_caller_cancelled_in_the_commit_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message begun for a caller who was cancelled during the commit is undone."""
    written, go_on = anyio.Event(), anyio.Event()
    run_sync = anyio.to_thread.run_sync

    async def held(write: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        done = await run_sync(write, *arguments, **options)
        written.set()
        await go_on.wait()
        return done

    async with SQLiteLedger(tmp_path / "ledger.db") as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(anyio.to_thread, "run_sync", held)
            async with anyio.create_task_group() as group:
                group.start_soon(ledger.begin, INTENT)
                await written.wait()
                group.cancel_scope.cancel()
            go_on.set()
            assert await ledger.begin(INTENT, timeout=5) is None
        assert await _state(ledger) is MessageState.SENDING


def _leave_when_notified(ledger: SQLiteLedger, task: asyncio.Future[Any]) -> None:
    commits = ledger._group_commit
    assert commits is not None
    notify = commits._notify

    def cancel(touched: set[str]) -> None:
        task.cancel()
        notify(touched)

    commits._notify = cancel


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_message_of_a_caller_cancelled_after_the_commit_is_undone(
    tmp_path: Path,
) -> None:
    """A message is undone if `Task.cancel()` comes just after its commit."""
    async with SQLiteLedger(tmp_path / "ledger.db") as ledger:
        _leave_when_notified(ledger, task := asyncio.ensure_future(ledger.begin(INTENT)))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await ledger.begin(INTENT, timeout=5) is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_message_that_cannot_be_undone_is_in_doubt(tmp_path: Path) -> None:
    """A message of a cancelled caller is in doubt if the ledger closes before the undo."""
    path = tmp_path / "ledger.db"
    async with SQLiteLedger(path) as ledger:
        _leave_when_notified(ledger, task := asyncio.ensure_future(ledger.begin(INTENT)))
        await anyio.lowlevel.checkpoint()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with SQLiteLedger(path) as ledger:
        assert await _state(ledger) is MessageState.IN_DOUBT
