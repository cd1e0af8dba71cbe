"""A ledger's reading and writing connections: neither waits for the other."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest

from skycore_async import SQLiteLedger
from skycore_async.errors import LedgerError
from skycore_async.ledger.commands import LongQuery, Summarize
from skycore_async.ledger.model import MessageState
from skycore_async.ledger.reader import LedgerReader
from skycore_async.ledger.sqlite import reader, reading_connection
from skycore_async.ledger.sqlite.open_file import connect
from tests.support.ledger_cases import DOUBT, accepted, intent, sent
from tests.support.ledger_rows import delivered_row, store_of

pytestmark = pytest.mark.anyio

S = MessageState
T = TypeVar("T")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


class HeldCommit:
    """A connection whose next COMMIT waits until it may go on."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.close = connection.close
        self.is_held = False
        self.reached = threading.Event()
        self.may_go_on = threading.Event()

    def execute(self, statement: str, *values: Any) -> Any:
        if self.is_held and statement == "COMMIT":
            self.reached.set()
            assert self.may_go_on.wait(10)
        return self._connection.execute(statement, *values)


def writing_over(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[sqlite3.Connection], T]
) -> dict[str, T]:
    """Wrap the writing connection by `make`, and return what was made by file."""
    made: dict[str, T] = {}
    connecting = sqlite3.connect

    def connected(path: Any, **settings: Any) -> Any:
        connection = connecting(path, **settings)
        if "uri" in settings or not str(path).endswith(".db"):
            return connection
        made[str(path)] = make(connection)
        return made[str(path)]

    monkeypatch.setattr(sqlite3, "connect", connected)
    return made


class SlowQuery(LongQuery[int]):
    """Counts the messages, and answers when it may."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.may_go_on = threading.Event()

    def answer(self, store: LedgerReader) -> int:
        total = store.summary().total
        self.reached.set()
        assert self.may_go_on.wait(10)
        assert store.summary().total == total
        return total


async def until(event: threading.Event) -> None:
    assert await anyio.to_thread.run_sync(event.wait, 10)


async def test_a_query_does_not_wait_for_a_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query during a commit is answered from what was committed before."""
    held = writing_over(monkeypatch, HeldCommit)
    async with SQLiteLedger(path) as ledger:
        await sent(ledger, "a", accepted("A"))
        connection = held[str(path)]
        connection.is_held = True
        async with anyio.create_task_group() as group:
            group.start_soon(ledger.begin, intent("b"))
            await until(connection.reached)
            assert (await ledger.summary()).total == 1
            assert [each.key async for each in ledger.deliveries()] == ["a"]
            assert [each.key async for each in ledger.deliveries(S.ACCEPTED)] == ["a"]
            assert [each async for each in ledger.unplaced()] == []
            connection.is_held = False
            connection.may_go_on.set()
        assert (await ledger.summary()).states == {S.ACCEPTED: 1, S.SENDING: 1}


async def test_a_commit_does_not_wait_for_a_query(path: Path) -> None:
    """A commit does not wait for a query, which sees the state at its beginning."""
    async with SQLiteLedger(path) as ledger:
        await sent(ledger, "a", accepted("A"))
        slow = SlowQuery()
        answers: list[int] = []

        async def ask() -> None:
            answers.append(await ledger.run(slow))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await until(slow.reached)
            await sent(ledger, "b", DOUBT)
            slow.may_go_on.set()
        assert answers == [1]
        assert (await ledger.summary()).total == 2


@pytest.mark.slow
async def test_the_reader_sees_all_that_was_acknowledged(path: Path) -> None:
    """A query sees each outcome as soon as its call has returned."""
    async with SQLiteLedger(path) as ledger:
        for number in range(30):
            await ledger.begin(intent(f"k{number}"))
            assert (await ledger.summary()).states == {
                S.SENDING: 1,
                **({S.IN_DOUBT: number} if number else {}),
            }
            await ledger.finish(f"k{number}", DOUBT)
        assert len([each async for each in ledger.deliveries(S.IN_DOUBT)]) == 30


def with_few_pages(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("PRAGMA wal_autocheckpoint = 20")
    return connection


@pytest.mark.slow
async def test_the_log_begins_anew_between_two_questions(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write-ahead log grows during a long query, and stops growing after it."""
    writing_over(monkeypatch, with_few_pages)
    async with SQLiteLedger(path) as ledger:
        for number in range(50):
            await sent(ledger, f"a{number}", accepted(f"A{number}"))
            assert (await ledger.summary()).total == number + 1
        short = log_of(path).stat().st_size
        slow, grown = SlowQuery(), 0
        async with anyio.create_task_group() as group:
            group.start_soon(ledger.run, slow)
            await until(slow.reached)
            for number in range(50):
                await sent(ledger, f"b{number}", accepted(f"B{number}"))
            grown = log_of(path).stat().st_size
            assert grown > 2 * short
            slow.may_go_on.set()
        for number in range(100):
            await sent(ledger, f"c{number}", accepted(f"C{number}"))
            assert (await ledger.summary()).total == 101 + number
        # A hundred more are no more than what it grew by before it could begin anew.
        assert log_of(path).stat().st_size < grown + 2 * short


async def test_resetting_the_log_waits_a_moment_for_a_query(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resetting the log waits a moment for a query, but not for a long one."""
    monkeypatch.setattr(reading_connection, "_MOMENT", 5)
    async with SQLiteLedger(path) as ledger:
        found: Any = ledger._file._reading
        slow = SlowQuery()
        slow.may_go_on.set()
        with found.held_off():
            async with anyio.create_task_group() as group:
                group.start_soon(ledger.run, slow)
                await anyio.wait_all_tasks_blocked()
                assert not slow.reached.wait(0.05)
                found._turn.release()
                await until(slow.reached)
                await anyio.to_thread.run_sync(found._turn.acquire)
        monkeypatch.setattr(reading_connection, "_MOMENT", 0.001)
        long = SlowQuery()
        async with anyio.create_task_group() as group:
            group.start_soon(ledger.run, long)
            await until(long.reached)
            with found.held_off():
                pass
            long.may_go_on.set()
        assert (await ledger.summary()).total == 0


async def test_the_reader_is_closed_before_who_writes(path: Path) -> None:
    """The reading connection closes first, so that no log is left."""
    ledger = SQLiteLedger(path)
    async with ledger:
        await sent(ledger, "a", accepted("A"))
        assert (await ledger.summary()).total == 1
    assert not log_of(path).exists()
    with pytest.raises(RuntimeError, match="closed"):
        await ledger.summary()


async def test_a_question_that_comes_as_it_is_closed_is_refused(path: Path) -> None:
    """A query that comes while the ledger closes raises RuntimeError."""
    async with SQLiteLedger(path) as ledger:
        found: Any = ledger._file._reading
    with pytest.raises(RuntimeError, match="this ledger is closed"):
        found.answer(Summarize())


async def test_a_file_that_was_moved_is_not_read(path: Path) -> None:
    """A query on a ledger whose file was moved raises LedgerError."""
    async with SQLiteLedger(path) as ledger:
        await sent(ledger, "a", accepted("A"))
        assert (await ledger.summary()).total == 1
        moved = path.rename(path.with_name("moved.db"))  # noqa: ASYNC240 - at once
        with pytest.raises(LedgerError, match="moved"):
            await ledger.summary()
        moved.rename(path)
        assert (await ledger.summary()).total == 1


async def test_a_file_that_is_replaced_as_it_is_opened_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is moved while the reading connection opens is closed and not read."""
    opened: list[sqlite3.Connection] = []
    connecting = sqlite3.connect

    def late(*args: Any, **settings: Any) -> sqlite3.Connection:
        opened.append(connecting(*args, **settings))
        path.rename(path.with_name("moved.db"))
        return opened[-1]

    async with SQLiteLedger(path) as ledger:
        monkeypatch.setattr(sqlite3, "connect", late)
        with pytest.raises(LedgerError, match="moved"):
            await ledger.summary()
        monkeypatch.setattr(sqlite3, "connect", connecting)
        path.with_name("moved.db").rename(path)
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            opened[0].execute("SELECT 1")
        assert (await ledger.summary()).total == 0


async def test_a_connection_of_the_callers_own_is_asked_for_all(path: Path) -> None:
    """A caller's own `connect` is used for queries, too."""
    asked: list[str] = []

    def connecting(path: str) -> Any:
        connection = connect(path)
        connection.set_trace_callback(asked.append)
        return connection

    async with SQLiteLedger(path, connect=connecting) as ledger:
        assert (await ledger.summary()).total == 0
    assert "SELECT * FROM counts" in asked


async def test_where_it_cannot_read_who_writes_does(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writing connection answers queries if no second connection can be opened."""

    def none(*_args: Any, **_settings: Any) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    async with SQLiteLedger(path) as ledger:
        await sent(ledger, "a", accepted("A"))
        monkeypatch.setattr(sqlite3, "connect", none)
        assert (await ledger.summary()).total == 1
        assert [each.key async for each in ledger.deliveries()] == ["a"]


def test_a_long_query_releases_the_lock_of_python() -> None:
    """A long query releases Python's lock every few messages."""
    with store_of([delivered_row(key=str(number)) for number in range(100)]) as store:
        pauses: list[None] = []
        execute: Any = store._execute
        seen = reader.SQLiteReader(execute.__self__, yield_gil=lambda: pauses.append(None))
        assert len(seen.deliveries(None, 0).rows) == 100
    assert len(pauses) == 7


def test_doubts_are_found_without_reading_all_messages() -> None:
    """Doubts are found by their index if they are few, and in parts if they are many."""
    with store_of([delivered_row(key=str(number)) for number in range(10)]) as store:
        assert "INDEXED BY candidates" in store._where(S.IN_DOUBT, 0)[0]
        assert store._where(S.DELIVERED, 0)[0].endswith("id <= 2000")
        store._execute("INSERT INTO counts VALUES ('in_doubt', '', '', '', 2001)")
        assert store._where(S.IN_DOUBT, 0)[0].endswith("id <= 2000")
