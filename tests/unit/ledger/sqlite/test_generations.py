"""Whether a file and a log belong together: the rules, with bytes alone."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from skycore_async.ledger.sqlite.generations import (
    MOST,
    FileState,
    after,
    frame_size,
    generation_in,
    what_is_wrong,
)
from skycore_async.ledger.sqlite.schema import APPLICATION_ID


def state(generation: int, *, is_incomplete: bool = False) -> FileState:
    return FileState(version=3, generation=generation, is_incomplete=is_incomplete)


EARLIER, COMPLETE, INCOMPLETE = state(0), state(7), state(7, is_incomplete=True)


@pytest.mark.parametrize(
    ("file", "log"),
    [
        *((EARLIER, log) for log in (None, 0, 7)),
        *((COMPLETE, log) for log in (None, 7, 8)),
        (INCOMPLETE, 7),
        (state(MOST), 1),
    ],
)
def test_what_a_crash_can_leave_belongs_together(file: FileState, log: int | None) -> None:
    """Those states, and no others."""
    assert what_is_wrong("x.db", file, log) is None


@pytest.mark.parametrize(
    ("file", "log", "said"),
    [
        (INCOMPLETE, None, "x.db is not whole: the file x.db-wal"),
        *((INCOMPLETE, log, "do not belong together") for log in (6, 8)),
        *((COMPLETE, log, "do not belong together") for log in (6, 9)),
        *((one, 0, "was written by another program") for one in (COMPLETE, INCOMPLETE)),
        (state(MOST), 2, "do not belong together"),
    ],
)
def test_what_does_not_belong_together_is_said(
    file: FileState, log: int | None, said: str
) -> None:
    """A log that is missing, and one of another ledger or of another time."""
    wrong = what_is_wrong("x.db", file, log)
    assert wrong is not None
    assert said in wrong


@pytest.mark.parametrize("one", [EARLIER, COMPLETE, INCOMPLETE, state(MOST, is_incomplete=True)])
def test_a_state_is_one_number(one: FileState) -> None:
    """Which SQLite takes, and which is the version alone where there is no generation."""
    assert FileState.of(one.user_version) == one
    assert 0 <= one.user_version < 2**31
    assert EARLIER.user_version == 3


def test_generations_begin_anew() -> None:
    """None of them is 0, which a file of an earlier version has."""
    assert (after(1), after(MOST - 1), after(MOST)) == (2, MOST, 1)


@pytest.fixture
def files(tmp_path: Path) -> tuple[bytes, bytes]:
    """Return a file, and a log of generation 7 that begins with its first page."""
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {COMPLETE.user_version}")
        connection.execute("COMMIT")
        connection.execute("CREATE TABLE t (x)")
        log = Path(f"{path}-wal").read_bytes()
    return path.read_bytes(), log


def test_what_sqlite_wrote_is_read(files: tuple[bytes, bytes]) -> None:
    """The number in the file's header, and in the first page of the log."""
    file, log = files
    assert FileState.in_header(file) == COMPLETE
    assert generation_in(log) == 7
    assert frame_size(log) == 4096 + 24


def test_a_file_of_another_kind_has_no_state(files: tuple[bytes, bytes]) -> None:
    """A short one, one that is no database, and a database of something else."""
    file, _ = files
    other = bytearray(file)
    other[68] ^= 1
    for one in (b"", file[:99], b"x" * 200, bytes(other)):
        assert FileState.in_header(one) == FileState()


def test_a_log_in_which_sqlite_would_find_nothing_has_no_generation(
    files: tuple[bytes, bytes],
) -> None:
    """Cut off, or with any byte of its beginning changed, as a power cut may leave it."""
    _, log = files
    for length in (0, 31, 32, 56, 4151):
        assert generation_in(log[:length]) is None
    for place in (0, 3, 12, 16, 24, 31, 32, 36, 40, 48, 56, 60, 4000, 4151):
        changed = bytearray(log)
        changed[place] ^= 1
        assert generation_in(bytes(changed)) is None, place


def test_a_log_in_the_other_order_of_bytes_is_read(files: tuple[bytes, bytes]) -> None:
    """Of a machine with the other order, whose checksums are made of it."""
    _, log = files

    def sums(data: bytes, before: tuple[int, int] = (0, 0)) -> tuple[int, int]:
        one, other = before
        for first, second in struct.iter_unpack(">II", data):
            one = (one + first + other) % 2**32
            other = (other + second + one) % 2**32
        return one, other

    header = struct.pack(">I", 0x377F0683) + log[4:24]
    of_header = sums(header)
    of_frame = sums(log[56:4152], sums(log[32:40], of_header))
    made = header + struct.pack(">II", *of_header) + log[32:48] + struct.pack(">II", *of_frame)
    assert generation_in(made + log[56:4152]) == 7


def test_a_log_that_begins_with_another_page_is_of_no_generation(tmp_path: Path) -> None:
    """As one of another program's is, or of an earlier version's."""
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO t VALUES (1)")
        assert generation_in(Path(f"{path}-wal").read_bytes()) == 0
