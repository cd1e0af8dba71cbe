"""One process has a ledger at a time: under any file name, while files are read, after a fork."""

from __future__ import annotations

import os
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
from skycore_async.errors import LedgerError, LedgerInUse
from skycore_async.ledger.sqlite import file_lock
from skycore_async.ledger.sqlite.file_lock import FileLock, by_process, is_in_use, lock_file
from skycore_async.ledger.sqlite.read_only import looked_at
from tests.support.ledger_owner import end, kill, opened_elsewhere, owner, tell
from tests.support.measuring import measured
from tests.support.on_asyncio import anyio_backend

__all__ = ["anyio_backend"]  # asyncio alone

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="a lock there has none of these holes"),
]


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="where the file itself is locked")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def read_it(path: Path) -> None:
    path.read_bytes()
    lock_file(path).read_bytes()


def back_it_up(path: Path) -> None:
    shutil.copytree(path.parent, path.parent / "backup", ignore=lambda *_: {"backup"})


def fork_a_child(_path: Path) -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("do", [read_it, back_it_up, fork_a_child])
async def test_no_reading_of_its_files_ends_the_lock(
    path: Path, do: Callable[[Path], None]
) -> None:
    """Reading or copying the ledger's files in the same process does not end the lock."""
    async with SQLiteLedger(path) as ledger:
        await ledger.opt_out("15551234888")
        do(path)
        assert opened_elsewhere(path).startswith("LedgerInUse:")
        assert is_in_use(path)
        await ledger.opt_in("15551234888")
    assert opened_elsewhere(path) == "it has 0 messages"


def hard_link(path: Path, other: Path) -> None:
    other.hardlink_to(path)


def symbolic_link(path: Path, other: Path) -> None:
    other.symlink_to(path)


def link_to_the_directory(path: Path, other: Path) -> None:
    other.parent.rmdir()
    other.parent.symlink_to(path.parent)


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("link", [hard_link, symbolic_link, link_to_the_directory])
async def test_one_file_is_one_ledger_by_every_name(
    path: Path, link: Callable[[Path, Path], None]
) -> None:
    """A ledger under another name of its file is refused, in this process and in another."""
    other = path.parent / "elsewhere" / path.name
    other.parent.mkdir()
    async with SQLiteLedger(path) as ledger:
        link(path, other)
        assert opened_elsewhere(other).startswith("LedgerInUse:")
        with pytest.raises(LedgerInUse, match="another ledger in this process has it open"):
            FileLock(other.resolve()).take()
        await ledger.opt_out("15551234888")
    assert opened_elsewhere(other) == "it has 0 messages"


@pytest.mark.slow
@on_linux
async def test_the_process_that_has_the_ledger_is_named(path: Path) -> None:
    """LedgerInUse names the process that has the ledger open."""
    with owner(path) as process:
        with pytest.raises(LedgerInUse, match=f"and process {process.pid} has it open"):
            await SQLiteLedger(path).open()
        assert is_in_use(path)
        kill(process)
    assert not is_in_use(path)
    assert by_process(path) == "another process"
    assert by_process(path.with_name("missing")) == "another process"


@pytest.mark.slow
async def test_a_lock_of_an_earlier_version_counts(path: Path) -> None:
    """The lock of an earlier version keeps a ledger from opening, and the other way round."""
    async with SQLiteLedger(path):
        pass
    with closing(sqlite3.connect(lock_file(path), isolation_level=None, timeout=0)) as earlier:
        earlier.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerInUse, match="and another process has it open"):
            await SQLiteLedger(path).open()
        assert is_in_use(path)
        earlier.execute("ROLLBACK")
        async with SQLiteLedger(path):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                earlier.execute("BEGIN EXCLUSIVE")


async def test_a_damaged_lock_file_is_an_error(path: Path) -> None:
    """A lock file that is no database is an error for opening and for looking."""
    async with SQLiteLedger(path):
        pass
    lock_file(path).write_text("something else" * 100)
    with pytest.raises(LedgerError, match="is no ledger, or is damaged"):
        await SQLiteLedger(path).open()
    with pytest.raises(sqlite3.DatabaseError):
        is_in_use(path)
    with pytest.raises(LedgerError, match="is no ledger, or is damaged"):
        async with looked_at(path):
            pass
    lock_file(path).unlink()
    lock_file(path).mkdir()
    with pytest.raises(LedgerError, match="cannot be written: Is a directory"):
        await SQLiteLedger(path).open()
    with pytest.raises(sqlite3.OperationalError, match=r"unable to open|disk I/O"):
        is_in_use(path)


def test_a_lock_that_cannot_be_written_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock file that is read-only is refused, since an earlier version would get in."""

    def only_to_read(file: Path, **settings: Any) -> sqlite3.Connection:
        read_only: sqlite3.Connection = connect(f"{file.as_uri()}?mode=ro", uri=True, **settings)
        return read_only

    connect = sqlite3.connect
    with monkeypatch.context() as reading:
        reading.setattr(file_lock.sqlite3, "connect", only_to_read)  # type: ignore[attr-defined]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            FileLock(path).take()
    assert opened_elsewhere(path) == "it has 0 messages"


# After a fork: in a process of its own, which has no other threads but those of a ledger.

FORKING = """
import os, sys, threading, warnings, anyio
from skycore_async import LedgerError, SQLiteLedger
warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside a thread: that is the case

path, how = sys.argv[1:]
ledger = SQLiteLedger(path)
is_open, is_forked, is_done = (threading.Event() for _ in range(3))

async def main():
    await ledger.open()
    await ledger.opt_out("15551234888")
    is_open.set()
    await anyio.to_thread.run_sync(is_forked.wait)
    await ledger.opt_in("15551234888")
    print("parent: goes on", flush=True)
    await anyio.to_thread.run_sync(is_done.wait)
    await ledger.aclose()

def child():
    for use in (SQLiteLedger(path).open, ledger.summary):
        try:
            anyio.run(use)
        except (LedgerError, RuntimeError) as error:
            print("child:", error, flush=True)
    if how == "exit":
        sys.exit()
    os._exit(0)

loop = threading.Thread(target=anyio.run, args=(main,))
loop.start()
is_open.wait()
pid = os.fork()
if pid == 0:
    child()
os.waitpid(pid, 0)
is_forked.set()
sys.stdin.readline()
is_done.set()
loop.join()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exit", "leave at once"])
def test_a_forked_child_has_no_ledger_and_costs_its_parent_none(path: Path, how: str) -> None:
    """A forked child can neither use nor open the ledger, and its exit leaves the lock and log."""
    command = [sys.executable, "-c", FORKING, str(path), how]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=measured(), **pipes) as parent:  # type: ignore[call-overload] # noqa: S603
        assert parent.stdout is not None
        said = [parent.stdout.readline() for _ in range(3)]
        assert "was open when this process was forked, and cannot be opened" in said[0]
        assert "is open in the process that forked this one, and not here" in said[1]
        assert said[2] == "parent: goes on\n"
        assert Path(f"{path}-wal").exists()
        assert opened_elsewhere(path).startswith("LedgerInUse:")
        parent.communicate("\n", timeout=20)
        assert parent.returncode == 0
    assert opened_elsewhere(path) == "it has 0 messages"


@pytest.mark.slow
async def test_a_ledger_that_is_closed_in_a_child_is_open_in_its_parent(path: Path) -> None:
    """Closing a ledger in a forked child leaves it open in the parent."""
    ledger = SQLiteLedger(path)
    await ledger.open()
    ledger._file.lock.is_inherited = True  # as after a fork
    await ledger.aclose()
    assert opened_elsewhere(path).startswith("LedgerInUse:")
    ledger._file.lock.is_inherited = False
    ledger._file.close()
    assert opened_elsewhere(path) == "it has 0 messages"


# A connection of SQLite's own in the process that opens the ledger.  From 3.51 on SQLite leaves a
# log in place whose index another process has, also where that one's locks on the ledger ended.
LEAVES_LOGS = sqlite3.sqlite_version_info >= (3, 51)

ONLOOKING = """
import os, signal, sqlite3, sys, anyio
from skycore_async import LedgerError, SQLiteLedger

path = sys.argv[1]
shell = sqlite3.connect(path, isolation_level=None)
shell.execute("SELECT count(*) FROM messages").fetchone()
open(path, "rb").close()  # which ends the locks of that connection, too
print("reads", flush=True)
sys.stdin.readline()


async def look():
    ledger = SQLiteLedger(path)
    await ledger.open()
    print("it has", (await ledger.summary()).total, "messages", flush=True)

try:
    anyio.run(look)
except LedgerError as error:
    print(error, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("has_log", [False, True])
@pytest.mark.parametrize("is_killed", [False, True])
async def test_a_connection_that_lost_its_locks_hides_nothing_recorded(
    path: Path, is_killed: bool, has_log: bool
) -> None:
    """A process with an own SQLite connection opens the ledger only if it sees the whole log."""
    async with SQLiteLedger(path):
        pass
    if has_log:  # which the onlooker's connection knows
        with owner(path) as process:
            tell(process, "b")
            kill(process)
    command = [sys.executable, "-c", ONLOOKING, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as onlooker:  # type: ignore[call-overload] # noqa: S603, ASYNC220
        assert onlooker.stdout is not None
        assert onlooker.stdout.readline() == "reads\n"
        assert opened_elsewhere(path) == f"it has {int(has_log)} messages"
        with owner(path) as process:
            tell(process, "a")
            if is_killed:
                kill(process)
            else:
                end(process)
        said, _ = onlooker.communicate("\n", timeout=20)
    there = f"it has {1 + has_log} messages"
    assert (there if LEAVES_LOGS else "end this process by SIGKILL") in said
    assert opened_elsewhere(path) == there


async def test_a_connection_that_lost_its_locks_leaves_the_ledger_free_for_others(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opening that is refused for a stale log index leaves no lock behind."""
    with owner(path) as process:
        kill(process)
    monkeypatch.setattr(file_lock, "_reads_a_removed_log", lambda _: True)
    with pytest.raises(LedgerError, match="to a log that another process has removed"):
        await SQLiteLedger(path).open()
    assert opened_elsewhere(path) == "it has 0 messages"


# Systems on which the two kinds of locks see each other.


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_lock, "_PLATFORM", "darwin")


@pytest.mark.slow
@pytest.mark.usefixtures("elsewhere")
async def test_outside_linux_the_lock_file_is_locked(path: Path) -> None:
    """Outside Linux the lock file is locked with flock, which no reading of a file ends."""
    async with SQLiteLedger(path):
        read_it(path)
        with lock_file(path).open("rb") as other, pytest.raises(BlockingIOError):
            file_lock.fcntl.flock(other, file_lock.fcntl.LOCK_EX | file_lock.fcntl.LOCK_NB)
        assert is_in_use(path)
    assert not is_in_use(path)
    with lock_file(path).open("rb") as other:
        file_lock.fcntl.flock(other, file_lock.fcntl.LOCK_EX)
        assert is_in_use(path)
        with pytest.raises(LedgerInUse, match="is in use"):
            await SQLiteLedger(path).open()


@pytest.mark.usefixtures("elsewhere")
async def test_outside_linux_a_second_name_is_refused(path: Path) -> None:
    """Outside Linux a ledger with a hard link is refused."""
    async with SQLiteLedger(path):
        pass
    path.with_name("second.db").hardlink_to(path)
    with pytest.raises(LedgerError, match="has a second name, a hard link"):
        await SQLiteLedger(path).open()


async def test_without_flock_it_is_the_lock_of_earlier_versions(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without flock, as on Windows, the lock is the SQLite lock of earlier versions."""
    monkeypatch.setattr(file_lock, "fcntl", None)
    async with SQLiteLedger(path):
        with (
            closing(sqlite3.connect(lock_file(path), isolation_level=None, timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN EXCLUSIVE")
    assert not is_in_use(path)


# Whom a file is for.


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
async def test_a_ledgers_files_are_private_from_the_start(path: Path, mask: int) -> None:
    """A ledger's files have mode 600 from the start, whatever the umask."""
    before = os.umask(mask)
    try:
        async with SQLiteLedger(path) as ledger:
            await ledger.opt_out("15551234888")
            modes = {one.name: one.stat().st_mode & 0o777 for one in path.parent.iterdir()}
    finally:
        os.umask(before)
    names = [f"{path.name}{ending}" for ending in ("", "-lock", "-shm", "-wal")]
    assert modes == dict.fromkeys(names, 0o600)
