"""A connection that reads an open ledger beside the one that writes to it.

Strategy: in WAL mode readers neither wait for the writer nor let it wait.  So what is
about many messages is asked over a connection of its own, by one thread at a time, and whatever
is sent meanwhile goes on.

Rules:

* It is made by SQLite, in the same process, where it is first needed, and closed before the one
  that writes: so that one is still the last to close the file, and no lock of its ends sooner.
* It can only read, and begins what it is asked in a transaction of its own: it sees all that was
  acknowledged before, and what one question asks is of one moment.
* A question is short, however long the list is (`reader.SPAN`), so that the log can begin anew
  between two of them: the writer waits a moment for that, and keeps new questions out.
* It gives Python's lock up now and then, as senders wait for that.
* It reads no file but the one that is open: where that was moved, nothing is read.
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

_PATIENCE: Final = 0.25  # seconds, for the moment in which the log begins anew
_MOMENT: Final = 0.02  # seconds for which the writer waits for a question to end
_YIELD: Final = 0.00005  # seconds, in which another thread can take Python's lock


def yield_gil() -> None:
    """Let another thread have Python's lock."""
    time.sleep(_YIELD)


class ReadingConnection:
    """What reads the ledger at `path`, which `lock` holds; `check` raises where it was moved."""

    def __init__(self, path: Path, lock: FileLock, check: Callable[[], None]) -> None:
        self._path = path
        self._lock = lock
        self._check = check
        self._turn = threading.Lock()
        self._connection: Any = None
        self._is_over = False

    def answer(self, query: Query[T]) -> T:
        """Return the answer to a question.

        Raises LedgerError where the file was moved, RuntimeError after closing, and Unreadable
        where the writer is to answer it.
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
            self._check()  # whether it was still there when it was opened
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def held_off(self) -> Iterator[None]:
        """Let no question begin meanwhile; one that takes long is not waited for to its end."""
        is_ours = self._turn.acquire(timeout=_MOMENT)
        try:
            yield
        finally:
            if is_ours:
                self._turn.release()

    def close(self) -> None:
        """Close it for good, once the question that is being answered has its answer."""
        with self._turn:
            self._is_over = True
            if self._connection is not None:
                with suppress(sqlite3.Error):
                    self._connection.close()
                self._connection = None
