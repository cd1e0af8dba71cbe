"""The files of rejects that this program has written, so that it may write them anew.

Strategy: what was written is remembered by a digest, in the file of the user's that knows their
campaigns.  A file that is as it was written has no work of a person's in it.

Rules:

* A file is written anew for the same recipients and the same campaign alone.
* What is not known for sure was touched: where nothing can be remembered, files pile up.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Final

import attrs

from .campaigns_before import Place, opened

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS rejects (
    path TEXT PRIMARY KEY, campaign TEXT, digest BLOB
) WITHOUT ROWID
"""
_FOUND: Final = "SELECT campaign, digest FROM rejects WHERE path = ?"


class RejectsBefore:
    """The files of rejects of the recipients in `source`, a file, for a campaign at a place."""

    def __init__(self, source: Path, place: Place) -> None:
        self._of = json.dumps([str(source.resolve()), *attrs.astuple(place)])

    def is_as_written(self, path: Path) -> bool:
        """Return whether a file is as this program has written it for the same campaign."""
        with suppress(OSError, sqlite3.Error), _table() as connection:
            found = connection.execute(_FOUND, (str(path.resolve()),)).fetchone()
            return bool(found == (self._of, _digest(path)))
        return False

    def note(self, path: Path) -> None:
        """Note that a file was written; what is none, as a device, is not read."""
        with suppress(OSError, sqlite3.Error), _table() as connection:
            if path.is_file():
                row = (str(path.resolve()), self._of, _digest(path))
                connection.execute("INSERT OR REPLACE INTO rejects VALUES (?, ?, ?)", row)


@contextmanager
def _table() -> Iterator[sqlite3.Connection]:
    with opened() as connection:
        connection.execute(_TABLE)
        yield connection


def _digest(path: Path) -> bytes:
    """Return a digest of a file, byte by byte."""
    with path.open("rb") as file:
        return file_digest(file, partial(blake2b, digest_size=16)).digest()
