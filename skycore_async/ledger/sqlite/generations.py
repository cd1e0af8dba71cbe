"""Decides whether a ledger's file and its write-ahead log belong together.  No I/O.

Strategy: the file says which log it is incomplete without.  It says so in `user_version`, a number
in the file's header that SQLite leaves to the application:

    bits 0 to 7     the version of the tables
    bit 8           the mark: the file is incomplete, as what was recorded is in its log
    bits 9 to 30    a generation, 0 for a file of an earlier version

`user_version` is on the first page of the file.  That page gets an odd generation when a log
begins, and the next even one when no more is written to the log: then the file is at rest.  So no
copy of the file that was made in between has the generation with which the next log begins.

The first page in each log is this page, with the generation that identifies the log, and without
the mark.  Once the log is on the disk, the mark is set in the file itself, with the log's
generation; nobody reads the page in the file while the log has it.  A checkpoint of the whole log,
ours or SQLite's own at the end, writes the first page into the file and so clears the mark.  But
SQLite writes that page before the others.  For that time the file has a tail beyond its pages,
with the log's salts; SQLite cuts the tail off when the checkpoint is done.

So a file that is copied without its log, at any time, says that it is incomplete, and a backup by
SQLite's own means says that it is complete.

Rule: every state that a crash can leave is one of those below; any other is refused.

    file                    log
    complete                none
    complete                the log that wrote the file's header, or one that began right after
    incomplete              the same, and the log that the mark or the tail names
    of an earlier version   any log of an earlier version

The header of a file has its number of pages, the version of its schema, and more.  A file that was
vacuumed, or replaced by a backup, has another header or another generation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final, Self

import attrs

from .schema import APPLICATION_ID, MAGIC, VERSION_BITS
from .wal_format import FILE_HEADER, SALTS, first_frame

USER_VERSION: Final = 60  # its offset in a file; `application_id` is eight bytes later
MOST: Final = 2**22 - 1  # the last generation; then they begin anew

_INCOMPLETE: Final = 1 << 8
_SHIFT: Final = 9
_TAIL: Final = b"\xffskycore-wal"  # 0xff is in no text
TAIL: Final = len(_TAIL) + 8  # bytes

# The fields of a header that the beginning of a log changes: the number of changes, twice, the
# version of SQLite, and `user_version`.
_CHANGED: Final = (slice(24, 28), slice(60, 64), slice(68, 72), slice(92, 100))
_MARKED: Final = (slice(60, 64),)


@attrs.frozen(kw_only=True)
class FileState:
    """What a file says about itself in `user_version`."""

    version: int = 0
    generation: int = 0
    is_incomplete: bool = False

    @classmethod
    def of(cls, user_version: int) -> Self:
        """Return the state that this `user_version` says."""
        return cls(
            version=user_version & VERSION_BITS,
            generation=user_version >> _SHIFT & MOST,
            is_incomplete=bool(user_version & _INCOMPLETE),
        )

    @classmethod
    def in_header(cls, header: bytes) -> Self:
        """Return the state in the first bytes of a file, or of its first page."""
        if not is_header(header):
            return cls()
        number, kind = struct.unpack_from(">I4xI", header, USER_VERSION)
        return cls.of(number) if kind == APPLICATION_ID else cls()

    @property
    def user_version(self) -> int:
        """The `user_version` that says this state."""
        return self.version | self.is_incomplete * _INCOMPLETE | self.generation << _SHIFT


def is_header(header: bytes) -> bool:
    """Return whether these are the first bytes of a file of SQLite's."""
    return len(header) >= FILE_HEADER and header.startswith(MAGIC)


def after(generation: int) -> int:
    """Return the generation that follows."""
    return generation + 1 if generation < MOST else 2


def generation_in(log: bytes, *, is_intact: bool = False) -> int | None:
    """Return the generation of a log by its beginning, with the first page.

    None if it has nothing that SQLite would use, and 0 if it begins with another page.  Of one
    that `is_intact` the header of the page is enough.
    """
    found = first_frame(log, is_intact=is_intact)
    if found is None:
        return None
    number, page = found
    return FileState.in_header(page).generation if number == 1 else 0


def rest_after(generation: int) -> int:
    """Return the next generation in which a file is at rest."""
    return after(generation) if generation % 2 else after(after(generation))


def tail_of(log: bytes) -> bytes:
    """Return the tail of a file while the log with this beginning is checkpointed into it."""
    return _TAIL + log[SALTS]


def page_size_of(header: bytes) -> int:
    """Return how many bytes a page of a file has."""
    (size,) = struct.unpack_from(">H", header, 16)
    return 65536 if size == 1 else int(size)


def needed_log(header: bytes, size: int, end: bytes) -> int | bytes | None:
    """Return which log a file is incomplete without, by its generation or its salts.

    `end` has the last bytes of the file, as many as a tail has.  Returns None if it is complete.
    """
    if not is_header(header):
        return None
    if size % page_size_of(header) == TAIL and end.startswith(_TAIL):
        return end[len(_TAIL) :]
    state = FileState.in_header(header)
    return state.generation if state.is_incomplete else None


@attrs.frozen(kw_only=True)
class LogState:
    """A log: its generation, its salts, and the headers that it gave the file."""

    generation: int
    salts: bytes
    headers: Sequence[bytes] = ()


def what_is_wrong(
    name: str, header: bytes, needed: int | bytes | None, log: LogState | None
) -> str | None:
    """Return why a file that needs the log `needed`, or none, does not belong with this log."""
    if log is None:
        return None if needed is None else _NOT_WHOLE.format(name=name)
    if not is_header(header):
        return _NO_FILE.format(name=name)
    generation = FileState.in_header(header).generation
    if not log.generation:
        is_it = needed == log.salts or (needed is None and not generation)
        return None if is_it else _FOREIGN.format(name=name)
    if needed in {None, log.generation, log.salts} and _belongs_to_log(header, needed, log):
        return None
    # A log of the ledger's own does not begin when the file is at rest.
    is_foreign = needed is None and log.generation == generation and not generation % 2
    return (_FOREIGN if is_foreign else _NOT_TOGETHER).format(name=name)


def _belongs_to_log(header: bytes, needed: int | bytes | None, log: LogState) -> bool:
    """Return whether a log gave a file this header, or began right after it."""
    changed = () if needed is None else _MARKED
    if _without(header, changed) in {_without(one, changed) for one in log.headers}:
        return True
    generation = FileState.in_header(header).generation
    if needed is None and generation and log.generation not in {generation, after(generation)}:
        return False
    return _without(header, _CHANGED) == _without(log.headers[0], _CHANGED)


def _without(header: bytes, changed: Iterable[slice]) -> bytes:
    left = bytearray(header)
    for place in changed:
        left[place] = bytes(place.stop - place.start)
    return bytes(left)


_NOT_WHOLE: Final = (
    "{name} is not whole: the file {name}-wal, in which is what was recorded last, is not beside"
    " it. It was copied, moved or restored without it, or that file was lost. Bring it back to its"
    " place beside the ledger, and open it again. Without it, nobody here knows of all that was"
    " sent: what this ledger does not list may have been sent all the same, and Skycore's own"
    " report of messages alone can tell"
)
_NO_FILE: Final = (
    "{name} is missing or empty, and {name}-wal, which has what was recorded last in a ledger of"
    " that name, is there. Bring the file back to its place beside it, and open it again. To begin"
    " a new ledger instead, which knows of nothing that was sent, take another name"
)
_FOREIGN: Final = (
    "{name}-wal was written by another program, which may have {name} open: end that program"
    " first. Where none has, copy both files to a safe place, then open and close {name} once"
    " with SQLite's own shell, which brings {name}-wal into the file. Do not remove that: what was"
    " recorded last may be in it alone"
)
_NOT_TOGETHER: Final = (
    "{name} and {name}-wal do not belong together: one of them is of another ledger, or of another"
    " time, as where a backup was laid over a ledger that was not closed. Nothing was changed."
    " Bring the two together that were beside each other, and open the ledger again. A file"
    " without that log, or with another, does not list all that was sent"
)
