"""A disk whose power can be cut: what was not synced may be gone, torn or out of order.

Strategy: a VFS for SQLite (apsw) that holds two states of each file in memory: the one
that readers see, and the one on the platter.  A write changes only the first; a sync
copies it to the second.  The first is in real files as well, for readers that do not go
through SQLite.  When the power is cut, an image is taken of what a real disk could have:
the platter, and any sectors of the writes since the last sync, in any order.  The
program runs on after that, but nobody sees what it does.

Rules:

* Nothing is promised that a disk does not promise: no safe overwrite, no
  atomic write, no order between writes.
* A sync during which the power is cut has not happened.
* A removed file may be back until its directory is synced: on removal, if SQLite asks for
  that, or with the first sync of a journal or a log, as in SQLite's own VFS.
* There is no shared memory, so WAL needs `locking_mode = EXCLUSIVE`.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from random import Random
from typing import IO, Any, Final

import apsw
import attrs

SECTOR: Final = 512
CHECKPOINT_EVERY: Final = 40  # pages, so that many a cut falls into a checkpoint
_JOURNALS: Final = (
    apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
)


@attrs.define(eq=False)
class _Content:
    """One file: what is read, what is on the platter, and the writes between the two."""

    path: Path
    seen: bytearray = attrs.Factory(bytearray)
    platter: bytearray = attrs.Factory(bytearray)
    descriptor: int = -1
    unsynced: list[tuple[int, bytes | None]] = attrs.Factory(list)  # None cuts the file off there

    @classmethod
    def at(cls, path: Path) -> _Content:
        """Return the content of an existing file, or of a new one."""
        path.touch()
        content = path.read_bytes()
        descriptor = os.open(path, os.O_RDWR)
        opened = cls(path, bytearray(content), bytearray(content), descriptor)
        weakref.finalize(opened, os.close, opened.descriptor)
        return opened

    def write(self, data: bytes, offset: int) -> None:
        _put(self.seen, data, offset)
        self.unsynced.append((offset, data))
        os.pwrite(self.descriptor, data, offset)

    def truncate(self, size: int) -> None:
        del self.seen[size:]
        self.unsynced.append((size, None))
        os.truncate(self.descriptor, size)

    def sync(self) -> None:
        for offset, data in self.unsynced:
            _arrive(self.platter, offset, data)
        self.unsynced.clear()

    def left_by_a_cut(self, random: Random) -> bytes:
        """Return the platter with any of the sectors written since, in any order."""
        left = bytearray(self.platter)
        arriving = random.random()  # from nearly nothing to nearly all
        sectors = [piece for write in self.unsynced for piece in _sectors(*write)]
        for offset, data in random.sample(sectors, len(sectors)):
            if random.random() <= arriving:
                _arrive(left, offset, data)
        return bytes(left)


def _arrive(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
    else:
        _put(content, data, offset)


def _put(content: bytearray, data: bytes, offset: int) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _sectors(offset: int, data: bytes | None) -> list[tuple[int, bytes | None]]:
    if data is None:
        return [(offset, None)]
    return [(offset + at, data[at : at + SECTOR]) for at in range(0, len(data), SECTOR)]


class Disk(apsw.VFS):
    """Files in memory, by their names, and the power that they depend on."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.files: dict[str, _Content] = {}
        self._left = -1  # calls until the cut; none comes where it is negative
        self._cut: Callable[[], None] = lambda: None
        self._room = -1  # writes until there is none; there is always where it is negative
        self._is_full_for = 0
        self.was_full = False
        self._removed: dict[str, _Content] = {}  # which may be back after a cut

    def cut_after(self, calls: int, cut: Callable[[], None]) -> None:
        """Call `cut` in place of the last of `calls` writes and syncs."""
        self._left, self._cut = calls, cut

    def fill_after(self, writes: int, *, lasts: int) -> None:
        """After `writes` writes and syncs, be full for the next `lasts`."""
        self._room, self._is_full_for = writes, lasts

    def is_full(self) -> bool:
        """Count a write or a sync that needs room, and return whether there is none."""
        if self._room > 0:
            self._room -= 1
        if self._room or not self._is_full_for:
            return False
        self._is_full_for -= 1
        self.was_full = True
        return True

    def image(self, random: Random) -> dict[str, bytes]:
        """Return what a cut at this moment leaves."""
        back = {name: content for name, content in self._removed.items() if random.random() < 0.5}
        return {
            name: content.left_by_a_cut(random) for name, content in {**self.files, **back}.items()
        }

    def sync_directory(self) -> None:
        """Forget the removed files, so that no cut brings them back."""
        self._removed.clear()

    def tick(self) -> None:
        """Count a write or a sync."""
        self._left -= 1
        if self._left == 0:
            self._cut()

    def connect(self, path: str) -> Any:
        """Open a database on this disk."""
        return self.connect_with(CHECKPOINT_EVERY)(path)

    def connect_with(self, pages: int) -> Callable[[str], Any]:
        """Return a function that opens a database with a checkpoint every `pages` pages."""

        def connect(path: str) -> Any:
            connection = apsw.Connection(path, vfs=self.name)
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
            return connection

        return connect

    def write_durably(self, file: IO[bytes], data: bytes, at: int) -> None:
        """Write and sync the bytes that the ledger writes into its file without SQLite."""
        opened, same = os.fstat(file.fileno()), os.path.samestat
        (content,) = (one for one in self.files.values() if same(os.fstat(one.descriptor), opened))
        self._use_room()
        content.write(data, at)
        self._use_room()
        content.sync()

    def _use_room(self) -> None:
        self.tick()
        if self.is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # What SQLite calls.

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:  # noqa: N802
        filename = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        flags[1] = flags[0]
        if filename not in self.files:
            self.files[filename] = _Content.at(Path(filename))
        return _File(self, self.files[filename], syncs_directory=bool(flags[0] & _JOURNALS))

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        return os.path.exists(pathname)  # noqa: PTH110 - it is asked for often

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.tick()
        if filename not in self.files:  # it is of before this disk, and nobody has opened it
            self.files[filename] = _Content.at(Path(filename))
        removed = self.files.pop(filename)
        self._removed[filename] = removed
        if syncdir:
            self.sync_directory()
        Path(filename).unlink()

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name


class _File:
    """An open file, as SQLite calls it."""

    def __init__(self, disk: Disk, content: _Content, *, syncs_directory: bool) -> None:
        self._disk = disk
        self._content = content
        self._syncs_directory = syncs_directory  # with its first sync

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        return bytes(self._content.seen[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.tick()
        if self._disk.is_full():
            raise apsw.FullError("no space left on device")
        self._content.write(bytes(data), offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.tick()
        self._content.truncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.tick()
        if self._disk.is_full():
            raise apsw.IOError("no space left on device")
        self._content.sync()
        if self._syncs_directory:
            self._syncs_directory = False
            self._disk.sync_directory()

    def xFileSize(self) -> int:  # noqa: N802
        return len(self._content.seen)

    def xSectorSize(self) -> int:  # noqa: N802
        return SECTOR

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return 0

    def xFileControl(self, operation: int, pointer: int) -> bool:  # noqa: N802
        return False

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xClose(self) -> None:  # noqa: N802
        pass


class Careless:
    """A connection that is told to sync with every commit, says that it does, and does not."""

    def __init__(self, connection: Any, synchronous: str) -> None:
        self._connection = connection
        self._synchronous = synchronous
        self.close = connection.close

    def execute(self, statement: str, values: Any = ()) -> Any:
        if statement == "PRAGMA synchronous":
            statement = "SELECT 2"
        statement = statement.replace("synchronous = FULL", f"synchronous = {self._synchronous}")
        return self._connection.execute(statement, values)


def write_out(image: Mapping[str, bytes], directory: Path) -> None:
    """Write the image that a cut left into a directory of a real disk."""
    for name, content in image.items():
        (directory / PurePath(name).name).write_bytes(content)
