"""The write-ahead log of an open ledger: marked, kept short, and watched.

Strategy: by itself, SQLite would checkpoint and restart its log at any commit.  Here that is done
at a chosen moment, once the log has grown, so that at each step file and log have what
`generations` demands:

    a generation at rest is committed       it is the last in the log
    the tail is written
    the log is checkpointed                 SQLite clears the mark first, and cuts the tail last
    the next generation is committed        it is the first in the log, which begins anew
    the mark is set

A process that opens a ledger may record nothing, so this is done before its first commit.

Rules:

* The file says that it is incomplete, by its mark or its tail, before anything that a caller waits
  for is committed to the log.  Before that, the log has only the generation, and what any opening
  finds out again by itself.
* Nothing is committed if others moved the files or wrote over them, see `outside_changes`.
* If another program has checkpointed the log, so that the file no longer says that it is
  incomplete, and the log cannot restart, then no commit is acknowledged.
* The writer does not wait for readers: while one still reads the log, the log grows.
* The file is marked only while its first page is still to be checkpointed.  SQLite checkpoints no
  page twice, and would leave the mark in a complete file.
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
from .outside_changes import OutsideChanges, needed_by, read, seeking, unreadable
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
    """Raise LedgerError if a file, None for no file, and its log do not belong together."""
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
    """Write into a file, and return once it is on the disk."""
    with seeking:
        file.seek(at)
        file.write(data)
    os.fsync(file.fileno())


class WriteAheadLog:
    """The log of the ledger at `path`, to which only `connection` writes.

    `lock` has the ledger's own file, which was opened before SQLite opened it.  `without_readers`
    keeps readers of this process out while the log restarts.
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
        self._state()  # SQLite makes the log and its index when they are first needed
        index = lock.open_if_exists(index_of(path))
        if index is None:  # SQLite uses another one, or needs none
            lock.refuse_a_removed_log()
        self._locks = SQLiteLocks(lock.file, index, name)
        self._log = journal_of(path).open("r+b", buffering=0)
        self.outside = OutsideChanges(
            connection, path, file=lock.file, log=self._log, index=index, name=name
        )
        self._header = b""
        self._frame = 0
        self._mark = (b"", 0)  # the bytes of the mark in the file, and their offset
        self.is_marked = False  # must be True before anything that a caller waits for is recorded
        self._unmarked = b""  # the header of a log that has begun, while the file is not marked
        # The number of pages at which SQLite itself would checkpoint.
        (self._pages,) = self._execute("PRAGMA wal_autocheckpoint").fetchone()
        self._limit = self._pages

    def hold(self) -> None:
        """Keep other programs from checkpointing the log, without writing a byte."""
        self._execute("PRAGMA wal_autocheckpoint = 0")
        self._locks.take()

    def begin_unmarked(self) -> None:
        """Prepare the log for commits that do no harm if the log is lost.

        Any opening of the file without the log finds them out again, such as what is in doubt.
        """
        generation = self._state().generation
        if self._has_begun():
            if needed_by(self._file) != generation:
                self.begin()
        elif generation % 2:
            self.begin()
        else:
            # It will be on the disk once the file is marked, see `begin`.
            with self.outside.own_changes():
                self._execute("PRAGMA synchronous = NORMAL")
                self._commit(after(generation or _at_random()))
                self._execute("PRAGMA synchronous = FULL")
            self._unmarked = read(self._log.fileno(), HEADER, 0)

    def begin(self) -> None:
        """Begin the log, or go on with the log that a crash left, and mark the file."""
        self.outside.check()
        if self._is_as_begun():
            write_durably(self._log, b"", 0)  # the log has to be on the disk before the mark
            with self.outside.own_changes():
                self._watch()
            return
        self._locks.take()
        with self._without_readers(), self.outside.own_changes():
            if not self._begin_anew():
                self._go_on()

    def empty(self) -> bool:
        """Checkpoint the log, truncate it, and restart it.

        Returns False if somebody still reads it.
        """
        with self._without_readers(), self.outside.own_changes():
            is_empty = self._begin_anew("TRUNCATE")
            if not is_empty:
                self._go_on()
        return is_empty

    def look_after(self) -> None:
        """Restart the log if it has grown; call it after a commit.  An error in that is ignored.

        Raises LedgerError if what was committed may not be found any more.
        """
        try:
            file, header = self.outside.check()
            if not self.is_marked:  # and so nothing was recorded yet
                return
            salts = read(self._log.fileno(), 8, HEADER + (self._limit - 1) * self._frame + 8)
            is_full = salts == header[SALTS]
            mark, at = self._mark
            end = at + len(mark)
            found = file[at:end] if end < len(file) else read(self._file.fileno(), len(mark), at)
            if is_full or header != self._header or found != mark:
                with self._without_readers(), self.outside.own_changes():
                    self._keep_short()
        except (sqlite3.Error, OSError) as error:  # a LedgerError: no command is tried again
            raise unreadable(self._name, error) from error

    def mend_index(self) -> None:
        """Let SQLite rebuild the index, which a killed program has left half written."""
        with self._locks.lifted_for_checkpoint():  # SQLite locks checkpoints for that as well
            self._state()

    def _keep_short(self) -> None:
        (patience,) = self._execute("PRAGMA busy_timeout").fetchone()
        with suppress(sqlite3.Error, OSError, LedgerError):  # the next commit tries again
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
        """Return whether the log is as it was begun here, not checkpointed or overwritten."""
        header = read(self._file.fileno(), FILE_HEADER, 0)
        return (
            self._unmarked != b""
            and self._unmarked == read(self._log.fileno(), HEADER, 0)
            and FileState.in_header(header).generation != self._state().generation
        )

    def _begin_anew(self, how: str = "RESTART") -> bool:
        """Checkpoint the log and restart it; return False if somebody still reads it."""
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
        """Go on with a log of which a part was checkpointed, perhaps the first page."""
        # A checkpoint begins where the last one ended.  With another first page in the log, the
        # checkpoint of the rest writes that page, and so clears the mark.
        self._commit(after(self._state().generation))
        self._watch()

    def _come_to_rest(self) -> None:
        """Commit a generation at rest as the last one in the log, and write the tail."""
        generation = self._state().generation or _at_random()
        if not generation % 2:
            # The content of the log may be uncommitted, or in the file already.  Then the log
            # restarts here, which needs an odd generation.
            self._commit(after(generation))
        self._commit(rest_after(generation))
        self._write_tail()

    def _commit(self, generation: int) -> None:
        """Commit a first page with this generation."""
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
        """Mark the file as incomplete without this log, and note what the log looks like."""
        beginning = read(self._log.fileno(), BEGUN + FILE_HEADER, 0)
        generation = generation_in(beginning, is_intact=True)
        if generation is None:
            raise LedgerError(f"{self._name} cannot be made durable: its log is not as expected")
        self._header, self._frame = beginning[:HEADER], frame_size(beginning)
        if generation:
            self._write_mark(generation)
        else:
            self._write_tail()
        self.is_marked, self._unmarked = True, b""

    def _write_mark(self, generation: int) -> None:
        state = attrs.evolve(self._state(), generation=generation, is_incomplete=True)
        # A new file has its application id only after a checkpoint, so the mark includes it.
        between = read(self._file.fileno(), 4, USER_VERSION + 4)
        mark = struct.pack(">I4sI", state.user_version, between, APPLICATION_ID)
        write_durably(self._file, mark, USER_VERSION)
        self._mark = (mark[:4], USER_VERSION)

    def _write_tail(self) -> None:
        """Write the tail beyond all pages that the file will have, where SQLite cuts it off."""
        log = read(self._log.fileno(), HEADER, 0)
        page_size = page_size_of(read(self._file.fileno(), FILE_HEADER, 0))
        (pages,) = self._execute("PRAGMA page_count").fetchone()
        size = os.fstat(self._file.fileno()).st_size
        place = max(pages * page_size, size - size % page_size)
        write_durably(self._file, tail_of(log), place)
        self._mark = (tail_of(log), place)

    def close(self) -> None:
        """Let go of the log, before SQLite closes it."""
        # If an error prevents that, the locks stay, and so SQLite leaves the files as they are.
        with suppress(sqlite3.Error, OSError, LedgerError):  # nothing is lost: the log has it
            self.outside.check()
            if self.is_marked or self._has_begun():  # or else nothing was written
                self._come_to_rest()
            self._locks.release()
        self._log.close()


def _at_random() -> int:
    """Return a random generation at rest."""
    return 2 * random.randrange(1, MOST // 2)
