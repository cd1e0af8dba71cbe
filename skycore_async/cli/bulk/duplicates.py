"""Where each number and each key of a file stood first: a temporary table in SQLite.

Strategy: a million numbers in a dict would take a hundred megabytes.  A private database
in a temporary file takes as much memory as its cache, whatever the file has, and is gone
with its connection.  Nothing in it need survive anything, so that nothing is synced.
"""

from __future__ import annotations

import sqlite3
import weakref
from typing import Final

_SETTINGS: Final = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA cache_size = -32768",  # in KiB, where it is negative
    "CREATE TABLE lines (name INTEGER PRIMARY KEY, line INTEGER NOT NULL)",
    "BEGIN",
)


class FirstLines:
    """The line where each name stood first."""

    def __init__(self) -> None:
        # Whichever thread collects it closes it.
        connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, connection.close)
        for statement in _SETTINGS:
            connection.execute(statement)
        self._execute = connection.execute

    def before(self, name: int, line: int) -> int | None:
        """Return the line where `name`, of 64 bits, stood before; None where it is new."""
        added = self._execute("INSERT OR IGNORE INTO lines VALUES (?, ?)", (name, line))
        if added.rowcount:
            return None
        known = self._execute("SELECT line FROM lines WHERE name = ?", (name,)).fetchone()
        return int(known[0])

    def forget(self, name: int) -> None:
        """Take a name out, as the row that it stood in is not sent."""
        self._execute("DELETE FROM lines WHERE name = ?", (name,))
