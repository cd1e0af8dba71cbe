"""An open ledger in which nothing was recorded yet is byte for byte as it was before.

What opening finds out, such as messages in doubt, may already stand in its write-ahead log.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from skycore_async import SQLiteLedger
from skycore_async.errors import LedgerError
from skycore_async.ledger.model import MessageState
from skycore_async.ledger.sqlite import sqlite_locks, write_ahead_log
from skycore_async.ledger.sqlite.generations import TAIL, FileState, needed_log
from skycore_async.ledger.sqlite.open_file import connect
from skycore_async.ledger.sqlite.read_only import looked_at
from skycore_async.ledger.sqlite.wal_format import FILE_HEADER
from tests.support.ledger_cases import Clock, accepted, intent, notice
from tests.support.ledger_owner import kill, opened_elsewhere, owner, tell
from tests.support.on_asyncio import anyio_backend
from tests.support.sqlite_shell import run, shell

__all__ = ["anyio_backend"]  # asyncio alone

pytestmark = pytest.mark.anyio


S = MessageState
BY_HAND = "UPDATE messages SET info = 'by hand'"
FOUND = {"ended": S.ACCEPTED, "left": S.IN_DOUBT}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def header_of(path: Path) -> FileState:
    return FileState.in_header(path.read_bytes()[:FILE_HEADER])


def is_incomplete(path: Path) -> bool:
    content = path.read_bytes()
    return needed_log(content[:FILE_HEADER], len(content), content[-TAIL:]) is not None


def recorded(path: Path) -> dict[str, bytes]:
    """Return the content of a ledger's files, without those that only say which process has it."""
    aside = {f"{path.name}-lock", f"{path.name}-shm"}
    return {one.name: one.read_bytes() for one in path.parent.iterdir() if one.name not in aside}


async def states(path: Path) -> dict[str, MessageState]:
    async with SQLiteLedger(path) as ledger:
        return await states_in(ledger)


async def states_in(ledger: Any) -> dict[str, MessageState]:
    return {each.key: each.state async for each in ledger.deliveries()}


# How it may have been left: with something under way, or with nothing.


async def closed(path: Path) -> None:
    """Leave a closed ledger with nothing under way and one message in doubt."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("ended", to="15551234000"))
        await ledger.finish("ended", accepted())
        await ledger.begin(intent("left"))
    async with SQLiteLedger(path):
        pass


async def under_way(path: Path) -> None:
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("ended", to="15551234000"))
        await ledger.finish("ended", accepted())
        await ledger.begin(intent("left"))


async def killed(path: Path) -> None:
    """Leave a write-ahead log, and one message under way."""
    with owner(path) as process:
        tell(process, "ended")
        tell(process, "left")
        kill(process)


LEFT = pytest.mark.parametrize("left", [closed, under_way, killed])
Left = Callable[[Path], Any]


async def test_a_ledger_that_is_only_read_is_unchanged(path: Path) -> None:
    """Opening, reading and closing a ledger changes no byte and leaves no log."""
    await closed(path)
    before = recorded(path)
    async with SQLiteLedger(path) as ledger:
        assert await states_in(ledger) == FOUND
        assert await ledger.lookup(intent("ended", to="15551234000")) is not None
        assert (await ledger.summary()).total == 2
        after_looking = recorded(path)
    assert recorded(path) == before
    assert after_looking == before | {log_of(path).name: b""}


@pytest.mark.slow
@LEFT
async def test_a_process_killed_before_the_first_commit_leaves_a_ledger_that_opens(
    path: Path, left: Left
) -> None:
    """A process killed before its first commit leaves a ledger that opens with the same states."""
    await left(path)
    has_log = log_of(path).exists()
    for _ in range(2):
        with owner(path) as process:
            kill(process)
        copy = path.with_name("copy.db")
        shutil.copy(path, copy)
        if not has_log:  # the file is whole without it
            assert not is_incomplete(copy)
            assert await states(copy) == FOUND
        else:
            with pytest.raises(LedgerError, match="is not whole"):
                await SQLiteLedger(copy).open()
        copy.unlink()
    assert await states(path) == FOUND


@LEFT
async def test_a_copy_made_before_the_first_commit_has_the_same_states(
    path: Path, left: Left
) -> None:
    """A copy of a ledger made before the first commit has the same states as the ledger had."""
    await left(path)
    has_log = log_of(path).exists()
    async with SQLiteLedger(path) as ledger:
        copy = path.with_name("copy.db")
        shutil.copy(path, copy)
        assert is_incomplete(copy) == has_log
        shutil.copy(log_of(path), log_of(copy))
        await ledger.begin(intent("new"))
        assert is_incomplete(path)
    assert await states(copy) == FOUND
    assert await states(path) == FOUND | {"new": S.IN_DOUBT}


@LEFT
async def test_another_process_that_looks_sees_the_doubts_and_changes_nothing(
    path: Path, left: Left
) -> None:
    """Another process that looks sees the doubts that opening found, and changes no file."""
    await left(path)
    with owner(path) as process:
        before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
        async with looked_at(path) as view:
            assert await states_in(view) == FOUND
        assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before
        tell(process, "new")
    assert (await states(path)).keys() == FOUND.keys() | {"new"}


@pytest.mark.slow
@LEFT
async def test_an_open_ledger_is_in_use_before_its_first_commit(path: Path, left: Left) -> None:
    """An open ledger is refused to other processes even before its first commit."""
    await left(path)
    async with SQLiteLedger(path) as ledger:
        assert opened_elsewhere(path).startswith("LedgerInUse:")
        await ledger.begin(intent("new"))
        assert opened_elsewhere(path).startswith("LedgerInUse:")


@LEFT
async def test_closing_brings_the_log_into_the_file(path: Path, left: Left) -> None:
    """Closing moves the content of the write-ahead log into the file, and removes the log."""
    await left(path)
    async with SQLiteLedger(path):
        pass
    assert not log_of(path).exists()
    assert not is_incomplete(path)
    assert header_of(path).generation % 2 == 0
    assert await states(path) == FOUND


def move(path: Path, to: Path) -> None:
    path.rename(to)


@LEFT
async def test_a_ledger_moved_before_its_first_commit_begins_nothing(
    path: Path, left: Left
) -> None:
    """A ledger whose file was moved before its first commit begins nothing until it is back."""
    await left(path)
    async with SQLiteLedger(path) as ledger:
        move(path, path.with_name("moved.db"))
        with pytest.raises(LedgerError, match="was moved, removed or replaced"):
            await ledger.begin(intent("new"))
        move(path.with_name("moved.db"), path)
        await ledger.begin(intent("new"))
    assert await states(path) == FOUND | {"new": S.IN_DOUBT}


def by_backup(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def by_vacuum(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))


@LEFT
@pytest.mark.parametrize("back_up", [by_backup, by_vacuum])
async def test_a_backup_by_sqlite_is_a_ledger_and_goes_with_no_later_log(
    path: Path, left: Left, back_up: Callable[[Path, Path], None]
) -> None:
    """SQLite's own backup opens as a ledger, and is refused beside a log of a later time."""
    await left(path)
    copy, crashed = path.with_name("copy.db"), path.with_name("crashed.db")
    async with SQLiteLedger(path) as ledger:
        back_up(path, copy)
        shutil.copy(copy, crashed)
        assert await states(copy) == FOUND
        await ledger.begin(intent("new"))
        shutil.copy(log_of(path), log_of(crashed))
    with pytest.raises(LedgerError, match="do not belong together"):
        await SQLiteLedger(crashed).open()


async def test_a_copy_of_an_open_ledger_is_opened_as_another_generation(path: Path) -> None:
    """A copy of an open ledger gets a new generation when it is opened, and again at rest."""
    copy = path.with_name("copy.db")
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("left"))
        shutil.copy(path, copy)
        shutil.copy(log_of(path), log_of(copy))
        with closing(sqlite3.connect(copy)) as bringing_it_in:
            bringing_it_in.execute("SELECT count(*) FROM messages").fetchone()
    before = header_of(copy).generation
    async with SQLiteLedger(copy) as ledger:
        await ledger.begin(intent("new"))
        assert header_of(copy).generation == before + 2
    assert header_of(copy).generation == before + 3
    assert await states(copy) == {"left": S.IN_DOUBT, "new": S.IN_DOUBT}


# What another program does meanwhile.


@pytest.fixture
def elsewhere_than_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a system without locks of an open file, so that other programs may checkpoint."""
    monkeypatch.setattr(sqlite_locks, "_OF_OPEN_FILE", None)


@pytest.mark.skipif(sys.platform == "win32", reason="where other programs are not kept from it")
@LEFT
async def test_no_other_program_brings_a_log_into_the_file(path: Path, left: Left) -> None:
    """Another program cannot checkpoint an open ledger, and what it writes is kept in the log."""
    await left(path)
    async with SQLiteLedger(path) as ledger:
        with shell(path) as other:
            for mode in ("PASSIVE", "FULL", "RESTART", "TRUNCATE"):
                assert run(other, f"PRAGMA wal_checkpoint({mode})") == "[(1, -1, -1)]"
            run(other, BY_HAND)
        assert log_of(path).exists()
        await ledger.begin(intent("new"))
        assert is_incomplete(path)
        assert header_of(path).generation % 2
    async with SQLiteLedger(path) as ledger:
        found = [each async for each in ledger.deliveries()]
    assert {each.key: each.info for each in found} == dict.fromkeys(FOUND, "by hand") | {
        "new": None
    }
    assert not is_incomplete(path)


class CopyingConnection:
    """A connection that copies a ledger's files after each commit."""

    def __init__(self, path: str) -> None:
        self._inner = connect(path)
        self.close = self._inner.close
        self.copies: list[tuple[bytes, bytes]] = []
        self._path = Path(path)

    def execute(self, statement: str, values: Any = (), /) -> Any:
        found = self._inner.execute(statement, values)
        if statement == "COMMIT":
            self.copies.append((self._path.read_bytes(), log_of(self._path).read_bytes()))
        return found


@pytest.mark.usefixtures("elsewhere_than_on_linux")
@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
@pytest.mark.parametrize("writes", [(), (BY_HAND,), ("CREATE TABLE mine (x)",)])
@LEFT
async def test_a_log_that_another_program_brought_into_the_file_is_begun_anew(
    path: Path, left: Left, mode: str, writes: tuple[str, ...]
) -> None:
    """A ledger begins a new log after another program checkpointed its old one."""
    await left(path)
    connections: list[CopyingConnection] = []

    def connecting(path: str) -> CopyingConnection:
        connections.append(CopyingConnection(path))
        return connections[-1]

    async with SQLiteLedger(path, connect=connecting) as ledger:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(f"PRAGMA wal_checkpoint({mode})")
            for statement in writes:
                other.execute(statement)
        connections[0].copies.clear()
        await ledger.begin(intent("new"))
        assert is_incomplete(path)
    assert not log_of(path).exists()
    assert not is_incomplete(path)
    assert await states(path) == FOUND | {"new": S.IN_DOUBT}
    # Of one that another program began, nothing tells whose it is, until it is begun anew.
    for number, (file, log) in enumerate(connections[0].copies if not writes else ()):
        crashed = path.with_name(f"{number}.db")
        crashed.write_bytes(file)
        log_of(crashed).write_bytes(log)
        assert (await states(crashed)).items() >= FOUND.items(), number


async def test_a_log_that_another_program_brought_in_after_a_crash_is_begun_anew(
    path: Path,
) -> None:
    """A ledger begins a new log if another program checkpointed the old one after a crash."""
    await killed(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint")
        assert not is_incomplete(path)
        with owner(path) as process:
            kill(process)
        copy = path.with_name("copy.db")
        shutil.copy(path, copy)
        shutil.copy(log_of(path), log_of(copy))
    assert await states(copy) == FOUND
    assert await states(path) == FOUND


@pytest.mark.slow
@LEFT
async def test_an_onlooker_is_not_in_the_way(path: Path, left: Left) -> None:
    """A reader that was there before the first commit blocks neither the commit nor closing."""
    await left(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        async with SQLiteLedger(path) as ledger:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM messages").fetchone() == (2,)
            await ledger.begin(intent("new"))
            assert is_incomplete(path)
        assert reader.execute("SELECT count(*) FROM messages").fetchone() == (2,)
    assert await states(path) == FOUND | {"new": S.IN_DOUBT}
    assert not is_incomplete(path)


async def test_a_log_that_another_program_began_is_refused_with_advice(
    path: Path,
) -> None:
    """A log that another program began is refused, with advice to open it in SQLite's shell."""
    await closed(path)
    with owner(path) as process, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(BY_HAND)
        kill(process)
        crashed = path.with_name("crashed.db")
        shutil.copy(path, crashed)
        shutil.copy(log_of(path), log_of(crashed))
    with pytest.raises(LedgerError, match="once with SQLite's own shell"):
        await SQLiteLedger(crashed).open()
    with closing(sqlite3.connect(crashed)) as own_shell:
        own_shell.execute("SELECT count(*) FROM messages").fetchone()
    assert await states(crashed) == FOUND


# What is found by opening it.


async def test_a_doubt_that_can_be_settled_by_now_is_settled(path: Path) -> None:
    """Opening settles a doubt once only one candidate is left, and writes nothing otherwise."""

    async def found() -> dict[str, MessageState]:
        async with SQLiteLedger(path, clock=Clock()) as ledger:
            return await states_in(ledger)

    async with SQLiteLedger(path, clock=Clock()) as ledger:
        await ledger.begin(intent("a"))
        await ledger.begin(intent("b"))
        await ledger.record(notice(tracking_id="Ta"))
    assert await found() == {"a": S.IN_DOUBT, "b": S.IN_DOUBT}  # as there are two candidates
    before = recorded(path)
    assert await found() == {"a": S.IN_DOUBT, "b": S.IN_DOUBT}
    assert recorded(path) == before
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DELETE FROM messages WHERE key = 'b'")
    assert await found() == {"a": S.SENT}


async def test_a_log_that_cannot_be_begun_is_an_error_of_who_records_first(path: Path) -> None:
    """A full disk when the log is begun is a LedgerError for the first record, not for reading."""

    class Failing:
        def __init__(self, path: str) -> None:
            self._inner = connect(path)
            self.close = self._inner.close
            self.fails = False

        def execute(self, statement: str, values: Any = (), /) -> Any:
            if self.fails and statement.startswith("PRAGMA user_version = "):
                raise sqlite3.OperationalError("database or disk is full")
            return self._inner.execute(statement, values)

    connections: list[Failing] = []

    def connecting(path: str) -> Failing:
        connections.append(Failing(path))
        return connections[-1]

    await closed(path)
    async with SQLiteLedger(path, connect=connecting) as ledger:
        connections[0].fails = True
        for _ in range(2):
            with pytest.raises(LedgerError, match=r"could not be written: .* is full"):
                await ledger.begin(intent("new"))
        assert await states_in(ledger) == FOUND
        connections[0].fails = False
        await ledger.begin(intent("new"))
    assert await states(path) == FOUND | {"new": S.IN_DOUBT}


async def test_a_mark_that_cannot_be_written_is_an_error_of_who_records_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An I/O error when the file is marked is a LedgerError for the first record only."""

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    await under_way(path)
    async with SQLiteLedger(path) as ledger:
        with monkeypatch.context() as failing:
            failing.setattr(write_ahead_log, "write_durably", fail)
            for _ in range(2):
                with pytest.raises(LedgerError, match="could not be written: Input/output error"):
                    await ledger.begin(intent("new"))
        await ledger.begin(intent("new"))
        assert is_incomplete(path)
    assert await states(path) == FOUND | {"new": S.IN_DOUBT}
