"""The write-ahead log of an open ledger: marked, kept short, and watched.

Strategy: SQLite would bring its log into the file, and begin it anew, by itself and at any
commit; here that is done at a moment of our own, when the log has grown, so that what
`generations` asks for is in the file and the log at each step of it:

    a generation at rest is committed       it is the last in the log
    the tail is written
    the log is brought into the file        SQLite clears the mark first, and cuts the tail
    the next generation is committed        it is the first in the log, which begins anew
    the mark is set

Whoever opens a ledger need not record anything: so that is done before the first commit.

Rules:

* The file says that it is incomplete, by its mark or its tail, before anything is in the log
  but that generation, and what whoever opens the file finds out by itself.  Until it does,
  nothing that somebody waits for is committed.
* Nothing is committed where others moved the files or wrote over them, see `outside_changes`.
* What was committed is not acknowledged where the file does not say so any more, as another
  program has brought the log into it, and the log cannot begin anew.
* Nobody waits for an onlooker: where one still reads the log, it grows on.
* The file is marked only where its first page is yet to be brought into it.  SQLite
  brings no page twice, and would leave the mark in a file that is complete.
"""

from __future__ import annotations

import os
import random
import sqlite3
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

import attrs

from ...errors import LedgerError
from .file_lock import FileLock, index_of, journal_of
from .generations import (
    MOST,
    USER_VERSION,
    FileState,
    LogState,
    after,
    generation_in,
    page_size_of,
    rest_after,
    tail_of,
    what_is_wrong,
)
from .outside_changes import OutsideChanges, needed_by, read
from .schema import APPLICATION_ID
from .sqlite_locks import SQLiteLocks
from .wal_format import (
    BEGINNING,
    BEGUN,
    FILE_HEADER,
    HEADER,
    SALTS,
    file_headers,
    frame_size,
)


def check(path: Path, file: IO[bytes] | None, name: str) -> None:
    """Raise LedgerError where a file, or none, and the log beside it do not belong together."""
    log = None
    with suppress(FileNotFoundError), journal_of(path).open("rb") as opened:
        beginning = opened.read(BEGINNING)
        if (generation := generation_in(beginning)) is not None:
            headers = tuple(file_headers(opened))
            log = LogState(generation=generation, salts=beginning[SALTS], headers=headers)
    header = b"" if file is None else read(file.fileno(), FILE_HEADER, 0)
    needed = None if file is None else needed_by(file)
    if (wrong := what_is_wrong(name, header, needed, log)) is not None:
        raise LedgerError(wrong)


def write_durably(file: IO[bytes], data: bytes, at: int) -> None:
    """Write into a file, and return when that is on the disk."""
    file.seek(at)
    file.write(data)
    os.fsync(file.fileno())


class WriteAheadLog:
    """The log of the ledger at `path`, which `connection` and no other writes to.

    `lock` has the ledger's own file, opened before SQLite opened it.  `without_readers` keeps
    those of this process out for as long as the log begins anew, where they are quick.
    """

    def __init__(
        self,
        connection: Any,
        path: Path,
        lock: FileLock,
        name: str,
        without_readers: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._without_readers = without_readers
        self._execute = connection.execute
        self._path = path
        self._file = lock.file
        self._name = name
        self._state()  # SQLite makes the log and its index where they are first needed
        index = lock.opened_too(index_of(path))
        if index is None:  # it has another, or needs none
            lock.refuse_a_removed_log()
        self._locks = SQLiteLocks(lock.file, index, name)
        self._log = journal_of(path).open("r+b", buffering=0)
        self.outside = OutsideChanges(connection, path, lock.file, self._log, name)
        self._header = b""
        self._frame = 0
        self._mark = (b"", 0)  # what stands in the file, and where
        self.is_marked = False  # before anything that somebody waits for is recorded
        self._unmarked = b""  # the header of a log that has begun, and is all that there is yet
        # As many pages as SQLite's own checkpoints would wait for.
        (self._pages,) = self._execute("PRAGMA wal_autocheckpoint").fetchone()
        self._limit = self._pages

    def hold(self) -> None:
        """Keep other programs from bringing the log into the file; not a byte is written."""
        self._execute("PRAGMA wal_autocheckpoint = 0")
        self._locks.take()

    def begin_unmarked(self) -> None:
        """Have something committed that nobody would miss where the log is lost.

        Whoever opens the file without it finds it out again, as what is in doubt.
        """
        generation = self._state().generation
        if self._has_begun():
            if needed_by(self._file) != generation:
                self.begin()
        elif generation % 2:
            self.begin()
        else:
            # It is on the disk as well once the file is marked, see `begin`.
            self._execute("PRAGMA synchronous = NORMAL")
            self._commit(after(generation or _at_random()))
            self._execute("PRAGMA synchronous = FULL")
            self._unmarked = read(self._log.fileno(), HEADER, 0)
            self.outside.note_headers()

    def begin(self) -> None:
        """Begin the log, or go on with the one that a crash left, and mark the file."""
        self.outside.check()
        if self._is_as_begun():
            write_durably(self._log, b"", 0)  # or a mark on the disk would ask for what is not
            self._watch()
            return
        self._locks.take()
        with self._without_readers():
            if not self._begin_anew():
                self._go_on()

    def empty(self) -> bool:
        """Bring the log into the file, and cut it to nothing before it begins anew.

        Returns False where somebody still reads it.
        """
        with self._without_readers():
            is_empty = self._begin_anew("TRUNCATE")
            if not is_empty:
                self._go_on()
        return is_empty

    def look_after(self) -> None:
        """Begin the log anew where it has grown, which fails nobody, after a commit.

        Raises LedgerError where what was committed may not be found any more.
        """
        file, header = self.outside.check()
        if not self.is_marked:  # and so nothing was recorded yet
            return
        salts = read(self._log.fileno(), 8, HEADER + (self._limit - 1) * self._frame + 8)
        is_full = salts == header[SALTS]
        mark, place = self._mark
        end = place + len(mark)
        found = file[place:end] if end < len(file) else read(self._file.fileno(), len(mark), place)
        is_there = found == mark
        if is_full or header != self._header or not is_there:
            with self._without_readers():
                self._keep_short()

    def mend_index(self) -> None:
        """Let SQLite make the index anew, which a program that was killed left half written."""
        with self._locks.lifted_for_checkpoint():  # as it locks these for that as well
            self._state()

    def _keep_short(self) -> None:
        (patience,) = self._execute("PRAGMA busy_timeout").fetchone()
        with suppress(sqlite3.Error, OSError, LedgerError):  # it is tried again before a commit
            self._execute("PRAGMA busy_timeout = 0")
            if not self._begin_anew():
                self._limit += self._pages
                self._go_on()
        self._execute(f"PRAGMA busy_timeout = {patience}")
        if not self.is_marked and not self._says_that_it_is_incomplete():
            raise LedgerError(
                f"{self._name} cannot be made to say that it is incomplete without its -wal file:"
                " nothing is recorded in it, and nothing sent, until it can"
            )

    def _says_that_it_is_incomplete(self) -> bool:
        log = read(self._log.fileno(), BEGINNING, 0)
        return needed_by(self._file) in {generation_in(log), log[SALTS]} - {None}

    def _is_as_begun(self) -> bool:
        """Return whether a log has begun here that nobody brought into the file, or wrote over."""
        header = read(self._file.fileno(), FILE_HEADER, 0)
        return (
            self._unmarked != b""
            and self._unmarked == read(self._log.fileno(), HEADER, 0)
            and FileState.in_header(header).generation != self._state().generation
        )

    def _begin_anew(self, how: str = "RESTART") -> bool:
        """Bring the log into the file, and begin it anew; False where somebody still reads it."""
        self.is_marked, self._unmarked = False, b""
        if self._state().generation % 2 or self._has_begun():
            self._come_to_rest()
            with self._locks.lifted_for_checkpoint():
                is_busy, *_ = self._execute(f"PRAGMA wal_checkpoint({how})").fetchone()
            if is_busy:
                return False
        self._commit(after(self._state().generation or _at_random()))
        self._limit = self._pages
        self._watch()
        return True

    def _go_on(self) -> None:
        """Go on with a log of which a part was brought into the file, perhaps the first page."""
        # A checkpoint begins where the last one ended: what brings in the rest is to bring in
        # a first page as well, and so to clear the mark.
        self._commit(after(self._state().generation))
        self._watch()

    def _come_to_rest(self) -> None:
        """Commit a generation at rest as the last in the log, and write the tail."""
        generation = self._state().generation or _at_random()
        if not generation % 2:
            # What is in the log may be what could not be committed, or is in the file already:
            # the log begins anew here then, which it does with an odd generation alone.
            self._commit(after(generation))
        self._commit(rest_after(generation))
        self._write_tail()

    def _commit(self, generation: int) -> None:
        """Commit a first page that has this generation."""
        state = attrs.evolve(self._state(), generation=generation, is_incomplete=False)
        self._execute("BEGIN IMMEDIATE")
        try:
            self._execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._execute(f"PRAGMA user_version = {state.user_version}")
            self._execute("COMMIT")
        except BaseException:
            with suppress(Exception):  # SQLite rolls back by itself after some errors
                self._execute("ROLLBACK")
            raise

    def _state(self) -> FileState:
        return FileState.of(self._execute("PRAGMA user_version").fetchone()[0])

    def _has_begun(self) -> bool:
        return generation_in(read(self._log.fileno(), BEGINNING, 0)) is not None

    def _watch(self) -> None:
        """Mark the file as incomplete without this log, and notice what becomes of the log."""
        beginning = read(self._log.fileno(), BEGUN + FILE_HEADER, 0)
        generation = generation_in(beginning, is_intact=True)
        if generation is None:
            raise LedgerError(f"{self._name} cannot be made durable: its log is not as expected")
        self._header, self._frame = beginning[:HEADER], frame_size(beginning)
        if generation:
            self._write_mark(generation)
        else:
            self._write_tail()
        self.outside.note_headers()
        self.is_marked, self._unmarked = True, b""

    def _write_mark(self, generation: int) -> None:
        state = attrs.evolve(self._state(), generation=generation, is_incomplete=True)
        # What a file is stands there only once the log was brought into it.
        between = read(self._file.fileno(), 4, USER_VERSION + 4)
        mark = struct.pack(">I4sI", state.user_version, between, APPLICATION_ID)
        write_durably(self._file, mark, USER_VERSION)
        self._mark = (mark[:4], USER_VERSION)

    def _write_tail(self) -> None:
        """Write it beyond all pages that will be in the file, where SQLite cuts it off."""
        log = read(self._log.fileno(), HEADER, 0)
        page_size = page_size_of(read(self._file.fileno(), FILE_HEADER, 0))
        (pages,) = self._execute("PRAGMA page_count").fetchone()
        size = os.fstat(self._file.fileno()).st_size
        place = max(pages * page_size, size - size % page_size)
        write_durably(self._file, tail_of(log), place)
        self._mark = (tail_of(log), place)

    def close(self) -> None:
        """Let go of the log, before SQLite closes it."""
        # Where that cannot be in order, the locks stay, for which SQLite leaves all as it is.
        with suppress(sqlite3.Error, OSError, LedgerError):  # nothing is lost: the log has it
            self.outside.check()
            if self.is_marked or self._has_begun():  # or else nothing was written
                self._come_to_rest()
            self._locks.release()
        self._log.close()


def _at_random() -> int:
    """Return a generation in which a file is at rest."""
    return 2 * random.randrange(1, MOST // 2)
