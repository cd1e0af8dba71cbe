"""SQLite's own locks on the files of an open ledger, held so that they last.

Strategy: SQLite uses POSIX locks, which end as soon as this process closes such a file anywhere;
other processes would then take the ledger for unused.  Linux has open file description locks,
which end with the open file alone and which others cannot tell from POSIX locks.  These bytes are
locked, by SQLite's formats of a file and of the index beside it, PATH-shm:

* the file, as a reader does: so nobody else is the last to close it, who would checkpoint the log
  and remove it;
* the index, as a user of it does: so nobody else is the first to open it, who would empty it;
* checkpoints: so only the ledger checkpoints its log, or restarts it.

Other systems lock only checkpoints, by a POSIX lock, and Windows nothing.

Rule: SQLite takes these locks itself when the ledger checkpoints its log, mends the index, or
closes.  They are released here for that time.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from ...errors import LedgerError

try:
    import fcntl as _fcntl
except ImportError:  # pragma: no cover - there is none on Windows
    _fcntl = None  # type: ignore[assignment]

fcntl: Any = _fcntl
# Python has the constant for such locks on Linux alone.
_OF_OPEN_FILE: Any = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform == "linux" else None

_Place = tuple[int, int]  # in a file: its first byte, and how many there are
_READERS: Final[_Place] = (2**30 + 2, 510)  # in the file
_USERS: Final[_Place] = (128, 1)  # in the index
_CHECKPOINTS: Final[_Place] = (121, 1)  # in the index

_ATTEMPTS: Final = 50  # to lock what another program has locked for a moment
_PAUSE: Final = 0.005  # seconds between them


class SQLiteLocks:
    """The locks on `file`, and on its `index` where there is one, of the ledger `name`."""

    def __init__(self, file: IO[bytes], index: IO[bytes] | None, name: str) -> None:
        self._index = index
        self._name = name
        self._lasting: list[tuple[IO[bytes], _Place]] = []
        self._lock = _lock_for_process
        if _can_last(file):
            self._lock = _lock_for_file
            self._lasting.append((file, _READERS))
            if index is not None:
                self._lasting.append((index, _USERS))

    def take(self) -> None:
        """Take them; LedgerError if another program is checkpointing the log."""
        for file, place in self._lasting:
            self._lock(file, fcntl.LOCK_SH, place)
        self._lock_checkpoints()

    @contextmanager
    def lifted_for_checkpoint(self) -> Iterator[None]:
        """Release checkpoints meanwhile, so that SQLite can checkpoint the log."""
        self._unlock_checkpoints()
        try:
            yield
        finally:
            self._lock_checkpoints()

    def release(self) -> None:
        """Release them, before SQLite closes the file."""
        for file, place in self._lasting:
            self._lock(file, fcntl.LOCK_UN, place)
        self._unlock_checkpoints()

    def _lock_checkpoints(self) -> None:
        left = _ATTEMPTS
        while (error := self._refused_checkpoints()) is not None:
            if not left:
                raise LedgerError(
                    f"another program brings what {self._name}-wal has into {self._name}, as"
                    " SQLite's own shell does when it leaves: nothing was changed here; end that"
                    " first"
                ) from error
            left -= 1
            time.sleep(_PAUSE)

    def _refused_checkpoints(self) -> OSError | None:
        """Lock them and return None, or return the error if another program has them locked."""
        if self._index is not None and fcntl is not None:
            try:
                self._lock(self._index, fcntl.LOCK_EX, _CHECKPOINTS)
            except (BlockingIOError, PermissionError) as error:  # the system chooses which
                return error
        return None

    def _unlock_checkpoints(self) -> None:
        if self._index is not None and fcntl is not None:
            self._lock(self._index, fcntl.LOCK_UN, _CHECKPOINTS)


def _can_last(file: IO[bytes]) -> bool:
    if _OF_OPEN_FILE is None:
        return False
    try:
        _lock_for_file(file, fcntl.LOCK_UN, _READERS)
    except OSError:  # a kernel that has none
        return False
    return True


def _lock_for_file(file: IO[bytes], operation: int, place: _Place) -> None:
    kinds = {fcntl.LOCK_SH: fcntl.F_RDLCK, fcntl.LOCK_EX: fcntl.F_WRLCK}
    kind = kinds.get(operation, fcntl.F_UNLCK)
    # `struct flock` as C aligns it, with no process.
    lock = struct.pack("@hhqqi0q", kind, os.SEEK_SET, *place, 0)
    fcntl.fcntl(file, _OF_OPEN_FILE, lock)


def _lock_for_process(file: IO[bytes], operation: int, place: _Place) -> None:
    start, length = place
    at_once = 0 if operation == fcntl.LOCK_UN else fcntl.LOCK_NB
    fcntl.lockf(file, operation | at_once, length, start)
