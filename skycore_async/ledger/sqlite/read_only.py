"""A look at a ledger's file while another process has it open.

Strategy: a connection of its own that can only read.  In WAL mode it sees what
was committed when a question began, and neither waits for the owner nor lets it
wait.

Rules:

* It neither writes nor checkpoints, so that the owner is still the one connection
  that does, and no defect of two that do can touch the file.
* Between two questions it holds no transaction: the owner's log does not grow for
  an onlooker's sake.
* What is `sending` is so: the owner lives.  Where nobody has the ledger open, it
  is opened in order instead, which tells what is in doubt.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread

from ...errors import LedgerError, LedgerInUse
from ..base import BaseLedger
from ..commands import LedgerCommand, PendingCommand
from ..execution import CommandExecutor
from ..settlement import SETTLE_WITHIN
from .ledger import SQLiteLedger, describe_error
from .schema import VERSION, version_of
from .store import SQLiteStore

T = TypeVar("T")

_PATIENCE: Final = 5.0  # seconds, for an owner that is just opening it


class LedgerView(BaseLedger):
    """Read the file `path`, whoever has it open; what would change it raises LedgerError.

    Raises LedgerError where the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._turn = anyio.Lock()
        self._connection: Any = None

    async def open(self) -> None:
        """Open the file for reading."""
        await self._in_turn(self._connect)

    async def aclose(self) -> None:
        """Close it, and leave all as it is."""
        if self._connection is not None:
            await self._in_turn(self._connection.close)

    async def run(self, command: LedgerCommand[T]) -> T:
        """Run a command that changes nothing."""
        return await self._in_turn(lambda: self._answered(command))

    async def _in_turn(self, do: Callable[[], T]) -> T:
        async with self._turn:
            try:
                return await anyio.to_thread.run_sync(do)
            except sqlite3.Error as error:
                raise LedgerError(_describe_error(self._path, error)) from error

    def _connect(self) -> None:
        self._connection = sqlite3.connect(
            f"{self._path.resolve().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=_PATIENCE,
        )
        try:
            if version_of(self._connection, self._path) != VERSION:
                raise LedgerError(f"{self._path} is of an older version, or is being made")
            self._executor = CommandExecutor(
                SQLiteStore(self._connection), clock=time.time, settle_within=SETTLE_WITHIN
            )
        except BaseException:
            self._connection.close()
            raise

    def _answered(self, command: LedgerCommand[T]) -> T:
        execute = self._connection.execute
        pending = PendingCommand(command)
        execute("BEGIN")  # what one question asks is of one moment
        try:
            self._executor.run([pending])
        finally:
            with suppress(sqlite3.Error):
                execute("ROLLBACK")
        return pending.outcome(command)


def _describe_error(path: Path, error: sqlite3.Error) -> str:
    said = str(error)
    if "readonly" in said:
        return f"{path} is in use: here it can be read, and not be written"
    if "unable to open" in said:
        return f"{path} cannot be read: {said}"
    return describe_error(path, error)


@asynccontextmanager
async def looked_at(path: Path) -> AsyncIterator[BaseLedger]:
    """Open a ledger to read it: in order, or beside the process that has it open.

    Raises LedgerError where it can be neither.
    """
    ledger: BaseLedger = SQLiteLedger(path)
    try:
        await ledger.open()
    except LedgerInUse:
        ledger = LedgerView(path)
    async with ledger:
        yield ledger
