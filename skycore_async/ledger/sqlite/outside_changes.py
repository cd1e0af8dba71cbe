"""Detects that others moved the files of an open ledger, or wrote over them in place.

Strategy: the files are recognized by their paths, devices and inodes, and by the headers that they
had when this process last wrote them.  Another program may checkpoint the log; then the file has a
header that the log gave it.  Any other header says that the file was written over.  A copy of file
and log that was made since the log began has the same headers; the last frame is not in it.

Rules:

* Nothing is committed to a file or a log that is no longer where it was opened: the next program
  would find another ledger at that path, or none.
* A file that was written over, as by `cp`, is never combined with the log: SQLite, which does not
  notice, would make of the two a file that nobody can open.  Nothing is acknowledged either.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from ...errors import LedgerError
from ..reader import Unreadable
from .file_lock import journal_of
from .generations import TAIL, FileState, is_header, needed_log
from .wal_format import FILE_HEADER, HEADER, INDEX_HEADERS, file_headers, last_frame

_TABLES: Final = 40  # the offset, in a header, of the version of the tables' definitions


# Where there is no `pread`, as on Windows, the threads that read and write share one position.
seeking = threading.Lock()


def _read_by_seeking(descriptor: int, count: int, at: int) -> bytes:
    with seeking:
        os.lseek(descriptor, at, os.SEEK_SET)
        return os.read(descriptor, count)


read: Callable[[int, int, int], bytes] = getattr(os, "pread", _read_by_seeking)


def needed_by(file: IO[bytes]) -> int | bytes | None:
    """Return which log a file is incomplete without; see `needed_log`."""
    size = os.fstat(file.fileno()).st_size
    return needed_log(
        read(file.fileno(), FILE_HEADER, 0), size, read(file.fileno(), TAIL, max(0, size - TAIL))
    )


def unreadable(name: str, error: sqlite3.Error | OSError) -> LedgerError:
    """Return what to raise where the files of a ledger cannot be read."""
    return LedgerError(
        f"{name} could not be read: {error}. What it holds already is safe; it goes on when its"
        " disk can be read"
    )


class OutsideChanges:
    """Watches the `file` at `path` and its `log`, both of which `connection` writes to.

    `index` is that of the log; None if SQLite needs none, and then the last frame is not known.
    """

    def __init__(
        self,
        connection: Any,
        path: Path,
        *,
        file: IO[bytes],
        log: IO[bytes],
        index: IO[bytes] | None,
        name: str,
    ) -> None:
        self._execute = connection.execute
        self._file = file
        self._log = log
        self._index = index
        self._index_headers = b""
        self._last_frame: tuple[int, bytes] | None = None  # by these headers
        self._name = name
        self._places: dict[str, tuple[int, int]] = {}  # of files: their devices and inodes
        for place, opened in ((path, file), (journal_of(path), log)):
            status = os.fstat(opened.fileno())
            self._places[str(place)] = (status.st_dev, status.st_ino)
        self._headers: tuple[bytes, bytes] | None  # None while they are not known
        self._note_headers()

    @contextmanager
    def own_changes(self) -> Iterator[None]:
        """Accept the headers that this process writes inside, even if it fails half way.

        On a full disk, a log that has begun anew can be left beside a file that is not marked yet:
        this process wrote both.  Where the headers cannot be read, the next `check` reads them.
        """
        self._headers = None
        try:
            yield
        finally:
            with suppress(sqlite3.Error, OSError):
                self._note_headers()

    def _note_headers(self) -> tuple[bytes, bytes]:
        headers, self._tables = self._read_headers(), self._version_of_tables()
        if self._index is not None:
            self._index_headers = read(self._index.fileno(), INDEX_HEADERS, 0)
            self._last_frame = last_frame(self._index_headers)
        self._headers = headers
        return headers

    def check(self) -> tuple[bytes, bytes]:
        """Return the headers of the file and of its log, as they are now.

        Call it before a commit, which would write into the middle of a log that was put back, and
        after it.  Raises LedgerError if the files were moved or written over, or cannot be read.
        """
        self.check_places()
        try:
            known = self._headers or self._note_headers()
            # Reading them by functions of their own would be more calls for each message.
            found = read(self._file.fileno(), FILE_HEADER, 0), read(self._log.fileno(), HEADER, 0)
            was_written_over = found != known and self._were_written_over(known[0], *found)
            if self._index is not None and found[1] == known[1]:
                if self._last_frame is not None:
                    at, sums = self._last_frame
                    was_written_over |= read(self._log.fileno(), len(sums), at) != sums
                index = read(self._index.fileno(), INDEX_HEADERS, 0)
                if index != self._index_headers and not was_written_over:
                    self._index_headers, self._last_frame = index, last_frame(index)
        except OSError as error:
            raise unreadable(self._name, error) from error
        if was_written_over:
            raise LedgerError(
                f"{self._name}, or its -wal file, was written over while it was open, as by a"
                " backup that was copied over it: nothing is recorded in it, and nothing sent. End"
                " this program, then move the file away, and those beside it whose names begin"
                " with its own, but for the inbox, and put a backup in its place. What that does"
                " not list may have been sent, as Skycore's own report of messages alone can tell"
            )
        return found

    def check_to_read(self) -> None:
        """Raise LedgerError if the files were moved, Unreadable unless they have their headers.

        A process that writes finds out why; one that reads has no part in the writing connection.
        """
        self.check_places()
        try:
            found = self._read_headers()
        except OSError as error:
            raise Unreadable from error
        if found != self._headers:
            raise Unreadable

    def check_places(self) -> None:
        """Raise LedgerError if the files are not at the paths where they were opened."""
        for place, identity in self._places.items():
            try:
                status = os.stat(place)  # noqa: PTH116 - it runs at every commit
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

    def _read_headers(self) -> tuple[bytes, bytes]:
        return read(self._file.fileno(), FILE_HEADER, 0), read(self._log.fileno(), HEADER, 0)

    def _were_written_over(self, known: bytes, header: bytes, log: bytes) -> bool:
        if header == known:  # it would be another if a program began the log anew
            return needed_by(self._file) is not None
        if not is_header(header):
            return True
        generation = FileState.of(self._execute("PRAGMA user_version").fetchone()[0]).generation
        (tables,) = struct.unpack_from(">I", header, _TABLES)  # a backup has another version
        if FileState.in_header(header).generation == generation and tables in {
            self._tables,
            self._version_of_tables(),  # if the other program changed the tables as well
        }:
            return False
        with seeking:
            return len(log) < HEADER or header not in file_headers(self._log)

    def _version_of_tables(self) -> int:
        return int(self._execute("PRAGMA schema_version").fetchone()[0])
