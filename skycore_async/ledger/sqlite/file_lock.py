"""The lock of a ledger's file: one process at a time has the file open, whatever its name.

Strategy: `flock`, which belongs to an open file and not to a process.  A POSIX lock would not do:
it ends as soon as its process closes that file anywhere, as a backup by `shutil.copytree` does,
and a fork does not inherit it.

* Linux: the ledger's own file is locked, and so it is under every name: a hard link, a bind mount,
  a second path.  SQLite's own locks on it are POSIX locks, and on Linux the two kinds do not
  interact.  PATH-lock is locked as well, as earlier versions do.
* macOS and BSD: the two kinds interact, and `flock` would lock SQLite out.  So PATH-lock is locked
  instead, and a file with a second name is refused.
* Windows: PATH-lock is locked, as earlier versions do: a lock there ends with its handle.

Rules:

* The ledger's file is opened here before SQLite opens it, and closed here after SQLite has closed
  it.  It is opened only once in a process: closing it would end SQLite's locks.
* A forked child has no ledger.  It closes its copy of the lock, which its parent keeps.  It never
  closes SQLite's files, which could take the journal away from others.
* Checking whether a file is in use writes nothing, and makes no file.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final

from ...errors import LedgerError, LedgerInUse
from ...runtime.forks import call_in_child
from ...runtime.private_files import private

try:
    import fcntl as _fcntl
except ImportError:  # pragma: no cover - Windows has no fcntl
    _fcntl = None  # type: ignore[assignment]

_PLATFORM = sys.platform
fcntl: Any = _fcntl

_Identity = tuple[int, int]  # of a file, whatever its name: its device and its inode

_guard: Final = threading.Lock()
_held: Final[dict[_Identity, FileLock]] = {}
_inherited: Final[set[_Identity]] = set()


class FileLock:
    """The lock of the ledger at `path`, which has no symbolic link in it.

    While the lock is held, `file` is the ledger's own file, which is made if there was none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[bytes]
        self.is_inherited = False  # in a forked child: the lock is its parent's
        self._identity: _Identity | None = None
        self._open: list[Any] = []
        self._of_sqlite: list[Any] = []

    def take(self, check: Callable[[IO[bytes]], None] = lambda _file: None) -> None:
        """Take the lock; if `check` raises for the file, no file is made beside it.

        Raises LedgerInUse if another process has it, LedgerError if this process cannot have it,
        and OSError or sqlite3.Error if the files cannot be written.
        """
        with _guard:
            self._refuse_what_is_open_here()
            try:
                self._take(check)
            except BaseException:
                self._close()
                raise

    def _refuse_what_is_open_here(self) -> None:
        identity = _identity_of(self.path)
        if identity in _inherited:
            raise LedgerError(
                f"{self.path} was open when this process was forked, and cannot be opened in it:"
                " open it in a process that is started anew, as by `spawn`"
            )
        if identity in _held:
            raise in_use(self.path, "another ledger in this process")
        if index_of(self.path).exists():  # if not, it is checked later, as the check is slow
            self.refuse_a_removed_log()

    def refuse_a_removed_log(self) -> None:
        """Raise LedgerError if SQLite, in this process, uses the index of a log that is gone."""
        if _reads_a_removed_log(self.path):
            raise LedgerError(
                f"{self.path} is open in this process by a connection of SQLite's own, to a log"
                " that another process has removed. Closing it, also at the end of this process,"
                f" would remove {self.path}-wal, which may have what was recorded since: end this"
                " process by SIGKILL, and open the ledger in another one"
            )

    def _take(self, check: Callable[[IO[bytes]], None]) -> None:
        self.file = self._opened(self.path)
        check(self.file)
        status = os.fstat(self.file.fileno())
        locked, beside = _flocked(self.path), lock_file(self.path)
        if locked == self.path:
            _flock(self.file, self.path)
        elif status.st_nlink > 1:
            raise LedgerError(
                f"{self.path} has a second name, a hard link, by which another process could open"
                " it at the same time: remove one of the two, which has no -wal file beside it"
            )
        if locked == beside:
            _flock(self._opened(beside), self.path)
        else:
            os.close(_descriptor(beside))
            self._open.append(_locked_as_before(beside, self.path))
            self.not_to_be_closed_by_children(self._open[-1])
        self._identity = (status.st_dev, status.st_ino)
        _held[self._identity] = self

    def open_if_exists(self, path: Path) -> IO[bytes] | None:
        """Open a file of SQLite's, to be closed with the ledger's own; None if there is none."""
        return self._opened(path) if path.exists() else None

    def _opened(self, path: Path) -> IO[bytes]:
        file = os.fdopen(_descriptor(path), "r+b", buffering=0)
        self._open.append(file)
        return file

    def not_to_be_closed_by_children(self, connection: Any) -> None:
        """Never close this connection in a forked child."""
        self._of_sqlite.append(connection)

    def release(self) -> None:
        """Release the lock, once SQLite has closed the file."""
        with _guard:
            self._close()

    def _close(self) -> None:
        if self._identity is not None:
            del _held[self._identity]
            self._identity = None
        for one in reversed(self._open):
            one.close()
        self._open.clear()
        self._of_sqlite.clear()

    def after_fork_in_child(self) -> None:
        """Give up the lock in a forked child."""
        self.is_inherited = True
        for connection in self._of_sqlite:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        for one in self._open:
            if one not in self._of_sqlite:
                one.close()


def _in_child() -> None:
    global _guard  # noqa: PLW0603 - another thread of the parent's may have had it
    _guard = threading.Lock()  # type: ignore[misc] # pyright: ignore[reportConstantRedefinition]
    for identity, lock in _held.items():
        lock.after_fork_in_child()
        _inherited.add(identity)
    _held.clear()


call_in_child(_in_child)


def lock_file(path: Path) -> Path:
    """Return the file beside a ledger that earlier versions lock."""
    return path.with_name(f"{path.name}-lock")


def journal_of(path: Path) -> Path:
    """Return SQLite's write-ahead log of a ledger, which exists while it is open."""
    return path.with_name(f"{path.name}-wal")


def index_of(path: Path) -> Path:
    """Return the index of that log, which all connections to the ledger share."""
    return path.with_name(f"{path.name}-shm")


def is_in_use(path: Path) -> bool:
    """Return whether a ledger has the file at `path` open, in any process.

    Raises OSError or sqlite3.Error if that cannot be read.
    """
    identity = _identity_of(path)
    if identity is None or identity in _held:
        return identity is not None
    locked, beside = _flocked(path), lock_file(path)
    if locked is not None and locked.exists() and _is_flocked(locked):
        return True
    return locked != beside and beside.exists() and _is_locked_as_before(beside)


def by_process(path: Path) -> str:
    """Return the words for the process that has the ledger at `path` open.

    On Linux they have its process id, if this process can see it.
    """
    try:
        inode = str((_flocked(path) or path).stat().st_ino)
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        lines, inode = [], ""
    # A line is `1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234 0 EOF`; 0 is a process elsewhere.
    for _, kind, _, _, process, file, *_ in map(str.split, lines):
        if kind == "FLOCK" and file.rpartition(":")[2] == inode and int(process) > 0:
            return f"process {process}"
    return "another process"


def _flocked(path: Path) -> Path | None:
    """Return the file on which `flock` is held for a ledger; None if there is no `flock`."""
    if fcntl is None:
        return None
    return path if _PLATFORM == "linux" else lock_file(path)


def _reads_a_removed_log(path: Path) -> bool:
    """Return whether a connection in this process uses the index of a log that is gone.

    All SQLite connections of a process share one index.  A new connection would see, and keep, the
    content of that log, and not what was recorded since.  This happens if the locks of a
    connection end before the connection does, as when the process closes the file anywhere.
    """
    mapped = Path("/proc/self/maps")  # on Linux
    return mapped.exists() and os.fsencode(f"{path}-shm (deleted)\n") in mapped.read_bytes()


def _identity_of(path: Path) -> _Identity | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _descriptor(path: Path) -> int:
    return private(path, os.O_RDWR | os.O_CREAT)


def _flock(file: IO[bytes], ledger: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise in_use(ledger, by_process(ledger)) from error


def _is_flocked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# The lock of earlier versions: an exclusive transaction of SQLite, which never writes anything.


def _locked_as_before(beside: Path, ledger: Path) -> Any:
    connection = sqlite3.connect(beside, isolation_level=None, check_same_thread=False, timeout=0)
    try:
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("BEGIN EXCLUSIVE")
        # A file that cannot be written is opened for reading, and would lock nobody out.
        connection.execute("PRAGMA user_version = 1")
    except sqlite3.Error as error:
        connection.close()
        if "locked" not in str(error):
            raise
        raise in_use(ledger, "another process") from error
    return connection


def _is_locked_as_before(beside: Path) -> bool:
    uri = f"{beside.as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0)) as reading:
            reading.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return True
    return False


def in_use(ledger: Path, by: str) -> LedgerInUse:
    """Return the error for a ledger that `by` has open."""
    return LedgerInUse(
        f"{ledger} is in use: one process at a time can open a ledger, and {by} has it open. End"
        " that first, or wait for it"
    )
