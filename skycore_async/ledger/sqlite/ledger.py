"""A ledger in a file, which survives a crash and a power cut.

Strategy: one connection, used by one worker thread at a time, through
`GroupCommit`.  Opening checks what can be wrong with a file and says it in words.

Rules:

* `journal_mode=WAL` and `synchronous=FULL`, and both read back: with less, what
  was acknowledged can be gone after a power cut.
* One process at a time: a second file, PATH-lock, is held in an exclusive
  transaction of its own, which ends with the process however it ends.
* One connection that writes or checkpoints, and no other: `view` only reads.  So
  the WAL-reset defect of SQLite before 3.51.3, where two connections write or
  checkpoint at once, cannot touch it.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread

from ...errors import LedgerError, LedgerInUse
from ...runtime.background import BackgroundTasks
from ..base import BaseLedger
from ..commands import LedgerCommand, PendingCommand
from ..execution import CommandExecutor
from ..group_commit import GroupCommit
from ..settlement import SETTLE_WITHIN
from .reader import Connection
from .schema import VERSION, migrate, version_of
from .store import SQLiteStore

T = TypeVar("T")

_FULL: Final = 2  # what PRAGMA synchronous calls FULL
_PATIENCE: Final = 0.25  # seconds: who only looks may have it open for a moment


def _connect(path: str) -> Any:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_PATIENCE)


class SQLiteLedger(BaseLedger):
    """Remember every message and notification in the file `path`, made where there is none.

    Open it with `async with`, or with `open` and `aclose`; one process at a time
    can.  A call returns when what it wrote is on the disk.  A postback settles a
    doubt within `settle_within` seconds of its intent.  `clock` gives seconds
    since 1970.

    Raises LedgerError where the file cannot be opened, read or written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        settle_within: float = SETTLE_WITHIN,
        clock: Callable[[], float] = time.time,
        connect: Callable[[str], Connection] = _connect,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self._settle_within = settle_within
        self._clock = clock
        self._connect = connect
        self._opening = anyio.Lock()
        self._lock: Any = None
        self._connection: Any = None
        self._owner: BackgroundTasks | None = None
        self._commits: GroupCommit | None = None

    async def open(self) -> None:
        """Open the file; what was being sent when it was last in use is in doubt from now on."""
        async with self._opening:
            if self._owner is not None:
                self._owner.check()
                return
            executor = await anyio.to_thread.run_sync(self._open)
            self._owner = BackgroundTasks(self._close_files, of="ledger")
            self._commits = GroupCommit(
                functools.partial(self._commit, executor),
                self._owner,
                notify=self.waiters.notify,
                explain=self._explain,
                name=str(self.path),
            )

    async def aclose(self) -> None:
        """Write what waits to be written, and close the file."""
        if self._owner is not None:
            await self._owner.close()
            self.waiters.close()

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed yet."""
        return self._owner is not None and not self._owner.closed

    async def run(self, command: LedgerCommand[T]) -> T:
        """Run a command, and return when what it wrote is on the disk."""
        if self._commits is None:
            raise LedgerError(
                f"{self.path} is not open: use `async with`, or call `await ledger.open()`"
            )
        return await self._commits.run(command)

    def _commit(self, executor: CommandExecutor, group: Sequence[PendingCommand]) -> set[str]:
        """Run commands in one transaction, and return what they touched; all or nothing."""
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:  # as it would be for any other: once is enough to wait
            raise self._explain(error) from error
        try:
            executor.run(group)
            execute("COMMIT")
        except BaseException:
            executor.forget()
            with suppress(Exception):  # SQLite rolls back by itself after some errors
                execute("ROLLBACK")
            raise
        return executor.forget()

    def _explain(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error):
            return error
        return LedgerError(
            f"{self.path} could not be written: {error}. What it holds already is safe; it goes on"
            " when its disk has room and can be written to, and no other program holds it"
        )

    def _open(self) -> CommandExecutor:
        try:
            self._take_lock()
            self._connection = self._connect(str(self.path))
            return self._opened()
        except BaseException as error:
            self._close()
            if isinstance(error, sqlite3.Error):
                raise LedgerError(describe_error(self.path, error)) from error
            raise

    def _take_lock(self) -> None:
        if not self.path.parent.is_dir():
            raise LedgerError(f"{self.path}: there is no directory {self.path.parent}")
        # Of the file that a symbolic link leads to: it is the same ledger by every name.
        self._lock = _connect(f"{self.path.resolve()}-lock")
        try:
            self._lock.execute("PRAGMA journal_mode = MEMORY")  # nothing is ever committed
            self._lock.execute("BEGIN EXCLUSIVE")
            # A file that cannot be written is opened to be read, and would lock nobody out.
            self._lock.execute("PRAGMA user_version = 1")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise LedgerInUse(
                f"{self.path} is in use: one process at a time can open a ledger. End the other"
                f" first, or wait for it ({error})"
            ) from error

    def _opened(self) -> CommandExecutor:
        version = version_of(self._connection, self.path)
        _check(self._connection, self.path)
        executor = CommandExecutor(
            SQLiteStore(self._connection), clock=self._clock, settle_within=self._settle_within
        )
        self._connection.execute("BEGIN IMMEDIATE")
        if version != VERSION:
            migrate(self._connection, version)
        executor.interrupt()
        self._connection.execute("COMMIT")
        executor.forget()
        return executor

    async def _close_files(self) -> None:
        await anyio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        for connection in (self._connection, self._lock):
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()


def _check(connection: Any, path: Path) -> None:
    """Make the file as durable as can be, and hold it to that."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS has a weaker one by default
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if mode != "wal" or synchronous != _FULL:
        raise LedgerError(
            f"{path} cannot be made durable: its journal is {mode!r} and not 'wal'. Keep it on a"
            " disk of this machine"
        )


def describe_error(path: Path, error: sqlite3.Error) -> str:
    """Say what is wrong with a file, and what to do."""
    said = str(error)
    if "not a database" in said or "malformed" in said:
        return f"{path} is no ledger, or is damaged: {said}"
    if "readonly" in said or "unable to open" in said:
        return f"{path} cannot be written: {said}. Its directory and the file must be writable"
    return f"{path} cannot be opened: {said}"
