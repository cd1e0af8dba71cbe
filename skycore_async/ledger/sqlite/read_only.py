"""Read a ledger's file without changing a byte of it.

Strategy: if a process has it open, a connection of our own that can only read.  In
WAL mode it sees what was committed when a question began, and neither waits for the
writer nor makes it wait.  What is `sending` is being sent: the writer is alive.

If nobody has it open, that would be the first connection, which writes to the journal's index, and
in the end to the file.  So the file, its journal and its inbox are copied, and the copy is opened
as a ledger, which also finds what is in doubt.

Rules:

* It neither writes nor checkpoints, nor makes a file: the writer remains the one connection that
  does, and the next writer finds what a crash left.
* Between two questions it holds no transaction, for which the writer's log would grow.
* A copy is discarded if somebody opened the ledger meanwhile.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread

from ...errors import LedgerError, LedgerInUse
from ...runtime.one_thread import OneThread
from ..base import BaseLedger
from ..commands import LedgerCommand, PendingCommand
from ..execution import CommandExecutor
from ..settlement import SETTLE_WITHIN
from .file_lock import by_process, in_use, is_in_use, journal_of
from .inbox_file import copy_inbox, inbox_of
from .open_file import OpenFile, describe_error
from .schema import VERSION, version_of
from .store import SQLiteStore

T = TypeVar("T")

_PATIENCE: Final = 5.0  # seconds, for a writer that is just opening it
_ATTEMPTS: Final = 20  # to read a file that is opened or closed meanwhile
_PAUSE: Final = 0.1  # seconds between them
_HEADER: Final = 100  # bytes, which identify a journal, and the version of a file
_BESIDE: Final = "mode=ro&readonly_shm=1"  # without the latter, it may write the journal's index
_ALONE: Final = "immutable=1"  # for a copy, which nobody else uses, and which has no journal


class LedgerView(BaseLedger):
    """Read the file `path`, whoever has it open; a command that changes it raises LedgerError.

    If a `copy` is read, errors name `path` all the same.  Raises LedgerError if the file cannot be
    read.
    """

    def __init__(self, path: Path, *, copy: Path | None = None) -> None:
        super().__init__()
        self._path = path
        file, how = (path, _BESIDE) if copy is None else (copy, _ALONE)
        self._uri = f"{file.resolve().as_uri()}?{how}"
        self._threads = OneThread()
        self._connection: Any = None

    async def open(self) -> None:
        """Open the file for reading."""
        await self._explaining(self._connect)

    async def aclose(self) -> None:
        """Close it without changing anything."""
        if (connection := self._connection) is not None:
            await self._threads.close(connection.close, interrupt=connection.interrupt)

    async def run(self, command: LedgerCommand[T]) -> T:
        """Run a command that changes nothing, and return its result."""
        return await self._explaining(lambda: self._answered(command))

    async def _explaining(self, step: Callable[[], T]) -> T:
        try:
            return await self._threads.run(step)
        except sqlite3.Error as error:
            raise _explained(self._path, error) from error

    def _connect(self) -> None:
        self._connection = sqlite3.connect(
            self._uri,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=_PATIENCE,
        )
        try:
            if version_of(self._connection, str(self._path)) != VERSION:
                raise LedgerError(
                    f"{self._path} is of an older version, or is being made: open it once to"
                    " write, as `skycore settle` and `skycore listen` do, which brings it up to"
                    " date"
                )
            self._executor = CommandExecutor(
                SQLiteStore(self._connection), clock=time.time, settle_within=SETTLE_WITHIN
            )
        except BaseException:
            self._connection.close()
            raise

    def _answered(self, command: LedgerCommand[T]) -> T:
        execute = self._connection.execute
        pending = PendingCommand(command)
        execute("BEGIN")  # all reads of one query see one state
        try:
            self._executor.run([pending])
        finally:
            with suppress(sqlite3.Error):
                execute("ROLLBACK")
        return pending.outcome(command)


class _Changing(LedgerError):
    """Another process is just opening or closing the file."""


def _explained(path: Path, error: sqlite3.Error | OSError) -> LedgerError:
    said = str(error)
    if "readonly" in said:
        return LedgerError(f"{path} is only looked at here: it can be read, and not be written")
    if "unable to open" in said:
        return _Changing(f"{path} cannot be read: {said}")
    if isinstance(error, OSError):
        return LedgerError(f"{path} cannot be read: {error.strerror}")
    return LedgerError(describe_error(str(path), error))


@asynccontextmanager
async def looked_at(path: Path, *, alone: bool = False) -> AsyncIterator[BaseLedger]:
    """Open a ledger to read it: as it was left, or beside the process that has it open.

    Raises LedgerError if it cannot be read.  With `alone`, raises LedgerInUse if a process has it
    open.
    """
    with TemporaryDirectory(prefix="skycore-") as directory:
        view = await _opened(path, Path(directory), alone=alone)
        try:
            yield view
        finally:
            await view.aclose()


async def _opened(path: Path, directory: Path, *, alone: bool) -> LedgerView:
    for left in reversed(range(_ATTEMPTS)):
        try:
            view = await anyio.to_thread.run_sync(_view, path, directory, alone)
            await view.open()
        except (_Changing, LedgerInUse) as error:
            if not left or not _is_for_a_moment(error, path):
                raise
            await anyio.sleep(_PAUSE)
        else:
            return view
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def _is_for_a_moment(error: LedgerError, path: Path) -> bool:
    # A process that takes in an inbox has the ledger open no longer than that.
    return isinstance(error, _Changing) or inbox_of(path.resolve()).exists()


def _view(path: Path, directory: Path, alone: bool) -> LedgerView:
    """Return a view of the file, or of a copy made in `directory`."""
    path = path.resolve()
    try:
        if is_in_use(path):
            if alone:
                raise in_use(path, by_process(path))
            return LedgerView(path)
        before = _state(path)
        copy = _copied(path, directory)
        if is_in_use(path) or _state(path) != before:
            raise _Changing(f"{path} is opened and closed all the time, and cannot be copied")
    except (OSError, sqlite3.Error) as error:
        raise _explained(path, error) from error
    opened = OpenFile(copy, name=str(path), clock=time.time, settle_within=SETTLE_WITHIN)
    opened.open()
    opened.close()
    return LedgerView(path, copy=copy)


def _state(path: Path) -> list[object]:
    """Return something that changes whenever the file or its journal is written."""
    found: list[object] = []
    for file in (path, journal_of(path)):
        if file.exists():
            status = file.stat()
            with file.open("rb") as opened:
                found += [status.st_ino, status.st_size, status.st_mtime_ns, opened.read(_HEADER)]
    return found


def _copied(path: Path, directory: Path) -> Path:
    copy = directory / path.name
    journal_of(copy).unlink(missing_ok=True)  # from an earlier try
    try:
        shutil.copyfile(path, copy)
        if journal_of(path).exists():
            shutil.copyfile(journal_of(path), journal_of(copy))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise LedgerError(
            f"{directory.parent} has no room for a copy of {path}, which is read without changing"
            " it: name another directory with TMPDIR"
        ) from error
    with suppress(sqlite3.Error):  # a crash may have left it torn: only a writer can mend that
        copy_inbox(path, copy)
    return copy
