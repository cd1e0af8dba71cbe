"""A ledger's file and its write-ahead log: kept together, kept short, kept in place."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from skycore_async import SQLiteLedger
from skycore_async.errors import LedgerError
from skycore_async.ledger.model import MessageState
from skycore_async.ledger.sqlite import sqlite_locks
from skycore_async.ledger.sqlite.generations import TAIL, FileState, needed_log
from skycore_async.ledger.sqlite.open_file import connect
from skycore_async.ledger.sqlite.read_only import looked_at
from skycore_async.ledger.sqlite.wal_format import FILE_HEADER
from skycore_async.ledger.sqlite.write_ahead_log import WriteAheadLog
from tests.support.ledger_cases import accepted, intent
from tests.support.ledger_owner import kill, owner, tell
from tests.support.on_asyncio import anyio_backend
from tests.support.sqlite_shell import run, shell

__all__ = ["anyio_backend"]  # asyncio alone

pytestmark = pytest.mark.anyio

S = MessageState
WRONG = "do not belong together"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "ledger.db"


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def elsewhere(path: Path) -> Path:
    directory = path.parent.with_name("elsewhere")
    directory.mkdir(exist_ok=True)
    return directory / path.name


def state_of_file(path: Path) -> FileState:
    with path.open("rb") as file:
        return FileState.in_header(file.read(FILE_HEADER))


def is_incomplete(path: Path) -> bool:
    """Return whether a file says that it needs its log."""
    content = path.read_bytes()
    return needed_log(content[:FILE_HEADER], len(content), content[-TAIL:]) is not None


async def states(path: Path) -> dict[str, MessageState]:
    async with SQLiteLedger(path) as ledger:
        return {each.key: each.state async for each in ledger.deliveries()}


async def refused(path: Path, said: str) -> None:
    """Check that opening and looking are refused, and that no byte changes."""
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    for _ in range(2):
        with pytest.raises(LedgerError, match=said) as caught:
            await SQLiteLedger(path).open()
        assert str(path) in str(caught.value)
    with pytest.raises(LedgerError, match=said) as caught:
        async with looked_at(path):
            pass
    assert str(path) in str(caught.value)
    after = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() <= {f"{path.name}-lock"}


def killed(path: Path, *keys: str) -> None:
    """Begin these messages in a process that is then killed."""
    with owner(path) as process:
        for key in keys:
            tell(process, key)
        kill(process)


# The file without its log.


async def test_a_file_without_its_log_is_refused_until_that_is_brought(path: Path) -> None:
    """A file that needs its log is refused until the log is beside it."""
    killed(path, "a", "b")
    copy = elsewhere(path)
    shutil.copy(path, copy)
    await refused(copy, r"is not whole: the file .*ledger\.db-wal, .* is not beside it")
    log_of(copy).touch()
    await refused(copy, "is not whole")
    shutil.copy(log_of(path), log_of(copy))
    assert await states(copy) == {"a": S.ACCEPTED, "b": S.IN_DOUBT}


async def test_a_copy_of_the_file_alone_while_it_is_open_is_refused(path: Path) -> None:
    """A copy of an open ledger's file without its log is refused."""
    copies = []
    async with SQLiteLedger(path) as ledger:
        for number in range(3):
            await ledger.begin(intent(str(number)))
            copies.append(elsewhere(path).with_name(f"{number}.db"))
            shutil.copy(path, copies[-1])
    for copy in copies:
        with pytest.raises(LedgerError, match="is not whole"):
            await SQLiteLedger(copy).open()
    copy = elsewhere(path)
    shutil.copy(path, copy)
    assert await states(copy) == dict.fromkeys(("0", "1", "2"), S.IN_DOUBT)


def by_backup(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def by_vacuum(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))


@pytest.mark.parametrize("back_up", [by_backup, by_vacuum])
async def test_a_backup_by_sqlite_is_a_ledger(
    path: Path, back_up: Callable[[Path, Path], None]
) -> None:
    """SQLite's own backup has all that was in the log, and opens."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        back_up(path, elsewhere(path))
        await ledger.finish("a", accepted())
    assert await states(elsewhere(path)) == {"a": S.IN_DOUBT}
    assert await states(path) == {"a": S.ACCEPTED}


@pytest.mark.slow
async def test_another_program_may_checkpoint_a_killed_processs_ledger(path: Path) -> None:
    """A ledger whose log another program checkpointed after a crash opens."""
    killed(path, "a")
    assert is_incomplete(path)
    with closing(sqlite3.connect(path)) as shell:
        assert shell.execute("SELECT state FROM messages").fetchall() == [("sending",)]
    assert not log_of(path).exists()
    assert not is_incomplete(path)
    assert await states(path) == {"a": S.IN_DOUBT}


# Another's log.


async def test_the_log_of_another_ledger_is_refused(path: Path) -> None:
    """The log of another ledger is refused."""
    other = elsewhere(path)
    killed(path, "a")
    killed(other, "b")
    shutil.copy(log_of(other), log_of(path))
    await refused(path, WRONG)


@pytest.mark.slow
async def test_the_log_of_an_earlier_or_later_time_is_refused(path: Path) -> None:
    """The log of an earlier or later time of the same ledger is refused."""
    killed(path, "a")
    before = elsewhere(path)
    shutil.copy(path, before)
    shutil.copy(log_of(path), log_of(before))
    killed(path, "b")
    killed(path, "c")
    files = {one: one.read_bytes() for one in (before, log_of(before), path, log_of(path))}
    shutil.copy(log_of(path), log_of(before))
    await refused(before, WRONG)
    log_of(path).write_bytes(files[log_of(before)])
    await refused(path, WRONG)
    log_of(path).write_bytes(files[log_of(path)])
    assert set(await states(path)) == {"a", "b", "c"}


async def test_the_log_that_a_backup_left_behind_is_refused(path: Path) -> None:
    """A restored file is refused beside the log of the ledger that it replaced."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
    backup = elsewhere(path)
    shutil.copy(path, backup)
    assert await states(path) == {"a": S.IN_DOUBT}
    killed(path, "b")
    shutil.copy(backup, path)
    await refused(path, WRONG)


# A copy of the file that is laid over a ledger which was not closed, beside its log.


def replica(path: Path, copy: Path) -> None:
    """Copy every page as it is, as SQLite's own program for that does."""
    shutil.copy(path, copy)
    shutil.copy(log_of(path), log_of(copy))
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("SELECT count(*) FROM messages").fetchone()


def vacuumed(path: Path, copy: Path) -> None:
    replica(path, copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("VACUUM")


@pytest.mark.parametrize("is_later", [False, True])
@pytest.mark.parametrize("back_up", [by_backup, by_vacuum, replica, vacuumed])
async def test_a_backup_beside_a_log_of_the_ledger_is_refused_or_right(
    path: Path, back_up: Callable[[Path, Path], None], is_later: bool
) -> None:
    """A backup beside the ledger's log opens only if its pages are those the log goes on from."""
    crashed = elsewhere(path).with_name("crashed.db")
    async with SQLiteLedger(path, connect=with_pages(40)) as ledger:
        await ledger.begin(intent("a"))
        generation = state_of_file(path).generation
        back_up(path, elsewhere(path))
        await ledger.finish("a", accepted())
        while is_later and state_of_file(path).generation == generation:
            await ledger.opt_out("15551234000")
            await ledger.opt_in("15551234000")
        shutil.copy(log_of(path), log_of(crashed))
    shutil.copy(elsewhere(path), crashed)
    if back_up is replica and not is_later:
        assert await states(crashed) == {"a": S.ACCEPTED}
    else:
        await refused(crashed, WRONG)


@pytest.mark.slow
async def test_a_copy_from_before_it_was_vacuumed_is_refused(path: Path) -> None:
    """A copy from before a VACUUM is refused beside a log from after it."""
    async with SQLiteLedger(path) as ledger:
        for number in range(100):
            await ledger.begin(intent(str(number)))
    shutil.copy(path, elsewhere(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("VACUUM")
    killed(path, "b")
    shutil.copy(elsewhere(path), path)
    await refused(path, WRONG)


async def test_a_copy_of_a_closed_ledger_goes_on_with_the_log_that_began_then(path: Path) -> None:
    """A copy of a closed ledger opens with the log that began from the same state."""
    killed(path, "a")
    assert set(await states(path)) == {"a"}
    shutil.copy(path, elsewhere(path))
    killed(path, "b")
    shutil.copy(elsewhere(path), path)
    assert set(await states(path)) == {"a", "b"}


@pytest.mark.parametrize("is_empty", [False, True])
async def test_a_log_without_its_file_is_no_new_ledger(path: Path, is_empty: bool) -> None:
    """A log whose file is missing or empty is refused, and no new ledger is made."""
    killed(path, "a")
    moved(path)
    if is_empty:
        path.open("w").close()
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    for _ in range(2):
        with pytest.raises(LedgerError, match=r"is missing or empty, and .* is there"):
            await SQLiteLedger(path).open()
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before
    elsewhere(path).replace(path)
    assert await states(path) == {"a": S.IN_DOUBT}


# While it is open.


def moved(path: Path) -> None:
    path.rename(elsewhere(path))


def directory_moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def removed(path: Path) -> None:
    shutil.copy(path, elsewhere(path))  # so that another name is not given its inode
    path.unlink()


def replaced(path: Path) -> None:
    shutil.copy(path, elsewhere(path))
    elsewhere(path).replace(path)


def log_removed(path: Path) -> None:
    log_of(path).unlink()


def log_replaced(path: Path) -> None:
    shutil.copy(log_of(path), elsewhere(path))
    elsewhere(path).replace(log_of(path))


@pytest.mark.parametrize(
    "change", [moved, directory_moved, removed, replaced, log_removed, log_replaced]
)
async def test_nothing_is_recorded_in_a_file_that_is_not_in_its_place(
    path: Path, change: Callable[[Path], None]
) -> None:
    """An open ledger whose file or log was moved, removed or replaced begins nothing."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        change(path)
        for _ in range(2):
            with pytest.raises(LedgerError, match="was moved, removed or replaced"):
                await ledger.begin(intent("b"))


async def test_a_ledger_goes_on_when_its_file_is_back_in_its_place(path: Path) -> None:
    """An open ledger goes on once its moved file is back."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        moved(path)
        with pytest.raises(LedgerError, match="until it is back in its place"):
            await ledger.finish("a", accepted())
        elsewhere(path).rename(path)
        await ledger.finish("a", accepted())
    assert await states(path) == {"a": S.ACCEPTED}


async def test_a_file_moved_during_a_commit_is_an_error_for_the_caller(path: Path) -> None:
    """A file moved during a commit is a LedgerError for the caller who waits for it."""

    class Moving:
        def __init__(self, path: str) -> None:
            self._inner = connect(path)
            self.close = self._inner.close
            self.is_moving = False

        def execute(self, statement: str, values: Any = (), /) -> Any:
            if self.is_moving and statement == "COMMIT":
                moved(path)
            return self._inner.execute(statement, values)

    connections = []

    def connecting(path: str) -> Moving:
        connections.append(Moving(path))
        return connections[-1]

    async with SQLiteLedger(path, connect=connecting) as ledger:
        connections[0].is_moving = True
        with pytest.raises(LedgerError, match="was moved, removed or replaced"):
            await ledger.begin(intent("a"))


async def test_a_begin_that_was_committed_but_raised_is_undone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A begin that was committed but raised is undone, and its key can be begun again."""
    fails = True

    def look_after(log: WriteAheadLog) -> None:
        if fails:
            raise LedgerError("it does not say that it is incomplete")

    monkeypatch.setattr(WriteAheadLog, "look_after", look_after)
    async with SQLiteLedger(path) as ledger:
        with pytest.raises(LedgerError, match="does not say"):
            await ledger.begin(intent("a"))
        with pytest.raises(LedgerError, match="does not say"):
            await ledger.opt_out(
                "15559876543"
            )  # takes it back, and that is not acknowledged, either
        fails = False
        assert await ledger.begin(intent("a"), timeout=1) is None
        await ledger.opt_in("15559876543")  # and what took it back is not written once more
        await ledger.finish("a", accepted("SMS_1"))
        delivery = await ledger.delivery(key="a")
        assert delivery is not None
        assert (delivery.state, delivery.tracking_id) == (S.ACCEPTED, "SMS_1")


@pytest.mark.skipif(sys.platform != "linux", reason="where SQLite cannot be kept from it")
async def test_closing_one_that_was_moved_takes_nothing_from_another_in_its_place(
    path: Path,
) -> None:
    """Closing a moved ledger does not remove the log of a new ledger of its name."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        path.parent.rename(path.parent.with_name("moved"))
        path.parent.mkdir()
        with owner(path) as process:
            tell(process, "b")
            await ledger.aclose()
            tell(process, "c")
            kill(process)
    assert set(await states(path)) == {"b", "c"}
    assert set(await states(path.parent.with_name("moved") / path.name)) == {"a"}


async def test_a_relative_name_means_the_same_file_for_as_long_as_it_is_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger opened by a relative path stays the same file when the directory changes."""
    monkeypatch.chdir(path.parent)
    async with SQLiteLedger(path.name) as ledger:
        monkeypatch.chdir(path.parent.parent)
        await ledger.begin(intent("a"))
    assert await states(path) == {"a": S.IN_DOUBT}


# How long the log becomes.


def with_pages(count: int) -> Callable[[str], Any]:
    def connecting(path: str) -> Any:
        connection = connect(path)
        connection.execute(f"PRAGMA wal_autocheckpoint = {count}")
        return connection

    return connecting


@pytest.mark.slow
async def test_the_log_is_kept_short(path: Path) -> None:
    """The log begins anew when it is full, each time with a new generation."""
    generations = set()
    async with SQLiteLedger(path, connect=with_pages(20)) as ledger:
        for number in range(200):
            await ledger.begin(intent(str(number)))
            state = state_of_file(path)
            assert state.is_incomplete
            generations.add(state.generation)
        assert log_of(path).stat().st_size < 60 * 4200
    assert 5 < len(generations) < 100
    assert len(await states(path)) == 200


@pytest.mark.slow
async def test_an_onlooker_keeps_the_log_from_beginning_anew_and_nobody_waits(
    path: Path,
) -> None:
    """A long read lets the log grow but blocks nobody, and the log is reused afterwards."""
    async with SQLiteLedger(path, connect=with_pages(20)) as ledger:
        await ledger.begin(intent("first"))
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM messages").fetchone() == (1,)
            for number in range(100):
                await ledger.begin(intent(str(number)))
                assert is_incomplete(path)
            assert log_of(path).stat().st_size > 60 * 4200
            assert reader.execute("SELECT count(*) FROM messages").fetchone() == (1,)
            generation = state_of_file(path).generation
        for number in range(100, 200):
            await ledger.begin(intent(str(number)))
        long = log_of(path).stat().st_size
        for number in range(200, 300):
            await ledger.begin(intent(str(number)))
        assert state_of_file(path).generation > generation
        assert log_of(path).stat().st_size == long  # which is used again from its beginning
    assert len(await states(path)) == 301


# What other programs do with the log meanwhile.


@pytest.fixture
def elsewhere_than_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a system without locks of an open file, so that other programs may checkpoint."""
    monkeypatch.setattr(sqlite_locks, "_OF_OPEN_FILE", None)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="where other programs are not kept from it")
async def test_no_other_program_brings_the_log_of_an_open_ledger_into_its_file(path: Path) -> None:
    """Another program can read an open ledger, but cannot checkpoint its log."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        with shell(path) as other, shell(path) as reader:
            for mode in ("PASSIVE", "FULL", "RESTART", "TRUNCATE"):
                assert run(other, f"PRAGMA wal_checkpoint({mode})") == "[(1, -1, -1)]"
            for statement in ("BEGIN", "SELECT count(*) FROM messages"):
                said = run(reader, statement)
            assert said == "[(1,)]"
            await ledger.begin(intent("b"))
            shutil.copy(path, elsewhere(path))
            await ledger.finish("b", accepted())
        await refused(elsewhere(path), "is not whole")
        await ledger.finish("a", accepted())
    assert await states(path) == {"a": S.ACCEPTED, "b": S.ACCEPTED}


@pytest.mark.usefixtures("elsewhere_than_on_linux")
async def test_a_log_that_another_program_began_anew_is_begun_anew_again(path: Path) -> None:
    """A ledger begins a new log after another program restarted the log and wrote to it."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA wal_checkpoint(RESTART)")
            other.execute("UPDATE messages SET info = 'by hand'")
        generation = state_of_file(path).generation
        await ledger.finish("a", accepted())
        assert state_of_file(path).generation == generation + 2
        assert is_incomplete(path)
        with closing(sqlite3.connect(path, isolation_level=None)):
            pass
    assert await states(path) == {"a": S.ACCEPTED}


@pytest.mark.usefixtures("elsewhere_than_on_linux")
async def test_a_log_that_cannot_be_begun_anew_again_goes_on(path: Path) -> None:
    """A log that a reader keeps from restarting is used on, and the file says that it needs it."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        with (
            closing(sqlite3.connect(path, isolation_level=None)) as other,
            closing(sqlite3.connect(path, isolation_level=None)) as reader,
        ):
            other.execute("PRAGMA wal_checkpoint")
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM messages").fetchone()
            for number in range(3):
                await ledger.begin(intent(str(number)))
                assert is_incomplete(path)
            crashed = elsewhere(path)
            shutil.copy(path, crashed)
            await refused(crashed, "is not whole")
            shutil.copy(log_of(path), log_of(crashed))
            assert await states(crashed) == dict.fromkeys(("a", "0", "1", "2"), S.IN_DOUBT)
    assert len(await states(path)) == 4


@pytest.mark.parametrize("more", [0, 1, 3])
@pytest.mark.parametrize("pages", [1, 2, 5, 20])
async def test_a_ledger_whose_log_an_onlooker_kept_can_be_closed_and_opened(
    path: Path, pages: int, more: int
) -> None:
    """A ledger whose log was kept by readers closes without log and opens again."""
    async with SQLiteLedger(path, connect=with_pages(pages)) as ledger:
        await ledger.begin(intent("a"))
        for number in range(10):
            with closing(sqlite3.connect(path, isolation_level=None)) as reader:
                reader.execute("BEGIN")
                assert reader.execute("SELECT count(*) FROM messages").fetchone() == (1,)
                await ledger.opt_out(f"1555123400{number}")
            assert is_incomplete(path)
        for _ in range(more):
            await ledger.opt_out("15551234000")
        assert is_incomplete(path)
    assert not log_of(path).exists()
    assert not is_incomplete(path)
    assert await states(path) == {"a": S.IN_DOUBT}


@pytest.mark.usefixtures("elsewhere_than_on_linux")
@pytest.mark.parametrize("recorded", [0, 1])
async def test_a_log_that_another_program_brought_into_the_file_is_marked_again(
    path: Path, recorded: int
) -> None:
    """A file whose log another program checkpointed is marked again by the next write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with SQLiteLedger(path) as ledger:
            await ledger.begin(intent("a"))
            with closing(sqlite3.connect(path, isolation_level=None)) as reader:
                reader.execute("BEGIN")
                assert reader.execute("SELECT count(*) FROM messages").fetchone() == (1,)
                other.execute("PRAGMA wal_checkpoint")
                assert not is_incomplete(path)
                for number in range(recorded):
                    await ledger.opt_out(f"1555123400{number}")
                    assert is_incomplete(path)
        assert log_of(path).exists()
        assert is_incomplete(path)
    assert not log_of(path).exists()
    assert await states(path) == {"a": S.IN_DOUBT}


async def test_one_that_is_left_with_a_log_is_marked_so(path: Path) -> None:
    """A ledger closed while it is being read keeps its log and says that it needs it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        async with SQLiteLedger(path) as ledger:
            await ledger.begin(intent("a"))
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM messages").fetchone() == (1,)
        assert log_of(path).exists()
        assert is_incomplete(path)
        copy = elsewhere(path)
        shutil.copy(path, copy)
        await refused(copy, "is not whole")
        reader.execute("ROLLBACK")
        assert await states(path) == {"a": S.IN_DOUBT}


@pytest.mark.slow
async def test_an_onlooker_at_what_a_crash_left_is_not_in_the_way(path: Path) -> None:
    """A reader of a killed process's ledger does not keep it from opening."""
    killed(path, "a")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM messages").fetchone() == (1,)
        async with SQLiteLedger(path) as ledger:
            await ledger.begin(intent("b"))
            assert is_incomplete(path)
    assert await states(path) == {"a": S.IN_DOUBT, "b": S.IN_DOUBT}


async def test_one_that_was_closed_after_an_onlooker_was_in_the_way_is_whole(path: Path) -> None:
    """A ledger closed after readers were in the way is whole without its log."""
    async with SQLiteLedger(path, connect=with_pages(20)) as ledger:
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            for number in range(30):
                await ledger.begin(intent(str(number)))
                if number in {3, 10}:  # before the log is full, and at its very end
                    reader.execute("COMMIT") if reader.in_transaction else None
                    reader.execute("BEGIN")
                    reader.execute("SELECT count(*) FROM messages").fetchone()
    assert not is_incomplete(path)
    copy = elsewhere(path)
    shutil.copy(path, copy)
    assert len(await states(copy)) == 30


class Failing:
    """A connection whose disk fails where it is told."""

    def __init__(self, path: str) -> None:
        self._inner = connect(path)
        self._inner.execute("PRAGMA wal_autocheckpoint = 5")
        self.close = self._inner.close
        self.fails: str | None = None

    def execute(self, statement: str, values: Any = (), /) -> Any:
        if self.fails is not None and self.fails in statement:
            raise sqlite3.OperationalError("disk I/O error")
        return self._inner.execute(statement, values)


async def test_a_ledger_that_another_program_opens_as_it_is_closed_is_not_marked(
    path: Path,
) -> None:
    """A ledger that another program opens just after closing is not marked as incomplete."""

    class Closing(Failing):
        def __init__(self, path: str) -> None:
            super().__init__(path)
            self.close = self._close_and_open

        def _close_and_open(self) -> None:
            self._inner.close()
            log_of(path).touch()

    async with SQLiteLedger(path, connect=Closing) as ledger:
        await ledger.begin(intent("a"))
    assert not is_incomplete(path)
    log_of(path).unlink()
    assert await states(path) == {"a": S.IN_DOUBT}


@pytest.mark.parametrize("fails", ["wal_checkpoint", "PRAGMA user_version = "])
async def test_where_the_log_cannot_begin_anew_nothing_is_committed_until_it_can(
    path: Path, fails: str
) -> None:
    """A log that cannot restart is a LedgerError for the next commit, until it can."""
    connections: list[Failing] = []

    def connecting(path: str) -> Failing:
        connections.append(Failing(path))
        return connections[-1]

    async with SQLiteLedger(path, connect=connecting) as ledger:
        connections[0].fails = fails
        written: list[str] = []

        async def fill_up() -> None:
            for number in range(100):
                await ledger.begin(intent(str(number)))
                written.append(str(number))

        with pytest.raises(LedgerError, match="could not be written: disk I/O error"):
            await fill_up()
        assert 0 < len(written) < 10
        connections[0].fails = None
        await ledger.begin(intent("last"))
        assert is_incomplete(path)
    assert set(await states(path)) == {*written, "last"}


async def test_a_file_that_cannot_be_marked_is_an_error_for_the_caller(path: Path) -> None:
    """A commit after which the file cannot be marked as incomplete raises LedgerError."""

    class After(Failing):
        is_failing = False

        def execute(self, statement: str, values: Any = (), /) -> Any:
            if self.is_failing and "wal_checkpoint" in statement:
                self.fails = "PRAGMA user_version = "
            return super().execute(statement, values)

    connections: list[After] = []

    def connecting(path: str) -> After:
        connections.append(After(path))
        return connections[-1]

    async with SQLiteLedger(path, connect=connecting) as ledger:
        connections[0].is_failing = True

        async def fill_up() -> None:
            for number in range(20):
                await ledger.begin(intent(str(number)))
                assert is_incomplete(path)

        with pytest.raises(LedgerError, match="cannot be made to say that it is incomplete"):
            await fill_up()
        connections[0].is_failing, connections[0].fails = False, None
        await ledger.begin(intent("last"))
        assert is_incomplete(path)


async def test_a_log_that_is_not_as_expected_is_refused(path: Path) -> None:
    """A first commit that leaves no log raises LedgerError."""

    class Other(Failing):
        def execute(self, statement: str, values: Any = (), /) -> Any:
            return super().execute("ROLLBACK" if statement == "COMMIT" else statement, values)

    async with SQLiteLedger(path):
        pass
    async with SQLiteLedger(path, connect=Other) as ledger:
        with pytest.raises(LedgerError, match="its log is not as expected"):
            await ledger.begin(intent("a"))
    assert await states(path) == {}


@pytest.mark.slow
async def test_an_onlooker_at_a_file_of_an_earlier_version_is_not_in_the_way(path: Path) -> None:
    """A reader of an earlier version's file does not keep it from opening."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
    with closing(sqlite3.connect(path, isolation_level=None)) as earlier:
        (number,) = earlier.execute("PRAGMA user_version").fetchone()
        earlier.execute(f"PRAGMA user_version = {FileState.of(number).version}")
    with closing(sqlite3.connect(path, isolation_level=None)) as earlier:
        earlier.execute("UPDATE messages SET info = 'not read yet'")
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM messages").fetchone() == (1,)
            earlier.execute("UPDATE messages SET info = 'later'")
            async with SQLiteLedger(path) as ledger:
                await ledger.begin(intent("b"))
                shutil.copy(path, elsewhere(path))
            await refused(elsewhere(path), "is not whole")
    assert await states(path) == {"a": S.IN_DOUBT, "b": S.IN_DOUBT}


async def test_what_another_program_writes_to_a_closed_ledger_is_in_the_way(path: Path) -> None:
    """A ledger that another program is writing to is refused until that program closes it."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("UPDATE messages SET info = 'by hand'")
        with pytest.raises(LedgerError, match="was written by another program"):
            await SQLiteLedger(path).open()
    assert await states(path) == {"a": S.IN_DOUBT}


BY_HAND = "UPDATE messages SET info = 'by hand'"


def write_and_be_killed(path: Path, *statements: str) -> None:
    """Write to a ledger with SQLite alone, in a program that closes nothing."""
    by_hand = (
        "import os, sqlite3, sys; shell = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "[shell.execute(statement) for statement in sys.argv[2:]]; os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", by_hand, str(path), *statements], check=True)  # noqa: S603


@pytest.mark.slow
@pytest.mark.parametrize("first", ["SELECT 1", "CREATE TABLE mine (x)"])
async def test_what_another_program_left_behind_is_brought_in_as_the_error_says(
    path: Path, first: str
) -> None:
    """A killed program's log is refused, and the advice in the error makes the ledger open."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
    write_and_be_killed(path, first, BY_HAND)
    with pytest.raises(LedgerError, match="once with SQLite's own shell"):
        await SQLiteLedger(path).open()
    with closing(sqlite3.connect(path)) as shell:
        shell.execute("SELECT count(*) FROM messages").fetchone()
    async with SQLiteLedger(path) as ledger:
        kept = await ledger.delivery(key="a")
    assert kept is not None
    assert (kept.state, kept.info) == (S.IN_DOUBT, "by hand")


async def test_what_another_program_wrote_after_a_crash_is_kept(path: Path) -> None:
    """What another program wrote into a killed process's log is kept."""
    killed(path, "a")
    write_and_be_killed(path, "CREATE TABLE mine (x)", BY_HAND)
    async with SQLiteLedger(path) as ledger:
        kept = await ledger.delivery(key="a")
    assert kept is not None
    assert (kept.state, kept.info) == (S.IN_DOUBT, "by hand")
