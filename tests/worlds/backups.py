"""Backups of a world's ledger: how the operator makes them, and puts one back.

Strategy: of the last backup is noted what the ledger knew by then.  What was sent, received and
said since is forgotten once a program opens the backup, and may be done once more from then on,
but not before: nothing is begun in a ledger that is open while its backup is put back.

Rules:

* The disk keeps everything: no backup is made where power may be lost.
* What the operator does comes between two steps.  The program's own files are not closed by that,
  as those of another program are not: closing one ends the locks of its process.
"""

from __future__ import annotations

import math
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import attrs

from .account import lag_of
from .events import Way
from .machine import LEDGER

if TYPE_CHECKING:
    from .forgetting import Memory
    from .machine import Machine
    from .provider import Posted
    from .world import World

_LOG: Final = f"{LEDGER}-wal"
_INDEX: Final = f"{LEDGER}-shm"


@attrs.frozen(kw_only=True)
class _Backup:
    files: dict[str, bytes]
    memory: Memory
    doubts: set[str]
    postbacks: set[Posted]  # that the ledger had surely taken in


class Backups:
    """The backups of a world, of which the last may be put back."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last: _Backup | None = None
        self._is_wanted = False  # as soon as the ledger is closed
        self._is_refused = False  # what was put back may be, for the files beside it
        self.is_open = False  # the ledger in which it was put back
        self.were_open = False

    def make(self, machine: Machine, *, with_log: bool) -> None:
        """Make a backup of the ledger, which is open."""
        if not machine.keeps_all or self.is_open:
            return
        self._last = _Backup(
            files=_copies(machine) if with_log else _by_sqlite(machine),
            memory=self._world.notes.remember(self._world.provider.billed),
            doubts=self._world.doubts,
            postbacks={
                each
                for each in self._world.provider.postbacks
                if each.is_taken and not each.is_beside
            },
        )

    def put_back(self, machine: Machine, way: Way) -> bool:
        """Put the last backup back, if there is one, or have it put back; return whether."""
        backup = self._last
        if backup is None or self.is_open or self._is_wanted:
            return False
        if way is Way.CLOSED:
            self._is_wanted = True
            return True
        self.is_open = self.were_open = self._is_refused = True
        # Where it has all that was begun, it may be what is there already.
        has_all = way in {Way.RESTORED, Way.COPIED}
        self._world.notes.put_back(backup.memory, has_all=has_all)
        if way is Way.RESTORED:
            _restored(machine, backup.files)
            return True
        if way is Way.COPIED:
            for name, content in backup.files.items():
                descriptor = machine.file(name)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, content, 0)
            return True
        if way is Way.MOVED:
            _moved_away(machine)
        _laid(machine, backup.files)
        return True

    def before_opening(self, machine: Machine) -> None:
        """Do what there is to do while no program has the ledger open."""
        if self._is_wanted:
            self.put_in_order(machine)
        elif self.is_open:
            self._forget()

    def opened(self) -> None:
        """Note that the ledger was opened: whatever is refused from now on is no backup."""
        self._is_refused = False

    def put_in_order(self, machine: Machine) -> bool:
        """Put the last backup back as the documentation says; False if that was not wanted."""
        if not (self._is_wanted or self._is_refused) or self._last is None:
            return False
        _moved_away(machine)
        _laid(machine, self._last.files)
        if self._is_wanted:
            self._forget()
        self._is_wanted = self._is_refused = False
        return True

    def _forget(self) -> None:
        """Note that what came since the backup is forgotten from now on."""
        assert self._last is not None
        world = self._world
        world.note("a backup is put back")
        # What was said is on the list, where there is one, after a while.
        shares = world.plan.settings.shares_opt_outs
        heard = world.now() - lag_of(world) if shares else -math.inf
        world.notes.forget(self._last.memory, heard=heard)
        world.doubts = self._last.doubts
        for each in world.provider.postbacks:
            each.is_forgotten |= each.is_taken and each not in self._last.postbacks
        self.is_open = False


def _by_sqlite(machine: Machine) -> dict[str, bytes]:
    """Return the backup that SQLite makes of an open ledger."""
    backup = machine.folder / "backup.db"
    with closing(sqlite3.connect(machine.path, isolation_level=None)) as shell:
        shell.execute("VACUUM INTO ?", (str(backup),))
    content = backup.read_bytes()
    backup.unlink()
    return {LEDGER: content}


def _copies(machine: Machine) -> dict[str, bytes]:
    """Return the file and the log of an open ledger, both of one moment."""
    files = {}
    for name in (LEDGER, _LOG):
        if (machine.folder / name).exists():
            descriptor = machine.file(name)
            files[name] = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return files


def _restored(machine: Machine, files: dict[str, bytes]) -> None:
    """Have SQLite write a backup into the open ledger."""
    folder = machine.folder / "restored"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with (
        closing(sqlite3.connect(folder / LEDGER)) as backup,
        closing(sqlite3.connect(machine.path)) as shell,
    ):
        backup.backup(shell)
    machine.moved_away(folder)


def _moved_away(machine: Machine) -> None:
    """Move the ledger's files away, but for the inbox."""
    lost = machine.folder / "lost"
    lost.mkdir()
    for name in (LEDGER, _LOG, _INDEX):
        if (machine.folder / name).exists():
            (machine.folder / name).rename(lost / name)
    machine.moved_away(lost)


def _laid(machine: Machine, files: dict[str, bytes]) -> None:
    """Lay files in their places, each by a name of its own that becomes the right one."""
    for name, content in files.items():
        new = machine.folder / f"{name}-new"
        new.write_bytes(content)
        new.replace(machine.folder / name)
