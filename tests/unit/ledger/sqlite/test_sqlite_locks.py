"""Locks that keep other programs from removing or checkpointing an open ledger's log."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skycore_async import SQLiteLedger
from skycore_async.errors import LedgerError
from skycore_async.ledger.sqlite import outside_changes, sqlite_locks, write_ahead_log
from skycore_async.ledger.sqlite.open_file import connect
from tests.support.ledger_owner import opened_elsewhere
from tests.support.on_asyncio import anyio_backend
from tests.support.sqlite_shell import run, shell

__all__ = ["anyio_backend"]  # asyncio alone

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked there"),
]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="where locks of an open file are")
CHECKPOINT = "PRAGMA wal_checkpoint(TRUNCATE)"
BUSY = "[(1, -1, -1)]"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}{ending}")


@on_linux
async def test_no_reading_of_its_files_lets_another_program_remove_the_log(path: Path) -> None:
    """Another program cannot remove an open ledger's log after this process read its files."""
    async with SQLiteLedger(path) as ledger:
        await ledger.opt_out("15551234888")
        for ending in ("", "-wal", "-shm"):
            beside(path, ending).read_bytes()
        with shell(path) as other:
            assert run(other, "SELECT number FROM opt_outs") == "[('15551234888',)]"
            assert run(other, CHECKPOINT) == BUSY
        await ledger.opt_in("15551234888")
        assert beside(path, "-wal").exists()
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name, f"{path.name}-lock"]


def no_such_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_locks, "_OF_OPEN_FILE", None)


def a_kernel_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    known = vars(sqlite_locks.fcntl) | {"fcntl": refuse}
    monkeypatch.setattr(sqlite_locks, "fcntl", SimpleNamespace(**known))


@pytest.mark.parametrize("lack", [no_such_locks, a_kernel_without])
async def test_without_locks_of_an_open_file_those_of_a_process_are_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch, lack: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Without locks of an open file, locks of the process keep others from checkpointing."""
    lack(monkeypatch)
    async with SQLiteLedger(path) as ledger:
        await ledger.opt_out("15551234888")
        with shell(path) as other:
            assert run(other, CHECKPOINT) == BUSY
        await ledger.opt_in("15551234888")
    assert opened_elsewhere(path) == "it has 0 messages"


async def test_without_any_a_ledger_can_be_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any such locks a ledger works, and begins a new log after a checkpoint."""
    no_such_locks(monkeypatch)
    monkeypatch.setattr(sqlite_locks, "fcntl", None)
    for module in (write_ahead_log, outside_changes):
        monkeypatch.setattr(module, "read", outside_changes._read_by_seeking)
    async with SQLiteLedger(path) as ledger:
        await ledger.opt_out("15551234888")
        with shell(path) as other:
            assert run(other, CHECKPOINT) == "[(0, 0, 0)]"
        await ledger.opt_in("15551234888")
    assert opened_elsewhere(path) == "it has 0 messages"


@contextmanager
def bringing_its_log_in(path: Path) -> Iterator[None]:
    """Hold the lock of a program that checkpoints."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("SELECT count(*) FROM messages").fetchone()
        with beside(path, "-shm").open("r+b") as index:
            sqlite_locks._lock_for_file(index, sqlite_locks.fcntl.LOCK_EX, (121, 1))
            yield


@on_linux
async def test_a_program_that_brings_the_log_in_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening waits a moment for a program that checkpoints, and then raises LedgerError."""
    async with SQLiteLedger(path):
        pass
    waited: list[float] = []
    monkeypatch.setattr(sqlite_locks.time, "sleep", waited.append)  # type: ignore[attr-defined]
    with (
        bringing_its_log_in(path),
        pytest.raises(LedgerError, match=r"another program brings what .*-wal has into"),
    ):
        await SQLiteLedger(path).open()
    assert 0.1 < sum(waited) < 1
    assert opened_elsewhere(path) == "it has 0 messages"


@pytest.mark.parametrize("recorded", [0, 1])
async def test_an_index_that_a_killed_program_left_half_written_is_made_anew(
    path: Path, recorded: int
) -> None:
    """SQLite can rebuild a log index that a killed program left half written."""

    class Torn:
        def __init__(self, path: str) -> None:
            self._inner = connect(path)
            self.close = self._inner.close
            self.is_torn = False

        def execute(self, statement: str, values: Any = (), /) -> Any:
            if self.is_torn:
                try:
                    with beside(path, "-shm").open("r+b") as index:
                        sqlite_locks._lock_for_process(index, sqlite_locks.fcntl.LOCK_EX, (121, 1))
                except BlockingIOError as error:
                    raise sqlite3.OperationalError("locking protocol") from error
                self.is_torn = False
            return self._inner.execute(statement, values)

    connections: list[Torn] = []

    def connecting(path: str) -> Torn:
        connections.append(Torn(path))
        return connections[-1]

    async with SQLiteLedger(path, connect=connecting) as ledger:
        for _ in range(recorded):
            await ledger.opt_in("15551234888")
        connections[0].is_torn = True
        await ledger.opt_out("15551234888")
        assert not connections[0].is_torn
        with shell(path) as other:
            assert run(other, CHECKPOINT) == BUSY


# A child that lives on when its parent was killed has none of the locks.

LEAVING = """
import os, signal, sys, threading, time, warnings, anyio
from skycore_async import SQLiteLedger
warnings.simplefilter("ignore", DeprecationWarning)

async def main():
    async with SQLiteLedger(sys.argv[1]) as ledger:
        await ledger.opt_out("15551234888")
        if os.fork() == 0:
            print("child", flush=True)
            time.sleep(20)
            os._exit(0)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.slow
def test_a_child_that_outlives_its_parent_is_in_nobodys_way(path: Path) -> None:
    """A forked child that outlives its parent does not keep the ledger from opening."""
    command = [sys.executable, "-c", LEAVING, str(path)]
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "child\n"
        parent.kill()
        try:
            assert opened_elsewhere(path) == "it has 0 messages"
            assert not beside(path, "-wal").exists()
        finally:
            os.killpg(parent.pid, 9)
