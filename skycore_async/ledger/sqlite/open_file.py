"""A ledger's file while this process has it open.

Strategy: plain synchronous code, which runs in one thread at a time.  Opening checks what can be
wrong with a file, and raises errors for people to read.

Rules:

* `journal_mode=WAL` and `synchronous=FULL` are set and read back: with less, what was acknowledged
  can be lost in a power cut.
* A single connection writes and checkpoints; others only read.  So the WAL-reset defect of SQLite
  before 3.51.3, where two connections write or checkpoint at once, cannot occur.
* The lock of the file is taken first and released last.
* Postbacks that are left in the inbox beside it are taken in before the ledger is open.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from ...errors import LedgerError
from ...runtime.paths import is_directory
from ..commands import (
    WITHDRAWN,
    Finish,
    PendingCommand,
    Query,
    SetOptOut,
    TellOptOuts,
    withdrawal,
)
from ..opt_outs import OptOutRule
from ..prune_commands import EndPruning
from ..reader import Unreadable
from .file_lock import FileLock, journal_of
from .inbox_intake import InboxTaker, TakingExecutor
from .put_back import LastTurn, PutBackError
from .reading_connection import ReadingConnection
from .rows import Connection
from .schema import HEADER, VERSION, migrate, refuse_other, version_of
from .store import SQLiteStore
from .vacuum import rewrite
from .write_ahead_log import WriteAheadLog, check

T = TypeVar("T")

_FULL: Final = 2  # the number of FULL for PRAGMA synchronous
_TORN: Final = "locking protocol"  # SQLite's message for an index that it cannot mend
_NOTHING: Final = "UPDATE look_ups SET refused = 0 WHERE 0"  # fails if nothing can be written
_PATIENCE: Final = 0.25  # seconds, for another program that locks the file for a moment
_OPTING_OUT: Final = (SetOptOut, TellOptOuts)  # the inbox is taken in before they run


def connect(path: str) -> Any:
    """Return a connection without implicit transactions."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_PATIENCE)


class OpenFile:
    """The file `path` as an open ledger, which errors call `name`.

    `clock` returns seconds since 1970.  A postback settles a doubt within `settle_within` seconds
    of its intent.  `opt_out_rule` decides about texts that are not surely STOP.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        clock: Callable[[], float],
        settle_within: float,
        opt_out_rule: OptOutRule | None = None,
        connect: Callable[[str], Connection] = connect,
    ) -> None:
        # Resolved once: a symbolic link may be changed meanwhile.
        self._path = path.resolve()
        self._name = name
        self._clock = clock
        self._settle_within = settle_within
        self._opt_out_rule = opt_out_rule
        self._connect = connect
        self.lock = FileLock(self._path)
        self._turn = threading.Lock()  # to open or to close it
        self._is_over = False
        self._connection: Any = None
        self._log: Any = None
        self._unwritten: dict[str, Finish] = {}
        self._is_committed = False  # whether the last group is on the disk
        self._touched: set[str] = set()
        self._executor: TakingExecutor
        self._last_turn: LastTurn
        self._inbox: Any = None
        self._reading: Any = None

    def open(self, *, most: float = math.inf) -> None:
        """Open it, and put in doubt what was being sent when it was last in use.

        Takes in what is left in the inbox beside it, at most `most` batches.  Raises LedgerInUse
        if another process has it open, and LedgerError if it cannot be opened.
        """
        with self._turn:
            if self._is_over:
                raise LedgerError(f"{self._name} is closed before it was opened")
            try:
                self._open()
                self._take_in(most)
            except BaseException as error:
                self._close()
                if isinstance(error, sqlite3.Error | OSError):
                    raise LedgerError(describe_error(self._name, error)) from error
                raise

    def _open(self) -> None:
        if not is_directory(self._path.parent):
            raise LedgerError(f"{self._name}: there is no directory {self._path.parent}")
        if not self._path.exists():
            check(self._path, None, self._name)  # before the file is made
        self.lock.take(self._refuse_other)
        check(self._path, self.lock.file, self._name)
        self._connection = self._connect(str(self._path))
        self.lock.not_to_be_closed_by_children(self._connection)
        version = version_of(self._connection, self._name)
        _make_durable(self._connection, self._name)
        self._log = log = WriteAheadLog(
            self._connection, self._path, self.lock, self._name, self._without_readers
        )
        log.hold()
        if self._connect is connect:  # not with a caller's own, which may connect elsewhere
            self._reading = ReadingConnection(self._path, self.lock, log.outside.check_to_read)
        store = SQLiteStore(self._connection)
        self._executor = TakingExecutor(
            store,
            clock=self._clock,
            settle_within=self._settle_within,
            opt_out_rule=self._opt_out_rule,
        )
        if version != VERSION or self._has_to_write(store):
            self._log.begin_unmarked()
            self._bring_up_to_date(version)
        self._last_turn = store.last_turn
        self._last_turn.begin(store.last_begun())

    def _has_to_write(self, store: SQLiteStore) -> bool:
        """Return whether messages are to be put in doubt, or doubts to be settled, on opening."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(_NOTHING)
        found = store.has_doubts_to_find()
        self._connection.execute("COMMIT")
        return found

    def _bring_up_to_date(self, version: int) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        if version != VERSION:
            migrate(self._connection, version)
        self._executor.interrupt()
        self._connection.execute("COMMIT")
        self._executor.forget()

    def _without_readers(self) -> AbstractContextManager[None]:
        return nullcontext() if self._reading is None else self._reading.held_off()

    def answer(self, query: Query[T]) -> T:
        """Return the answer to a query beside the writer; see `ReadingConnection`."""
        reading: ReadingConnection | None = self._reading
        if reading is None:
            raise Unreadable
        return reading.answer(query)

    def _refuse_other(self, file: IO[bytes]) -> None:
        if not journal_of(self._path).exists():  # the journal may have what the file lacks
            size = os.fstat(file.fileno()).st_size
            refuse_other(file.read(HEADER), size, self._name)

    @property
    def inbox(self) -> InboxTaker:
        """The inbox beside it."""
        inbox: InboxTaker = self._inbox
        return inbox

    def _take_in(self, most: float) -> None:
        self._inbox = InboxTaker.over(self._connection, self._path, name=self._name)
        self._take_in_next(most)

    def _take_in_next(self, most: float) -> None:
        while most > 0 and (command := self._inbox.next()) is not None:
            self._touched |= self._commit([pending := PendingCommand(command)])
            pending.outcome(command)
            self._inbox.taken(command)
            most -= 1

    def commit(self, group: Sequence[PendingCommand]) -> set[str]:
        """Run commands in one transaction, all or none of them, and return what they touched.

        A command that takes an intent back is kept if it cannot be written, and written first as
        soon as possible: its caller has left, and nobody else would end the message.  The same
        applies if an intent is on the disk although its caller was told that it is not.

        Before a number is opted out or in, the inbox is taken in, as its postbacks came earlier.
        """
        if self._unwritten:
            left = [PendingCommand(command) for command in self._unwritten.values()]
            self._is_committed = False
            try:
                with suppress(LedgerError, sqlite3.Error):
                    self._touched |= self._commit(left)
            finally:
                if self._is_committed:  # run twice, they would end messages begun meanwhile
                    self._unwritten.clear()
        if [each for each in group if isinstance(each.command, _OPTING_OUT)]:
            with suppress(LedgerError, sqlite3.Error):  # the next look into it logs the error
                self._take_in_next(math.inf)
        self._is_committed = False
        try:
            touched = self._commit(group)
        except Exception:
            backs = (_taken_back if self._is_committed else _taking_back)(group)
            self._unwritten.update({back.key: back for back in backs})
            raise
        touched |= self._touched
        self._touched.clear()
        return touched

    def _commit(self, group: Sequence[PendingCommand], *, is_mended: bool = False) -> set[str]:
        execute, log = self._connection.execute, self._log
        try:
            log.outside.check()
            if not log.is_marked and not _asks_only(group):
                log.begin()
            execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, OSError) as error:
            if is_mended or _TORN not in str(error):
                raise self.explain(error) from error  # a LedgerError: no command is tried alone
            log.mend_index()
            return self._commit(group, is_mended=True)
        try:
            self._executor.run(self._last_turn.start(group))
            execute("COMMIT")
        except BaseException as error:
            self._executor.forget()
            with suppress(Exception):  # SQLite rolls back by itself after some errors
                execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                log.outside.check()  # its error says more about a file that was written over
            if isinstance(error, PutBackError):
                self._last_turn.refuse_begins(self._name)
                return self._commit(group)
            raise
        self._last_turn.keep()
        self._is_committed = True
        log.look_after()  # it may have been moved meanwhile
        for pending in group:
            if isinstance(pending.command, EndPruning):
                with pending:
                    rewrite(self._connection, log, self._inbox, self._name)
        return self._executor.forget()

    def explain(self, error: Exception) -> Exception:
        """Return what to raise to the caller of a command for an error of SQLite."""
        if not isinstance(error, sqlite3.Error | OSError):
            return error
        return LedgerError(
            f"{self._name} could not be written: {_said(error)}. What it holds already is safe; it"
            " goes on when its disk has room and can be written to, and no other program holds it"
        )

    def close(self) -> None:
        """Close it for good, after waiting for a thread that is just opening it.

        A forked child must not call this: the file is its parent's.
        """
        with self._turn:
            self._is_over = True
            self._close()

    def _close(self) -> None:
        if self._unwritten:
            with suppress(LedgerError, sqlite3.Error):
                self.commit([])
        if self._inbox is not None:
            self._inbox.close()
        if self._reading is not None:
            self._reading.close()
        if self._log is not None:
            self._log.close()
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = self._log = self._inbox = None
        self._unwritten.clear()
        self.lock.release()


def _taking_back(group: Iterable[PendingCommand]) -> list[Finish]:
    """Return the commands in a group that take intents back."""
    finishes = [each.command for each in group if isinstance(each.command, Finish)]
    return [each for each in finishes if each.submission is WITHDRAWN]


def _taken_back(group: Iterable[PendingCommand]) -> list[Finish]:
    """Return commands that take back the intents that a group has begun."""
    begun = [each for each in group if each.error is None]
    backs = [withdrawal(each.command, each.result) for each in begun]
    return [each for each in backs if each is not None]


def _make_durable(connection: Any, name: str) -> None:
    """Make every commit to the file durable; LedgerError if that cannot be set."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS has a weaker one by default
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if mode != "wal" or synchronous != _FULL:
        raise LedgerError(
            f"{name} cannot be made durable: its journal is {mode!r} and not 'wal', as on a file"
            " system over a network. A ledger needs a disk of this machine. One that is there"
            f" already is moved when no program has it open, together with {name}-wal, if that is"
            " beside it"
        )


def _asks_only(group: Sequence[PendingCommand]) -> bool:
    return all(isinstance(pending.command, Query) for pending in group)


def describe_error(name: str, error: sqlite3.Error | OSError) -> str:
    """Return what is wrong with a file, and what to do."""
    said = _said(error)
    if "not a database" in said or "malformed" in said:
        return f"{name} is no ledger, or is damaged: {said}"
    if isinstance(error, OSError) or "readonly" in said or "unable to open" in said:
        file = Path(str(getattr(error, "filename", ""))).name
        which = name + file.partition(Path(name).name)[2]  # it may be a file beside the ledger's
        return f"{which} cannot be written: {said}. Its directory and the file must be writable"
    return f"{name} cannot be opened: {said}"


def _said(error: sqlite3.Error | OSError) -> str:
    return str(error) if isinstance(error, sqlite3.Error) else error.strerror or "it is no file"
