"""The disk of a process, and what a crash leaves on it.

Strategy: each process has a directory of its own.  A crash copies the files that it leaves into
the next process's directory; what the old process still writes, nobody sees.

Rules:

* Everything that a killed process has written is there.
* If the power is lost, any part of the data that was not synced may be there.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Final
from unittest import mock

import anyio
import apsw

from skycore_async import SQLiteLedger
from skycore_async.ledger.sqlite import inbox_file, inbox_intake, opt_out_list, write_ahead_log
from skycore_async.ledger.sqlite.open_file import OpenFile
from skycore_async.ledger.sqlite.open_file import connect as connect_to_file
from skycore_async.receiving import inbox
from tests.support.power_cut import Disk, write_out

LEDGER: Final = "ledger.db"
OTHER: Final = "other.db"  # another ledger of the account
OPT_OUTS: Final = "opt-outs.db"  # which the two share
_LEFT: Final = {LEDGER, f"{LEDGER}-wal", f"{LEDGER}-inbox", f"{LEDGER}-inbox-journal"}
_LEFT.update({OTHER, f"{OTHER}-wal", OPT_OUTS, f"{OPT_OUTS}-journal"})
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where there is Linux, files in memory


@cache
def _new_ledger() -> bytes:
    """Return a ledger with nothing in it, which is slow to make."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, LEDGER)

        async def make() -> None:
            async with SQLiteLedger(path):
                pass

        anyio.run(make)
        return path.read_bytes()


@contextmanager
def place() -> Iterator[Path]:
    """Make a directory for the machines of worlds, in memory where that can be."""
    parent = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="worlds-", dir=parent) as folder:
        yield Path(folder)


class Machine:
    """A directory with the ledger of one process, on a disk that may lose its power."""

    def __init__(self, folder: Path, *, loses_power: bool, pages: int) -> None:
        self.folder = folder
        self._disk = Disk(str(folder)) if loses_power else None
        self._pages = pages
        self._opened: list[int] = []  # of the ledger's files: closing one would end its locks
        self._numbers = itertools.count()  # of what is out of the way

    @classmethod
    def first(cls, folder: Path, *, loses_power: bool, pages: int) -> Machine:
        """Make a machine with an empty ledger."""
        folder.mkdir(parents=True)
        (folder / LEDGER).write_bytes(_new_ledger())
        return cls(folder, loses_power=loses_power, pages=pages)

    @property
    def path(self) -> Path:
        """Where the ledger is."""
        return self.folder / LEDGER

    def connect(self, path: str) -> Any:
        """Open the ledger's file."""
        if self._disk is not None:
            return _Connection(self._disk.connect_with(self._pages)(path))
        connection = connect_to_file(path)
        connection.execute(f"PRAGMA wal_autocheckpoint = {self._pages}")
        return connection

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have the ledger write to this machine's disk."""
        if self._disk is None:
            yield
            return
        kept_here = partial(inbox_file.InboxFile, connect=self._connect_to_shared)
        with (
            mock.patch.object(write_ahead_log, "write_durably", self._disk.write_durably),
            mock.patch.object(inbox_intake, "InboxFile", kept_here),
            mock.patch.object(inbox, "InboxFile", kept_here),
            mock.patch.object(inbox, "OpenFile", partial(OpenFile, connect=self.connect)),
            mock.patch.object(opt_out_list, "connect", self._connect_to_shared),
        ):
            yield

    def _connect_to_shared(self, path: str) -> Any:
        """Open a file that several write to, each for a moment."""
        assert self._disk is not None
        return _Connection(apsw.Connection(path, vfs=self._disk.name))

    def cut_after(self, writes: int, cut: Callable[[], None]) -> None:
        """Call `cut` in place of one of the writes that are to come."""
        if self._disk is not None:
            self._disk.cut_after(writes, cut)

    def fill_after(self, writes: int, *, lasts: int) -> None:
        """Have no room on the disk for some writes, after so many."""
        if self._disk is not None:
            self._disk.fill_after(writes, lasts=lasts)

    @property
    def keeps_all(self) -> bool:
        """Whether the disk keeps all that is written."""
        return self._disk is None

    def file(self, name: str) -> int:
        """Open one of the files as another program would, and return its descriptor."""
        self._opened.append(os.open(self.folder / name, os.O_RDWR | os.O_CREAT))
        return self._opened[-1]

    def moved_away(self, folder: Path) -> None:
        """Have a directory out of the way, whatever is open in it."""
        folder.rename(folder.with_name(f"{folder.name}-{next(self._numbers)}"))

    @property
    def was_full(self) -> bool:
        """Whether there was no room on the disk at some time."""
        return self._disk is not None and self._disk.was_full

    def left(self, *, is_power: bool, chance: Random) -> Callable[[Path], Machine]:
        """Take what a crash at this moment leaves; the result puts it on another machine."""
        image = {
            str(each): each.read_bytes() for each in self.folder.iterdir() if each.name in _LEFT
        }
        if is_power and self._disk is not None:  # what nobody has opened yet is as it was
            image |= self._disk.image(chance)

        def put(folder: Path) -> Machine:
            folder.mkdir()
            write_out(image, folder)
            return Machine(folder, loses_power=self._disk is not None, pages=self._pages)

        return put

    def remove(self) -> None:
        """Let go of it."""
        if self._disk is not None:
            self._disk.unregister()
        for descriptor in self._opened:
            os.close(descriptor)
        shutil.rmtree(self.folder)


class _Connection:
    """A connection of apsw, whose errors are those of `sqlite3`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def close(self) -> None:
        """Close it."""
        self._done(self._connection.close)

    def execute(self, statement: str, values: Any = ()) -> Any:
        """Execute a statement."""
        return self._done(self._connection.execute, statement, values)

    def executemany(self, statement: str, values: Any) -> Any:
        """Execute a statement for each of some rows."""
        return self._done(self._connection.executemany, statement, values)

    @staticmethod
    def _done(work: Callable[..., Any], *args: Any) -> Any:
        try:
            return work(*args)
        except apsw.Error as error:
            raise sqlite3.OperationalError(str(error)) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
