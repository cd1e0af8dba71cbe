"""Whether a ledger's file and its write-ahead log belong together.  No I/O.

Strategy: each log has a number, its generation, and the file says in its header which
one it cannot do without.  SQLite keeps the number of the tables' version in
`user_version`, of which eight bits are enough; the others are used here:

    bits 0 to 7     the version of the tables
    bit 8           set where the file is incomplete: what was recorded is in its log
    bits 9 to 30    the generation, 0 for a file of an earlier version

The first page in a log of ours is the first of the file, with the log's generation and
without the bit.  When that is on the disk, bit 8 is set in the file itself, which nobody
reads as long as the log has that page.  Whatever brings all of the log into the file, a
checkpoint of ours or of SQLite's own at the end, brings the first page as well and clears
the bit.  So a file that is copied without its log says that it is incomplete, and a
backup by SQLite's own means says that it is not.

Rule: every state that a crash can leave is one of those below; any other is refused.

    file                    log
    of an earlier version   any
    complete, generation n  none, n (not yet removed), n + 1 (of an opening that crashed)
    incomplete, n           n
"""

from __future__ import annotations

import struct
from typing import Final, Self

import attrs

from .schema import APPLICATION_ID, VERSION_BITS

HEADER: Final = 100  # bytes at the beginning of a file that are SQLite's header
USER_VERSION: Final = 60  # where in it `user_version` is, and `application_id` eight bytes later
MOST: Final = 2**22 - 1  # of the generations, which begin anew after it

_INCOMPLETE: Final = 1 << 8
_SHIFT: Final = 9
_MAGIC: Final = b"SQLite format 3\x00"
_LOG_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_ORDERS: Final = {0x377F0682: "<", 0x377F0683: ">"}  # of bytes in checksums, by the magic number


@attrs.frozen(kw_only=True)
class FileState:
    """What a file says of itself in `user_version`."""

    version: int = 0
    generation: int = 0
    is_incomplete: bool = False

    @classmethod
    def of(cls, user_version: int) -> Self:
        """Read a number."""
        return cls(
            version=user_version & VERSION_BITS,
            generation=user_version >> _SHIFT & MOST,
            is_incomplete=bool(user_version & _INCOMPLETE),
        )

    @classmethod
    def in_header(cls, header: bytes) -> Self:
        """Read it from the first bytes of a file, or of the first page."""
        if len(header) < HEADER or not header.startswith(_MAGIC):
            return cls()
        number, kind = struct.unpack_from(">I4xI", header, USER_VERSION)
        return cls.of(number) if kind == APPLICATION_ID else cls()

    @property
    def user_version(self) -> int:
        """The number that says so."""
        return self.version | self.is_incomplete * _INCOMPLETE | self.generation << _SHIFT


def after(generation: int) -> int:
    """Return the generation that follows."""
    return generation % MOST + 1


def frame_size(log: bytes) -> int:
    """Return how many bytes a page takes in a log that begins so."""
    (page_size,) = struct.unpack_from(">I", log, 8)
    return _FRAME_HEADER + int(page_size)


def generation_in(log: bytes) -> int | None:
    """Return the generation of a log by its beginning, with the first page.

    None where it has nothing that SQLite would use, and 0 where it has another's.
    """
    if len(log) < _LOG_HEADER:
        return None
    magic, page_size = struct.unpack_from(">I4xI", log)
    if magic not in _ORDERS:
        return None
    order = _ORDERS[magic]
    sums = _checksum(log[:24], order, (0, 0))
    frame, page = log[_LOG_HEADER:56], log[56 : 56 + page_size]
    if struct.pack(">II", *sums) != log[24:32] or len(page) < page_size or not page_size:
        return None
    sums = _checksum(page, order, _checksum(frame[:8], order, sums))
    if frame[8:16] != log[16:24] or frame[16:24] != struct.pack(">II", *sums):
        return None
    (number,) = struct.unpack_from(">I", frame)
    return FileState.in_header(page).generation if number == 1 else 0


def _checksum(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """Return SQLite's checksum of a log, which goes on from one piece to the next."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


def what_is_wrong(name: str, file: FileState, log: int | None) -> str | None:
    """Return why a file and a log of that generation are no ledger together; None if they are."""
    if not file.generation:
        return None
    if file.is_incomplete and log is None:
        return (
            f"{name} is not whole: the file {name}-wal, in which is what was recorded last, is not"
            " beside it. It was copied, moved or restored without it, or that file was lost."
            " Bring it back to its place beside the ledger, and open it again. Without it,"
            " nobody here knows of all that was sent: what this ledger does not list may have"
            " been sent all the same, and Skycore's own report of messages alone can tell"
        )
    fitting = {file.generation}
    if not file.is_incomplete:
        fitting.add(after(file.generation))
    if log is None or log in fitting:
        return None
    if not log:
        return (
            f"{name}-wal was written by another program, which may have {name} open: end that"
            " program first. Where none has, open and close it once with SQLite's own shell, which"
            f" brings {name}-wal into the file. Do not remove that: what was recorded last may be"
            " in it alone"
        )
    return (
        f"{name} and {name}-wal do not belong together: one of them is of another ledger, or of"
        " another time. Nothing was changed. Bring the two together that were beside each"
        " other, and open the ledger again"
    )
