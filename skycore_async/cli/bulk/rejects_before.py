"""The files of rejects that this program has written, so that it may write them anew.

Strategy: what was written is remembered by a digest, in the file of the user's that knows their
campaigns.  A file that is as it was written has no work of a person's in it.

Rules:

* A file is written anew for the same recipients and the same campaign alone.
* What is not known for sure was touched: where nothing can be remembered, files pile up.
* A program can be killed between its note and what it writes: both, what the file was and what it
  was to be, are as written.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Final

import attrs

from .earlier_campaigns import opened
from .place import Place

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS rejects (
    path TEXT PRIMARY KEY, campaign TEXT, digest BLOB
) WITHOUT ROWID
"""
_SIZE: Final = 16  # bytes of a digest
_FOUND: Final = "SELECT campaign, digest FROM rejects WHERE path = ?"


class RejectsBefore:
    """The files of rejects of the recipients in `source`, a file, for a campaign at a place."""

    def __init__(self, source: Path, place: Place) -> None:
        self._of = json.dumps([str(source.resolve()), *attrs.astuple(place)])

    def is_as_written(self, path: Path) -> bool:
        """Return whether a file is as this program has written it for the same campaign."""
        with suppress(OSError, sqlite3.Error), _table() as connection:
            found = connection.execute(_FOUND, (str(path.resolve()),)).fetchone()
            if found is not None and found[0] == self._of:
                return _digest(path) in _each(found[1])
        return False

    def note(self, path: Path) -> None:
        """Note that a file was written; what is none, as a device, is not read."""
        with suppress(OSError):
            if path.is_file():
                self.note_writing(path, _digest(path))

    def note_writing(self, path: Path, *digests: bytes) -> None:
        """Note by their `new_digest` what a file may be from now on."""
        with suppress(OSError, sqlite3.Error), _table() as connection:
            row = (str(path.resolve()), self._of, b"".join(digests))
            connection.execute("INSERT OR REPLACE INTO rejects VALUES (?, ?, ?)", row)


@contextmanager
def _table() -> Iterator[sqlite3.Connection]:
    with opened() as connection:
        connection.execute(_TABLE)
        yield connection


def new_digest() -> blake2b:
    """Return what takes the digest of a file as it is written."""
    return blake2b(digest_size=_SIZE)


def _digest(path: Path) -> bytes:
    """Return a digest of a file, byte by byte."""
    with path.open("rb") as file:
        return file_digest(file, new_digest).digest()


def _each(digests: bytes) -> list[bytes]:
    return [digests[at : at + _SIZE] for at in range(0, len(digests), _SIZE)]
