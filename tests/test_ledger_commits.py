"""Group commit, where the thread that writes cannot run."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import anyio
import anyio.to_thread
import pytest

from skycore_async import LedgerError, SQLiteLedger

pytestmark = pytest.mark.anyio

NUMBER = "15551234888"


async def _no_thread(*_arguments: object) -> NoReturn:
    raise RuntimeError("can't start new thread")


async def test_the_end_of_waiting_is_not_taken_for_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be begun, every caller gets an error; later ones are written."""
    refused = []
    async with SQLiteLedger(tmp_path / "ledger.db") as ledger:

        async def caller() -> None:
            try:
                await ledger.opt_out(NUMBER)
            except LedgerError as error:
                refused.append(error)

        with monkeypatch.context() as patch:
            patch.setattr(anyio.to_thread, "run_sync", _no_thread)
            with anyio.fail_after(5):
                async with anyio.create_task_group() as group:
                    for _ in range(1500):
                        group.start_soon(caller)
        assert len(refused) == 1500
        assert not await ledger.is_opted_out(NUMBER)
        await ledger.opt_out(NUMBER)
        assert await ledger.is_opted_out(NUMBER)
