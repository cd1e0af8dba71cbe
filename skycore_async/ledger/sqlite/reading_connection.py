"""A connection that reads an open ledger beside the one that writes to it.

Strategy: in WAL mode readers neither wait for the writer nor make it wait.  So queries about many
messages run over a connection of their own, one thread at a time, while messages are sent.

Rules:

* The connection is made in the same process when it is first needed, and closed before the one
  that writes.  So the latter is still the last to close the file, and keeps its locks until then.
* It can only read, and runs each query in a transaction: it sees everything that was acknowledged
  before, and all reads of a query see one state.
* A query is short, however long the list (`reader.SPAN`), so that the log can restart between two
  of them: the writer waits a moment for that, and keeps new queries out.
* It releases the GIL now and then, as senders wait for it.
* It reads no other file: if the ledger's file was moved, nothing is read.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from ..commands import Query
from ..reader import Unreadable
from .file_lock import FileLock
from .reader import SQLiteReader

T = TypeVar("T")

_PATIENCE: Final = 0.25  # seconds, while the log restarts
_MOMENT: Final = 0.02  # seconds for which the writer waits for a query to end
_YIELD: Final = 0.00005  # seconds, in which another thread can take the GIL


def yield_gil() -> None:
    """Let another thread have the GIL."""
    time.sleep(_YIELD)


class ReadingConnection:
    """Read the ledger at `path`, which `lock` holds; `check` raises if it was moved."""

    def __init__(self, path: Path, lock: FileLock, check: Callable[[], None]) -> None:
        self._path = path
        self._lock = lock
        self._check = check
        self._turn = threading.Lock()
        self._connection: Any = None
        self._is_over = False

    def answer(self, query: Query[T]) -> T:
        """Return the answer to a query.

        Raises LedgerError if the file was moved, RuntimeError after closing, and Unreadable if the
        writing connection has to answer it.
        """
        with self._turn:
            if self._is_over:
                raise RuntimeError("this ledger is closed")
            self._check()
            try:
                return self._answered(query)
            except sqlite3.Error as error:
                raise Unreadable from error

    def _answered(self, query: Query[T]) -> T:
        if self._connection is None:
            self._connection = self._opened()
        execute = self._connection.execute
        execute("BEGIN")
        try:
            return query.answer(SQLiteReader(self._connection, yield_gil=yield_gil))
        finally:
            with suppress(sqlite3.Error):
                execute("ROLLBACK")

    def _opened(self) -> Any:
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=_PATIENCE,
        )
        self._lock.not_to_be_closed_by_children(connection)
        try:
            self._check()  # that it was not moved before it was opened
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def held_off(self) -> Iterator[None]:
        """Let no query begin meanwhile; do not wait long for one that is running."""
        is_ours = self._turn.acquire(timeout=_MOMENT)
        try:
            yield
        finally:
            if is_ours:
                self._turn.release()

    def close(self) -> None:
        """Close it for good, after a query that is running."""
        with self._turn:
            self._is_over = True
            if self._connection is not None:
                with suppress(sqlite3.Error):
                    self._connection.close()
                self._connection = None
