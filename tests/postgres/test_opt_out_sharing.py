"""A database that several processes have open shares opt-outs with the list of each machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from skycore_async import PostgresLedger, parse_postback
from skycore_async.ledger.postgres import reader
from skycore_async.ledger.sqlite import opt_out_sharing
from skycore_async.ledger.sqlite.opt_out_list import OptOutList
from skycore_async.ledger.sqlite.opt_out_sharing import sharing_opt_outs
from tests.unit.ledger.sqlite.test_opt_out_list import ANN, BO, STOP, ManualSleep, entry, on

LOOKS = 10  # of which one finds what others heard


@pytest.fixture
def shared(tmp_path: Path) -> OptOutList:
    return OptOutList(tmp_path / "opt-outs.db")


@pytest.fixture(autouse=True)
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each comparison take no time, as after a slow one the next waits."""
    monkeypatch.setattr(opt_out_sharing, "now", float)


@pytest.mark.anyio
async def test_an_opt_out_of_another_process_reaches_the_list(
    dsn: str, shared: OptOutList
) -> None:
    """A STOP or START that another process records reaches the list of a running worker."""
    looks = ManualSleep()
    async with (
        PostgresLedger(dsn) as worker,
        PostgresLedger(dsn) as receiver,
        sharing_opt_outs(worker, shared, name="a", sleep=looks),
    ):
        await receiver.record(*parse_postback(STOP))
        for _ in range(LOOKS):
            await looks.look()
        assert on(shared) == [ANN]
        await receiver.opt_in(ANN)
        for _ in range(LOOKS):
            await looks.look()
        assert on(shared) == []


@pytest.mark.anyio
async def test_a_database_that_is_away_holds_up_no_end(
    dsn: str, shared: OptOutList, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last look asks the database for nothing, so that a worker without one ends at once."""
    asked: list[str] = []

    async def version() -> object:
        asked.append("version")
        return None

    async with (
        PostgresLedger(dsn) as worker,
        sharing_opt_outs(worker, shared, name="a", sleep=ManualSleep()),
    ):
        monkeypatch.setattr(worker, "opt_outs_version", version)
    assert asked == []


@pytest.mark.anyio
async def test_where_it_cannot_be_told_what_others_heard_the_list_counts_all_the_same(
    dsn: str,
    shared: OptOutList,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker shares opt-outs where a question about all of them fails, and logs why."""
    looks = ManualSleep()
    slow = "SET LOCAL statement_timeout = '1ms'; SELECT pg_sleep(1)::text"
    monkeypatch.setattr(reader, "_DIGEST", slow)
    shared.tell([entry(ANN)])
    async with (
        PostgresLedger(dsn) as worker,
        sharing_opt_outs(worker, shared, name="a", sleep=looks),
    ):
        assert await worker.is_opted_out(ANN)
        for _ in range(LOOKS):
            await looks.look()
        assert "statement timeout" in caplog.text
        await worker.opt_out(BO)
        await looks.look()
        assert on(shared) == [ANN, BO]
