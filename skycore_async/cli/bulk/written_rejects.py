"""The files of rejects that this program has written, and may therefore replace.

Strategy: the digest of each file is noted in the user's file of campaigns.  A file with the noted
digest was not edited, and replacing it loses nobody's work.

Rules:

* A file is replaced only by rejects of the same recipients and the same campaign.
* Where it is not known that a file is unedited, it counts as edited and is kept.
* The program may be killed after a note and before the writing.  So a note has two digests, that
  of the file before the writing and that after it, and either shows that the file is unedited.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
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


class WrittenRejects:
    """The files of rejects of one file of recipients, `source`, for the campaign at `place`."""

    def __init__(self, source: Path, place: Place) -> None:
        self._source_and_place = json.dumps([str(source.resolve()), *attrs.astuple(place)])

    def is_as_written(self, path: Path) -> bool:
        """Return whether a file is as this program wrote it for this campaign."""
        with suppress(OSError, sqlite3.Error), opened(_TABLE) as connection:
            found = connection.execute(_FOUND, (str(path.resolve()),)).fetchone()
            if found is not None and found[0] == self._source_and_place:
                return _digest(path) in _each(found[1])
        return False

    def note(self, path: Path) -> None:
        """Note that a file was written; anything else, as a device, is not read."""
        with suppress(OSError):
            if path.is_file():
                self.note_writing(path, _digest(path))

    def note_writing(self, path: Path, *digests: bytes) -> None:
        """Note the digests that the file may have from now on."""
        with suppress(OSError, sqlite3.Error), opened(_TABLE) as connection:
            row = (str(path.resolve()), self._source_and_place, b"".join(digests))
            connection.execute("INSERT OR REPLACE INTO rejects VALUES (?, ?, ?)", row)


def new_digest() -> blake2b:
    """Return the hash that computes the digest of a file while it is written."""
    return blake2b(digest_size=_SIZE)


def _digest(path: Path) -> bytes:
    """Return a digest of a file, byte by byte."""
    with path.open("rb") as file:
        return file_digest(file, new_digest).digest()


def _each(digests: bytes) -> list[bytes]:
    return [digests[at : at + _SIZE] for at in range(0, len(digests), _SIZE)]
