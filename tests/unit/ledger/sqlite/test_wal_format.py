"""The bytes of SQLite's write-ahead log and of its index."""

from __future__ import annotations

import struct

from skycore_async.ledger.sqlite.wal_format import last_frame


def index(*, page_size: int, frames: int) -> bytes:
    header = struct.pack("=14xHIIII", page_size, frames, 0, 0x01020304, 0x05060708)
    return header.ljust(48, b"\0") * 2


def test_the_last_frame_of_a_log_stands_in_its_index() -> None:
    """Its checksums are in the log with the first byte first; a page of 65536 is written as 1."""
    sums = b"\1\2\3\4\5\6\7\x08"
    assert last_frame(index(page_size=4096, frames=1)) == (32 + 16, sums)
    assert last_frame(index(page_size=4096, frames=3)) == (32 + 2 * (24 + 4096) + 16, sums)
    assert last_frame(index(page_size=1, frames=2)) == (32 + 24 + 65536 + 16, sums)


def test_there_is_no_last_frame_in_an_empty_log_or_in_half_an_index() -> None:
    """Another program may just be writing it."""
    written = index(page_size=4096, frames=3)
    assert last_frame(index(page_size=4096, frames=0)) is None
    assert last_frame(written[:48] + index(page_size=4096, frames=4)[48:]) is None
    assert last_frame(written[:48]) is None
    assert last_frame(b"") is None
