"""Changes that others make to the files of an open ledger: overwritten, or restored."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from skycore_async import SQLiteLedger
from skycore_async.errors import LedgerError
from skycore_async.ledger.commands import TellOptOuts
from skycore_async.ledger.model import MessageState
from skycore_async.ledger.sqlite import outside_changes, write_ahead_log
from skycore_async.ledger.sqlite.open_file import connect
from skycore_async.ledger.sqlite.outside_changes import OutsideChanges
from skycore_async.ledger.sqlite.write_ahead_log import WriteAheadLog, write_durably
from tests.support.ledger_cases import NOT_SENT, TO, accepted, intent, notice
from tests.support.on_asyncio import anyio_backend

__all__ = ["anyio_backend"]  # asyncio alone

pytestmark = pytest.mark.anyio

S = MessageState


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def backup_of(path: Path) -> Path:
    return path.with_name("backup.db")


def before_each_commit(do: Callable[[], None]) -> Callable[[str], Any]:
    """Return a `connect` whose connections call `do` before they commit."""

    class Calling:
        def __init__(self, path: str) -> None:
            self._inner = connect(path)
            self.close = self._inner.close

        def execute(self, statement: str, values: Any = (), /) -> Any:
            if statement == "COMMIT":
                do()
            return self._inner.execute(statement, values)

    return Calling


def written_anew(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("VACUUM INTO ?", (str(backup_of(path)),))


def page_by_page(path: Path) -> None:
    with (
        closing(sqlite3.connect(path)) as shell,
        closing(sqlite3.connect(backup_of(path))) as backup,
    ):
        shell.backup(backup)


def copied_over(path: Path) -> None:
    shutil.copyfile(backup_of(path), path)  # into the very file that is there


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def contents(path: Path) -> tuple[bytes, bytes]:
    return path.read_bytes(), log_of(path).read_bytes()


def log_emptied(path: Path) -> None:
    log_of(path).write_bytes(b"")


async def states(path: Path) -> dict[str, MessageState]:
    async with SQLiteLedger(path) as ledger:
        return {each.key: each.state async for each in ledger.deliveries()}


async def a_backup(path: Path, back_up: Callable[[Path], None] = written_anew) -> None:
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        back_up(path)
        await ledger.begin(intent("b"))


@pytest.mark.parametrize("back_up", [written_anew, page_by_page])
@pytest.mark.parametrize("change", [copied_over, emptied])
@pytest.mark.parametrize("is_used", [False, True])
async def test_nothing_is_recorded_in_a_file_that_was_written_over(
    path: Path, back_up: Callable[[Path], None], change: Callable[[Path], None], is_used: bool
) -> None:
    """An open ledger whose file is overwritten raises LedgerError and writes nothing more."""
    await a_backup(path, back_up)
    async with SQLiteLedger(path) as ledger:
        if is_used:
            await ledger.begin(intent("c"))
        change(path)
        before = contents(path)
        with pytest.raises(LedgerError, match="was written over while it was open"):
            await ledger.summary()
        assert contents(path) == before
        for _ in range(2):
            with pytest.raises(LedgerError, match="was written over while it was open"):
                await ledger.begin(intent("d"))
            with pytest.raises(LedgerError, match="was written over while it was open"):
                await ledger.summary()
    assert path.read_bytes() == before[0]  # noqa: ASYNC240
    with pytest.raises(LedgerError):
        await SQLiteLedger(path).open()


def both_copied_over(path: Path) -> None:
    for file in (path, log_of(path)):
        shutil.copyfile(file.with_name(f"copy-of-{file.name}"), file)


def copied_together(path: Path) -> None:
    for file in (path, log_of(path)):
        shutil.copyfile(file, file.with_name(f"copy-of-{file.name}"))


async def one(ledger: SQLiteLedger, key: str) -> None:
    await ledger.begin(intent(key))
    await ledger.finish(key, accepted(key))


@pytest.mark.parametrize("pages", [1000, 4])  # the log begins anew between the two, or does not
async def test_nothing_is_recorded_where_file_and_log_were_written_over_together(
    path: Path, pages: int
) -> None:
    """An earlier copy of both is whole, and its headers may be those that there are.

    What would be recorded after it in the log, nobody could read, nor what is there before.
    """

    def with_a_log(path: str) -> Any:
        connection = connect(path)
        connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        return connection

    async with SQLiteLedger(path, connect=with_a_log) as ledger:
        await one(ledger, "a")
        copied_together(path)
        for number in range(5):
            await one(ledger, f"b{number}")
        both_copied_over(path)
        before = contents(path)
        for _ in range(2):
            with pytest.raises(LedgerError, match="was written over while it was open"):
                await ledger.begin(intent("c"))
            with pytest.raises(LedgerError, match="was written over while it was open"):
                await ledger.opt_out(TO)
    assert contents(path) == before
    assert await states(path) == {"a": S.ACCEPTED}


async def test_a_copy_of_file_and_log_as_they_are_takes_nothing_away(path: Path) -> None:
    """Nothing was recorded since, so nothing is forgotten."""
    async with SQLiteLedger(path) as ledger:
        await one(ledger, "a")
        copied_together(path)
        both_copied_over(path)
        await one(ledger, "b")
    assert await states(path) == {"a": S.ACCEPTED, "b": S.ACCEPTED}


async def test_nothing_is_recorded_where_the_log_was_emptied(path: Path) -> None:
    """An open ledger whose write-ahead log is emptied raises LedgerError."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        log_emptied(path)
        with pytest.raises(LedgerError, match="or its -wal file, was written over"):
            await ledger.finish("a", accepted())
    with pytest.raises(LedgerError, match="is not whole"):
        await SQLiteLedger(path).open()


async def test_a_file_overwritten_during_a_commit_is_an_error_for_the_caller(path: Path) -> None:
    """A file overwritten during a commit is a LedgerError for the caller who waits for it."""
    await a_backup(path)

    is_overwriting = False

    def overwrite() -> None:
        if is_overwriting:
            copied_over(path)

    async with SQLiteLedger(path, connect=before_each_commit(overwrite)) as ledger:
        await ledger.begin(intent("c"))
        is_overwriting = True
        with pytest.raises(LedgerError, match="was written over while it was open"):
            await ledger.begin(intent("d"))


def put_back(path: Path) -> None:
    with (
        closing(sqlite3.connect(backup_of(path))) as backup,
        closing(sqlite3.connect(path)) as shell,
    ):
        backup.backup(shell)


FORGOTTEN = "has forgotten what was sent last"


@pytest.mark.parametrize("back_up", [written_anew, page_by_page])
async def test_nothing_is_begun_once_a_backup_was_put_back_by_sqlite(
    path: Path, back_up: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """After SQLite restored a backup no message begins, but postbacks are still recorded."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        await ledger.finish("a", accepted())
        back_up(path)
        await ledger.begin(intent("b"))
        await ledger.finish("b", accepted("T2"))
        put_back(path)
        for key in ("b", "c", "c"):
            with pytest.raises(LedgerError, match=FORGOTTEN):
                await ledger.begin(intent(key))
        await ledger.record(notice())
        await ledger.opt_out(TO)
    assert len(caplog.records) == 1
    async with SQLiteLedger(path) as ledger:
        assert [word.number async for word in ledger.opt_outs()] == [TO]
        assert [each.state async for each in ledger.deliveries()] == [S.SENT]
        await ledger.begin(intent("b", to="15559876543"))


async def test_a_restored_backup_is_noticed_without_a_begin_before(path: Path) -> None:
    """A restored backup is noticed even if the open ledger has begun no message yet."""
    await a_backup(path)
    async with SQLiteLedger(path) as ledger:
        put_back(path)
        with pytest.raises(LedgerError, match=FORGOTTEN):
            await ledger.begin(intent("b"))


async def test_a_backup_without_a_second_attempt_is_noticed(path: Path) -> None:
    """A restored backup is noticed if only a key's second attempt is missing in it."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        await ledger.finish("a", NOT_SENT)
        written_anew(path)
        await ledger.begin(intent("a"))
        await ledger.finish("a", accepted())
        put_back(path)
        with pytest.raises(LedgerError, match=FORGOTTEN):
            await ledger.begin(intent("a"))


async def test_an_opt_out_beside_a_refused_begin_is_recorded(path: Path) -> None:
    """After a restore, an opt-out in the same commit as a refused begin is recorded."""
    await a_backup(path)
    async with SQLiteLedger(path) as ledger:
        put_back(path)

        async def begin() -> None:
            with pytest.raises(LedgerError, match=FORGOTTEN):
                await ledger.begin(intent("b"))

        async with anyio.create_task_group() as group:
            group.start_soon(begin)
            group.start_soon(ledger.opt_out, TO)
        assert [word.number async for word in ledger.opt_outs()] == [TO]


async def test_a_backup_of_all_that_was_begun_takes_nothing_away(path: Path) -> None:
    """A restored backup that has every begun message does not stop the ledger."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        written_anew(path)
        put_back(path)
        await ledger.begin(intent("b"))


@pytest.mark.parametrize("is_reopened", [False, True])
async def test_nothing_is_begun_once_a_restored_backup_lacks_the_last_opt_out(
    path: Path, is_reopened: bool
) -> None:
    """It has all messages, but the number that said STOP would be sent to."""
    async with SQLiteLedger(path) as ledger:
        await one(ledger, "a")
        written_anew(path)
        await ledger.opt_out("15557654321")
        if not is_reopened:
            put_back(path)
            with pytest.raises(LedgerError, match=FORGOTTEN):
                await ledger.begin(intent("b", to="15557654321"))
            return
    async with SQLiteLedger(path) as ledger:
        put_back(path)
        with pytest.raises(LedgerError, match="or who opted out last"):
            await ledger.begin(intent("b", to="15557654321"))


async def test_other_changes_by_another_program_do_not_stop_sending(path: Path) -> None:
    """The last opt-out is still in the file."""
    async with SQLiteLedger(path) as ledger:
        await ledger.opt_out("15557654321")
        await one(ledger, "a")
        changed_by_others(path)
        await one(ledger, "b")


class Failing:
    """Makes the connections of a ledger fail with an I/O error at the next such statements."""

    def __init__(self) -> None:
        self.at: list[str] = []  # beginnings of statements, each of which fails once

    def __call__(self, path: str) -> Any:
        inner = connect(path)

        def execute(statement: str, values: Any = (), /) -> Any:
            if self.at and statement.startswith(self.at[0]):
                del self.at[0]
                raise sqlite3.OperationalError("disk I/O error")
            return inner.execute(statement, values)

        return SimpleNamespace(execute=execute, close=inner.close)


THE_ENTRY = "SELECT number, out, at, stamped FROM opt_outs WHERE number = ?"


def changed_by_others(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("CREATE TABLE of_another_program (a)")


async def test_an_opt_out_that_could_not_be_read_back_is_not_taken_for_forgotten(
    path: Path,
) -> None:
    """Another program writes after the disk failed for a moment: nothing was put back."""
    failing = Failing()
    async with SQLiteLedger(path, connect=failing) as ledger:
        await ledger.opt_out(TO)
        failing.at.append(THE_ENTRY)
        await ledger.opt_in(TO)
        assert not failing.at
        changed_by_others(path)
        await ledger.begin(intent("a"))


@pytest.mark.parametrize("failed", ["the look", "another opt-out"])
async def test_a_disk_that_fails_for_a_moment_hides_no_forgotten_opt_out(
    path: Path, failed: str
) -> None:
    """Neither a look for the last opt-out that failed, nor a later one that was rolled back."""
    failing = Failing()
    async with SQLiteLedger(path, connect=failing) as ledger:
        await one(ledger, "a")
        written_anew(path)
        await ledger.opt_out("15557654321")
        if failed == "another opt-out":
            failing.at += ["COMMIT", "COMMIT"]  # a command is tried again alone
            with pytest.raises(LedgerError, match="disk I/O error"):
                await ledger.opt_out("15550000001")
            failing.at.clear()
            await ledger.record(notice())  # committed after the one that was rolled back
        put_back(path)
        if failed == "the look":
            failing.at.append(THE_ENTRY)  # the command is tried again alone
        with pytest.raises(LedgerError, match=FORGOTTEN):
            await ledger.begin(intent("c", to="15557654321"))


async def test_an_entry_that_changes_nothing_is_not_the_last_opt_out(path: Path) -> None:
    """The backup has what was told again, as a shared list does, but not who said STOP since."""
    async with SQLiteLedger(path) as ledger:
        await ledger.opt_out("15559876543")
        told = [each async for each in ledger.opt_outs()]
        await one(ledger, "a")
        written_anew(path)
        await ledger.opt_out("15557654321")
        await ledger.run(TellOptOuts(entries=tuple(told)))
        put_back(path)
        with pytest.raises(LedgerError, match=FORGOTTEN):
            await ledger.begin(intent("b", to="15557654321"))


async def test_a_failed_commit_is_not_taken_for_a_restore(path: Path) -> None:
    """A message whose commit failed is not taken for one that a restore removed."""
    is_failing = False

    def fail() -> None:
        if is_failing:
            raise sqlite3.OperationalError("disk I/O error")

    async with SQLiteLedger(path, connect=before_each_commit(fail)) as ledger:
        await ledger.begin(intent("a"))
        is_failing = True
        with pytest.raises(LedgerError, match="disk I/O error"):
            await ledger.begin(intent("b"))
        is_failing = False
        await ledger.opt_out("15559876543")
        assert await ledger.begin(intent("c")) is None


READ, MARK = "_read_headers", "_write_mark"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the set of methods that fail with an I/O error; the test fills it."""
    failing: set[str] = set()

    def unless_it_fails(of: type[Any], name: str) -> None:
        method = getattr(of, name)

        def run(*args: Any) -> Any:
            if name in failing:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return method(*args)

        monkeypatch.setattr(of, name, run)

    unless_it_fails(OutsideChanges, READ)
    unless_it_fails(WriteAheadLog, MARK)
    return failing


async def test_a_disk_that_fails_for_a_moment_wrote_nothing_over(
    path: Path, failing: set[str]
) -> None:
    """A disk that fails for a moment is not taken for an overwritten file."""

    async def begin_many(ledger: SQLiteLedger) -> None:
        for number in range(20):  # until the log is full
            await ledger.begin(intent(f"b{number}"))

    def with_a_short_log(path: str) -> Any:
        connection = connect(path)
        connection.execute("PRAGMA wal_autocheckpoint = 4")
        return connection

    async with SQLiteLedger(path, connect=with_a_short_log) as ledger:
        await ledger.begin(intent("a"))
        failing.update({READ, MARK})
        with pytest.raises(LedgerError, match="cannot be made to say that it is incomplete"):
            await begin_many(ledger)
        failing.clear()
        assert await ledger.begin(intent("c")) is None
        await ledger.finish("c", accepted())
    assert (await states(path))["c"] is S.ACCEPTED


async def test_a_read_error_after_a_begin_is_raised_and_the_begin_can_be_repeated(
    path: Path, failing: set[str]
) -> None:
    """A begin that cannot be verified raises LedgerError, and can be repeated later."""
    async with SQLiteLedger(path) as ledger:
        failing.add(READ)
        for _ in range(2):
            with pytest.raises(LedgerError, match=r"could not be read: .*Input/output error"):
                await ledger.begin(intent("a"))
        failing.clear()
        assert await ledger.begin(intent("a")) is None


async def test_a_read_error_after_a_commit_is_raised_and_the_begin_can_be_repeated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A begin after which the log cannot be read raises LedgerError, and can be repeated later."""

    def fail(*_: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        with monkeypatch.context() as failing_disk:
            failing_disk.setattr(write_ahead_log, "read", fail)
            with pytest.raises(LedgerError, match=r"could not be read: .*Input/output error"):
                await ledger.begin(intent("b"))
        assert await ledger.begin(intent("b")) is None


async def test_a_failed_read_is_repeated_on_the_writing_connection(
    path: Path, failing: set[str]
) -> None:
    """A query that the reading connection cannot answer is answered by the writing one."""
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(intent("a"))
        failing.add(READ)
        assert (await ledger.summary()).total == 1


@pytest.mark.parametrize("beside", [outside_changes._read_by_seeking, None])
def test_threads_that_share_the_position_in_a_file_do_not_move_it_for_each_other(
    path: Path, monkeypatch: pytest.MonkeyPatch, beside: Callable[..., Any] | None
) -> None:
    """Without `pread`, threads that seek in one file do not disturb each other."""
    path.write_bytes(b"0123456789")
    seek = os.lseek
    threads: list[threading.Thread] = []

    with path.open("r+b", buffering=0) as file:

        def other() -> None:
            if beside is not None:
                beside(file.fileno(), 3, 1)
            else:
                write_durably(file, b"x", 2)

        def seek_while_another_thread_comes(*args: Any) -> int:
            found = seek(*args)
            if not threads:
                threads.append(threading.Thread(target=other))
                threads[0].start()
                threads[0].join(0.05)
            return found

        monkeypatch.setattr(os, "lseek", seek_while_another_thread_comes)
        assert outside_changes._read_by_seeking(file.fileno(), 3, 5) == b"567"
        threads[0].join()
