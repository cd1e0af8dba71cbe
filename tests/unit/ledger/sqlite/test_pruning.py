"""A pruned ledger file: no byte of the pruned data is left."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from skycore_async import LedgerError, LedgerInUse, MessageState, SQLiteLedger
from skycore_async.ledger.commands import Record
from skycore_async.ledger.model import Submission
from skycore_async.ledger.pruning import Pruned
from skycore_async.ledger.sqlite.inbox_file import InboxFile, KeptPostback
from skycore_async.ledger.sqlite.open_file import connect
from skycore_async.ledger.sqlite.read_only import looked_at
from tests.support.ledger_cases import (
    DELIVERED,
    NOON,
    OTHER,
    REJECTED,
    Clock,
    accepted,
    intent,
    notice,
    said,
    sent,
)
from tests.support.ledger_owner import owner
from tests.support.ledger_pruner import prune_and_be_killed
from tests.support.other_process import running

pytestmark = pytest.mark.anyio

AGE = timedelta(days=180)
LATER = AGE.total_seconds() + 9999
FIRST = (Path(__file__).parents[3] / "support" / "ledger_of_version_1.sql").read_text("utf-8")
COUNT = 60


def number(place: int) -> str:
    return f"1777{place:07}"


async def filled(ledger: SQLiteLedger) -> None:
    """Send to many numbers, which are in keys, answers and receipts, and begin a new message."""
    for place in range(COUNT):
        to = number(place)
        await sent(ledger, f"promo:{to}", accepted(f"ID{to}"), to=to)
        await ledger.record(notice(DELIVERED, f"ID{to}", to=to), said(f"me {to}", from_=to))
    await ledger.begin(intent("young"))  # and so is under way
    await ledger.record(notice(DELIVERED, "stray", to=number(0)))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a ledger that was filled once, to be copied."""

    async def fill() -> None:
        async with SQLiteLedger(path, clock=Clock()) as ledger:
            await filled(ledger)

    path = tmp_path_factory.mktemp("full") / "promo.db"
    anyio.run(fill)
    return path


def traces(directory: Path) -> dict[str, int]:
    """Return how often a number of a recipient is found in each file."""
    found = {file.name: file.read_bytes().count(b"17770000") for file in directory.iterdir()}
    return {name: count for name, count in found.items() if count}


def plainly(path: str) -> Any:
    """Connect without `secure_delete`, as some builds of SQLite do."""
    connection = connect(path)
    connection.execute("PRAGMA secure_delete = OFF")
    return connection


def later() -> Clock:
    clock = Clock()
    clock.now = NOON + LATER
    return clock


@pytest.mark.slow
async def test_nothing_of_what_was_pruned_is_in_any_file(tmp_path: Path) -> None:
    """No file has a byte of the pruned data, while the ledger is open and after."""
    path, clock = tmp_path / "promo.db", Clock()
    async with SQLiteLedger(path, clock=clock, connect=plainly) as ledger:
        await filled(ledger)
        assert "promo.db-wal" in traces(tmp_path)
        await sent(ledger, "k" * 3000, REJECTED, to=OTHER)  # which moves others
        clock.now += LATER
        pruned = await ledger.prune(older_than=AGE)
        assert pruned == Pruned(messages=COUNT + 1, notifications=2 * COUNT + 1, in_doubt=0)
        assert traces(tmp_path) == {}
        assert await ledger.begin(intent(f"promo:{number(7)}", to=number(7))) == Submission(
            state=MessageState.DELIVERED
        )
    assert traces(tmp_path) == {}
    async with SQLiteLedger(path, clock=clock) as ledger:
        assert (await ledger.summary()).total == COUNT + 2
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_the_inbox_is_written_anew_as_well(tmp_path: Path) -> None:
    """Pruning also rewrites the inbox, so that no removed postback is left in it."""
    path = tmp_path / "promo.db"
    inbox = InboxFile(path.resolve())
    inbox.open()
    inbox.add([KeptPostback.of([notice(to=number(1))], received=NOON)])
    with closing(plainly(str(inbox.path))) as connection:
        connection.execute("DELETE FROM postbacks")
    assert "promo.db-inbox" in traces(tmp_path)
    async with SQLiteLedger(path, clock=later()) as ledger:
        await ledger.prune(older_than=AGE)
        assert traces(tmp_path) == {}
        inbox.add([KeptPostback.of([said("Hello")], received=NOON)])
    inbox.close()


# What kills the one who prunes: the statement at which it does, and how often that comes first.
CRASHES = [
    *(("COMMIT", times) for times in (1, 2, 3, 20, 60, 63)),
    ("VACUUM", 0),
    ("PRAGMA wal_checkpoint(TRUNCATE)", 0),
    ("UPDATE pruned SET to_rewrite = 0", 0),
]


@pytest.mark.skipif(sys.platform == "win32", reason="nothing there is killed as kill -9 does")
@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("crash", CRASHES, ids=lambda crash: f"{crash[0][:12]} {crash[1]}")
async def test_a_ledger_is_whole_whenever_who_prunes_it_is_killed(
    tmp_path: Path, full: Path, crash: tuple[str, int], when: str
) -> None:
    """A ledger is whole whenever its pruning process is killed, and can be pruned again."""
    path = tmp_path / "promo.db"
    shutil.copytree(full.parent, tmp_path, dirs_exist_ok=True)
    with running(prune_and_be_killed, path, NOON + LATER, crash, when) as process:
        assert await anyio.to_thread.run_sync(process.exit_code) == -signal.SIGKILL
    async with SQLiteLedger(path, clock=later()) as ledger:
        for place in range(COUNT):
            known = await ledger.begin(intent(f"promo:{number(place)}", to=number(place)))
            assert known is not None
            assert known.state is MessageState.DELIVERED
        await ledger.prune(older_than=AGE)
        assert traces(tmp_path) == {}
        assert (await ledger.summary()).total == COUNT + 1


@pytest.mark.slow
async def test_pruning_a_ledger_in_use_is_refused(tmp_path: Path) -> None:
    """Pruning a ledger that another process has open is refused."""
    with owner(tmp_path / "promo.db"), pytest.raises(LedgerInUse, match="has it open"):
        await SQLiteLedger(tmp_path / "promo.db").open()


async def test_a_ledger_of_the_first_version_is_pruned(tmp_path: Path) -> None:
    """A version 1 ledger is migrated and then pruned."""
    path = tmp_path / "first.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST)
        numbers = {each for (each,) in connection.execute("SELECT recipient FROM messages")}
    assert numbers
    async with SQLiteLedger(path) as ledger:
        pruned = await ledger.prune(older_than=timedelta(days=7))
        assert pruned.messages + pruned.in_doubt <= (await ledger.summary()).total
        assert pruned.messages == sum([each.to == "" async for each in ledger.deliveries()]) > 0


async def test_nothing_is_written_anew_where_nothing_was_pruned(tmp_path: Path) -> None:
    """A ledger of which nothing was pruned is not rewritten."""
    said_to_it: list[str] = []

    class Heard:
        def __init__(self, path: str) -> None:
            self._connection = connect(path)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, statement: str, values: Sequence[Any] = (), /) -> Any:
            said_to_it.append(statement)
            return self._connection.execute(statement, values)

    async with SQLiteLedger(tmp_path / "promo.db", clock=later(), connect=Heard) as ledger:
        await ledger.prune(older_than=AGE)
        assert "VACUUM" not in said_to_it
        await sent(ledger, "k", accepted())
        await ledger.prune(older_than=AGE)
    assert said_to_it.count("VACUUM") == 1


@pytest.mark.slow
async def test_a_reader_keeps_nothing_from_being_pruned(tmp_path: Path) -> None:
    """A reader keeps only the log from being cleared, and the error says so."""
    path = tmp_path / "promo.db"
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        await filled(ledger)
    async with SQLiteLedger(path, clock=later()) as ledger:
        await ledger.record(said("Hello", from_="15550001111"))
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as reader:
            cursor = reader.execute("SELECT key FROM messages")
            cursor.fetchone()
            with pytest.raises(LedgerError, match="somebody is reading it"):
                await ledger.prune(older_than=AGE)
            assert (await ledger.summary()).total == COUNT + 1
            cursor.close()
        assert await ledger.begin(intent("new")) is None
        await ledger.finish("new", accepted("new"))
        await ledger.prune(older_than=AGE)
        assert traces(tmp_path) == {}


@pytest.mark.slow
async def test_a_file_that_cannot_be_written_anew_is_pruned_all_the_same(tmp_path: Path) -> None:
    """A full disk at the rewrite is an error, and the next pruning finishes the rewrite."""

    class Full:
        def __init__(self, path: str) -> None:
            self._connection = plainly(path)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, statement: str, values: Sequence[Any] = (), /) -> Any:
            if statement == "VACUUM" and full:
                raise sqlite3.OperationalError("database or disk is full")
            return self._connection.execute(statement, values)

    full = True
    clock = Clock()
    async with SQLiteLedger(tmp_path / "promo.db", clock=clock, connect=Full) as ledger:
        await filled(ledger)
        clock.now += LATER
        with pytest.raises(LedgerError, match="written anew: database or disk is full"):
            await ledger.prune(older_than=AGE)
        assert traces(tmp_path)
        await ledger.run(Record(notifications=(said("Hello"),)))
        full = False
        assert (await ledger.prune(older_than=AGE)).messages == 0
        assert traces(tmp_path) == {}


async def test_a_view_sees_pruned_messages(tmp_path: Path) -> None:
    """A view of the ledger sees a pruned message, and cannot prune itself."""
    path = tmp_path / "promo.db"
    async with SQLiteLedger(path, clock=later()) as ledger:
        await sent(ledger, "k", accepted())
        async with looked_at(path) as view:
            assert await view.delivery(key="k") is not None
            await ledger.prune(older_than=AGE)
            delivery = await view.delivery(key="k")
            assert delivery is not None
            assert delivery.to == ""
            with pytest.raises(LedgerError, match="can be read, and not be written"):
                await view.prune(older_than=AGE)
