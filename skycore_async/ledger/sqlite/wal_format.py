"""The bytes of SQLite's write-ahead log, as its file format describes them.

Strategy: a log is a header and frames, each with a page of the file as a transaction left
it.  Frames of an older log, which is written over from its beginning, have other salts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO, Final

HEADER: Final = 32  # bytes
SALTS: Final = slice(16, 24)  # of the header; each frame has them as well
FILE_HEADER: Final = 100  # bytes at the beginning of the first page, which are the file's header

INDEX_HEADERS: Final = 96  # bytes at the beginning of a log's index: its header, twice

_FRAME_HEADER: Final = 24
_SUMS: Final = 16  # where the checksums are in the header of a frame
_TWO_SUMS: Final = struct.Struct(">II")
_INDEX_HEADER: Final = struct.Struct("=14xHI4xII")  # size of a page, frames, the last one's sums
_LONGEST_PAGE: Final = 65536
BEGUN: Final = HEADER + _FRAME_HEADER  # bytes before the first page in a log
BEGINNING: Final = BEGUN + _LONGEST_PAGE  # bytes that have the first frame
_ORDERS: Final = {0x377F0682: "<", 0x377F0683: ">"}  # of bytes in checksums, by the magic number


def frame_size(log: bytes) -> int:
    """Return how many bytes a page takes in a log that begins so."""
    (page_size,) = struct.unpack_from(">I", log, 8)
    return _FRAME_HEADER + int(page_size)


def last_frame(index: bytes) -> tuple[int, bytes] | None:
    """Return where in a log the checksums of its last frame are, and these; None for no frame.

    `index` are the headers of its index, in this machine's order of bytes.  They differ while
    another program writes.
    """
    half = INDEX_HEADERS // 2
    if index[:half] != index[half:] or len(index) < INDEX_HEADERS:
        return None
    page_size, frames, *sums = _INDEX_HEADER.unpack_from(index)
    if not frames:
        return None
    size = _FRAME_HEADER + (_LONGEST_PAGE if page_size == 1 else page_size)
    return HEADER + (frames - 1) * size + _SUMS, _TWO_SUMS.pack(*sums)


def first_frame(log: bytes, *, is_intact: bool = False) -> tuple[int, bytes] | None:
    """Return the number and the content of the first page in a log that begins so.

    None if it has nothing that SQLite would use.  Where it `is_intact`, as SQLite has just
    written it, its checksums are not looked at, and a part of the page is enough.
    """
    if len(log) < HEADER:
        return None
    magic, page_size = struct.unpack_from(">I4xI", log)
    frame, page = log[HEADER:BEGUN], log[BEGUN : BEGUN + page_size]
    if magic not in _ORDERS or not page or frame[8:16] != log[SALTS]:
        return None
    if not is_intact and not _is_intact(log, frame, page, page_size, _ORDERS[magic]):
        return None
    (number,) = struct.unpack_from(">I", frame)
    return number, page


def _is_intact(log: bytes, frame: bytes, page: bytes, page_size: int, order: str) -> bool:
    sums = _checksum(log[:24], order, (0, 0))
    if struct.pack(">II", *sums) != log[24:HEADER] or len(page) < page_size:
        return False
    sums = _checksum(page, order, _checksum(frame[:8], order, sums))
    return frame[16:24] == struct.pack(">II", *sums)


def _checksum(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """Return SQLite's checksum of a log, which goes on from one piece to the next."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


def file_headers(log: IO[bytes]) -> Iterator[bytes]:
    """Return the headers that the file had by each of the transactions that wrote it."""
    log.seek(0)
    header = log.read(HEADER)
    size, place = frame_size(header), HEADER
    while True:
        log.seek(place)
        frame = log.read(_FRAME_HEADER + FILE_HEADER)
        if len(frame) < _FRAME_HEADER + FILE_HEADER or frame[8:16] != header[SALTS]:
            return
        if frame[:4] == b"\0\0\0\1":
            yield frame[_FRAME_HEADER:]
        place += size
