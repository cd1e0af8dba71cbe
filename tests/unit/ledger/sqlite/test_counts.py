"""The stored counts of messages equal a fresh count."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from skycore_async import MemoryLedger, SQLiteLedger
from skycore_async.codes import FailureReason
from skycore_async.errors import LedgerError
from skycore_async.ledger.commands import Begin, LedgerCommand, PendingCommand, Summarize
from skycore_async.ledger.counts import KIND
from skycore_async.ledger.execution import CommandExecutor
from skycore_async.ledger.model import MessageState
from skycore_async.ledger.settlement import SETTLE_WITHIN
from skycore_async.ledger.sqlite.memory import BoundedStore
from skycore_async.ledger.sqlite.reader import COUNT_UNPLACED
from skycore_async.ledger.sqlite.schema import migrate
from skycore_async.ledger.sqlite.store import SQLiteStore
from tests.support.ledger_cases import (
    DELIVERED,
    DOUBT,
    EXPIRED,
    NOON,
    REJECTED,
    Clock,
    accepted,
    intent,
    notice,
    sent,
)
from tests.unit.ledger.test_execution import ANY

S = MessageState
FIRST = (Path(__file__).parents[3] / "support" / "ledger_of_version_1.sql").read_text("utf-8")


def kept(connection: Any) -> list[Any]:
    return sorted(connection.execute("SELECT * FROM counts WHERE messages <> 0"))


def recounted(connection: Any) -> list[Any]:
    return sorted(
        connection.execute(f"SELECT {KIND}, count(*) FROM messages GROUP BY 1, 2, 3, 4")  # noqa: S608
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [SQLiteStore, lambda connection: BoundedStore(connection, capacity=2)],
    ids=["all", "the last two"],
)
@given(commands=ANY, again=ANY)
def test_counts_follow_whatever_happens(
    make: Callable[[Any], SQLiteStore],
    commands: Sequence[LedgerCommand[Any]],
    again: Sequence[LedgerCommand[Any]],
) -> None:
    """Stored counts equal a fresh count after random commands, interruption and forgetting."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        executor = CommandExecutor(
            make(connection), clock=lambda: NOON + 1, settle_within=SETTLE_WITHIN
        )
        for group in (commands, again):
            asked = PendingCommand(Summarize())
            connection.execute("BEGIN")
            try:
                executor.run([*map(PendingCommand, group), asked])
                executor.interrupt()
                connection.execute("COMMIT")
            except LedgerError:  # full of messages that are under way
                connection.execute("ROLLBACK")
            executor.forget()
            assert kept(connection) == recounted(connection)


def test_a_transaction_that_is_not_committed_counts_nothing() -> None:
    """Counts of a transaction that was rolled back are not written by the next one."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        store = SQLiteStore(connection)
        connection.execute("BEGIN")
        assert store.insert_new([Begin(intent=intent())])
        connection.execute("ROLLBACK")
        store.forget_counts()
        store.write_counts()
        assert kept(connection) == []


def test_a_file_of_the_first_version_is_counted_as_it_is_opened(tmp_path: Path) -> None:
    """The migration of a version 1 file counts its messages."""
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(FIRST)
        migrate(connection, 1)
        assert kept(connection) == recounted(connection)
        assert sum(row[-1] for row in kept(connection)) > 10


@pytest.mark.anyio
async def test_a_summary_counts_by_state_code_reason_and_what_settled(tmp_path: Path) -> None:
    """A summary equals a count over all messages, in a file and in memory."""
    async with (
        SQLiteLedger(tmp_path / "ledger.db", clock=Clock()) as in_file,
        MemoryLedger(clock=Clock()) as in_memory,
    ):
        for ledger in (in_file, in_memory):
            await sent(ledger, "refused", REJECTED)
            await sent(ledger, "doubt", DOUBT)
            await sent(ledger, "failed", accepted("F"))
            await ledger.record(notice(EXPIRED, "F"), notice(DELIVERED, "D"))
            found = await ledger.summary()
            assert found.codes == {"E621": 1}
            assert found.reasons == {FailureReason.EXPIRED: 1}
            assert found.settled == {"postback": 1}
            assert found.unplaced == 0
            each = Counter([delivery.state async for delivery in ledger.deliveries()])
            assert found.states == dict(each)
        assert await in_file.summary() == await in_memory.summary()


@pytest.mark.anyio
async def test_forgotten_messages_are_not_counted() -> None:
    """Messages that a full memory ledger forgot are not in its summary."""
    async with MemoryLedger(capacity=2, clock=Clock()) as ledger:
        for number in range(5):
            await sent(ledger, f"k{number}", REJECTED)
        assert (await ledger.summary()).codes == {"E621": 2}


def test_no_table_is_read_from_end_to_end_for_a_summary() -> None:
    """The count of unplaced notifications uses an index, and scans no table."""
    with closing(sqlite3.connect(":memory:")) as connection:
        migrate(connection, 0)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {COUNT_UNPLACED}").fetchall()
    steps = [step for *_, step in plan]
    scanned = [step for step in steps if re.match(r"SCAN (?!CONSTANT ROW)(?!.*INDEX)", step)]
    assert not scanned, steps
