"""The write-ahead log of an open ledger: marked, kept short, and watched.

Strategy: SQLite would begin its log anew by itself, at any commit; here that is done at
a moment of our own, when the log has grown, so that the first page in it is the one that
`generations` asks for.

Rules:

* The file says that it is incomplete before anything but that page is in the log.  Until
  it does, nothing is committed.
* Nothing is committed to a file, or a log, that is not where it was opened: another
  ledger would be found there, or none.
* Nobody waits for an onlooker: where one still reads the log, it grows on.
* The file is marked only where its first page is yet to be brought into it.  SQLite
  brings no page twice, and would leave the mark in a file that is complete.
"""

from __future__ import annotations

import os
import random
import sqlite3
import struct
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import attrs

from ...errors import LedgerError
from .file_lock import journal_of
from .generations import (
    HEADER,
    MOST,
    USER_VERSION,
    FileState,
    after,
    frame_size,
    generation_in,
    what_is_wrong,
)
from .schema import APPLICATION_ID

_LONGEST_PAGE: Final = 65536
_BEGINNING: Final = 32 + 24 + _LONGEST_PAGE
_SALTS: Final = slice(16, 24)  # of a log's header; each of its frames has them as well


def check(path: Path, file: IO[bytes], name: str) -> None:
    """Raise LedgerError where a file and the log beside it do not belong together."""
    file.seek(0)
    state = FileState.in_header(file.read(HEADER))
    log = None
    with suppress(FileNotFoundError), journal_of(path).open("rb") as opened:
        log = generation_in(opened.read(_BEGINNING))
    if (wrong := what_is_wrong(name, state, log)) is not None:
        raise LedgerError(wrong)


def write_durably(file: IO[bytes], data: bytes, at: int) -> None:
    """Write into a file, and return when that is on the disk."""
    file.seek(at)
    file.write(data)
    os.fsync(file.fileno())


class WriteAheadLog:
    """The log of the ledger at `path`, which `connection` and no other writes to.

    `file` is the ledger's own file, opened before SQLite opened it.
    """

    def __init__(self, connection: Any, path: Path, file: IO[bytes], name: str) -> None:
        self._execute = connection.execute
        self._path = path
        self._file = file
        self._name = name
        self._log: Any = None
        self._places: dict[str, tuple[int, int]] = {}  # of files: their devices and inodes
        self._keep_place(path, file)
        self._header = b""
        self._frame = 0
        self._mark = 0
        self._is_marked = False
        # As many pages as SQLite's own checkpoints would wait for.
        (self._pages,) = self._execute("PRAGMA wal_autocheckpoint").fetchone()
        self._limit = self._pages

    def begin(self) -> None:
        """Begin the log, or go on with the one that a crash left; nothing was committed before.

        Raises LedgerError where another program reads it that hinders that.
        """
        self._execute("PRAGMA wal_autocheckpoint = 0")
        if self._begin_anew():
            return
        with journal_of(self._path).open("rb") as log:
            if not generation_in(log.read(_BEGINNING)):
                raise LedgerError(
                    f"{self._name} cannot be used while another program reads it: end that first"
                )
        self._go_on()

    def check(self, *, is_committed: bool = False) -> None:
        """Raise LedgerError where it cannot be committed to, or what was committed is not there.

        After a commit, it also begins the log anew where it has grown, which fails nobody.
        """
        for place, identity in self._places.items():
            try:
                status = os.stat(place)  # noqa: PTH116 - it is asked for at every commit
            except OSError:
                is_there = False
            else:
                is_there = (status.st_dev, status.st_ino) == identity
            if not is_there:
                raise LedgerError(
                    f"{place} was moved, removed or replaced while it was open: nothing is"
                    " recorded in it, and nothing sent, until it is back in its place. What it"
                    " holds stays in it and in the -wal file beside it, which belong together"
                )
        if not is_committed:
            if not self._is_marked:
                self.begin()
            return
        self._log.seek(0)
        header = self._log.read(len(self._header))
        self._log.seek(len(self._header) + (self._limit - 1) * self._frame + 8)
        is_full = self._log.read(8) == header[_SALTS]
        if is_full or header != self._header or not self._mark_is_there():
            self._keep_short()

    def _keep_short(self) -> None:
        (patience,) = self._execute("PRAGMA busy_timeout").fetchone()
        with suppress(sqlite3.Error, OSError, LedgerError):  # it is tried again before a commit
            self._execute("PRAGMA busy_timeout = 0")
            if not self._begin_anew():
                self._limit += self._pages
                self._go_on()
        self._execute(f"PRAGMA busy_timeout = {patience}")

    def _begin_anew(self) -> bool:
        """Bring the log into the file, and begin it anew; False where somebody still reads it."""
        self._is_marked = False
        is_busy, *_ = self._execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        if is_busy:
            return False
        state = self._state()
        generation = after(state.generation or random.randrange(MOST))
        state = attrs.evolve(state, generation=generation, is_incomplete=False)
        self._write_first_page(state)
        self._limit = self._pages
        self._watch()
        return True

    def _go_on(self) -> None:
        """Go on with a log of which a part was brought into the file, perhaps the first page."""
        # A checkpoint begins where the last one ended: what brings in the rest is to bring in
        # a first page as well, and so to clear the mark.
        self._write_first_page(self._state())
        self._watch()

    def _write_first_page(self, state: FileState) -> None:
        self._execute("BEGIN IMMEDIATE")
        try:
            self._execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._execute(f"PRAGMA user_version = {state.user_version}")
            self._execute("COMMIT")
        except BaseException:
            with suppress(Exception):  # SQLite rolls back by itself after some errors
                self._execute("ROLLBACK")
            raise

    def _keep_place(self, path: Path, file: IO[bytes]) -> None:
        status = os.fstat(file.fileno())
        self._places[str(path)] = (status.st_dev, status.st_ino)

    def _state(self) -> FileState:
        return FileState.of(self._execute("PRAGMA user_version").fetchone()[0])

    def _watch(self) -> None:
        """Mark the file as incomplete without this log, and notice what becomes of the log."""
        if self._log is None:
            self._log = journal_of(self._path).open("rb", buffering=0)
            self._keep_place(journal_of(self._path), self._log)
        self._log.seek(0)
        beginning = self._log.read(_BEGINNING)
        generation = generation_in(beginning)
        if not generation:
            raise LedgerError(f"{self._name} cannot be made durable: its log is not as expected")
        self._header, self._frame = beginning[:32], frame_size(beginning)
        state = attrs.evolve(self._state(), generation=generation, is_incomplete=True)
        self._mark = state.user_version
        self._write_mark()
        self._is_marked = True

    def _write_mark(self) -> None:
        self._file.seek(USER_VERSION + 4)
        between = self._file.read(4)
        # What a file is stands there only once the log was brought into it.
        mark = struct.pack(">I4sI", self._mark, between, APPLICATION_ID)
        write_durably(self._file, mark, USER_VERSION)

    def _mark_is_there(self) -> bool:
        """Return whether no other program has brought the first page into the file."""
        self._file.seek(USER_VERSION)
        return self._file.read(4) == struct.pack(">I", self._mark)

    def close(self) -> None:
        """Let go of the log, before SQLite closes it."""
        with suppress(sqlite3.Error, OSError, LedgerError):  # nothing is lost: the log has it
            if self._is_marked and not self._mark_is_there():
                self._go_on()
        if self._log is not None:
            self._log.close()

    def after_close(self) -> None:
        """Mark the file again where SQLite has left the log, of which it took in but a part."""
        if self._is_marked:
            with suppress(FileNotFoundError), journal_of(self._path).open("rb") as log:
                if log.read(len(self._header)) == self._header:
                    self._write_mark()
