"""The line on which each number and each key of a file stood first, in a temporary SQLite table.

Strategy: a million numbers in a dict would take a hundred megabytes.  A private database in a
temporary file takes no more memory than its cache, and is gone with its connection.  Nothing in it
has to survive a crash, so nothing is synced.

Rows are written thousands at a time, in order.  The table is rarely read: a bit array (a Bloom
filter of one hash) tells of nearly every new name that it is new.
"""

from __future__ import annotations

import sqlite3
import weakref
from typing import Final

_SETTINGS: Final = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA cache_size = -512",  # in KiB, where it is negative
    "CREATE TABLE lines (name INTEGER PRIMARY KEY, line INTEGER NOT NULL)",
    "BEGIN",
)
_INSERT: Final = "INSERT INTO lines VALUES (?, ?)"
_BITS: Final = 4_194_301  # a prime, so that names of any pattern are spread
_TOGETHER: Final = 4_096  # names that are written in one step


class FirstLines:
    """The line on which each name, a number of 64 bits, stood first."""

    def __init__(self) -> None:
        # The garbage collector may close it in any thread.
        connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, connection.close)
        for statement in _SETTINGS:
            connection.execute(statement)
        self._connection = connection
        self._bits = bytearray(_BITS // 8 + 1)
        self._unwritten: dict[int, int] = {}

    def before(self, name: int, line: int) -> int | None:
        """Return the line on which `name` stood first; None where it is new, and kept now."""
        place = name % _BITS
        byte, bit = place >> 3, 1 << (place & 7)
        if self._bits[byte] & bit:
            if (known := self._known(name)) is not None:
                return known
        else:
            self._bits[byte] |= bit
        self._unwritten[name] = line
        if len(self._unwritten) == _TOGETHER:
            self._write()
        return None

    def _write(self) -> None:
        names, lines = sorted(self._unwritten), self._unwritten
        self._connection.executemany(
            _INSERT, zip(names, map(lines.__getitem__, names), strict=True)
        )
        lines.clear()

    def _known(self, name: int) -> int | None:
        if (line := self._unwritten.get(name)) is not None:
            return line
        asked = self._connection.execute("SELECT line FROM lines WHERE name = ?", (name,))
        found = asked.fetchone()
        return None if found is None else int(found[0])

    def forget(self, name: int) -> None:
        """Forget a name, because its row is not sent."""
        if self._unwritten.pop(name, None) is None:
            self._connection.execute("DELETE FROM lines WHERE name = ?", (name,))
