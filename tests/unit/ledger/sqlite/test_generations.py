"""Whether a ledger's file and its write-ahead log belong together: the rules, over bytes alone."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from skycore_async.ledger.sqlite.generations import (
    MOST,
    TAIL,
    FileState,
    LogState,
    after,
    generation_in,
    needed_log,
    rest_after,
    tail_of,
    what_is_wrong,
)
from skycore_async.ledger.sqlite.schema import APPLICATION_ID
from skycore_async.ledger.sqlite.wal_format import FILE_HEADER, file_headers, frame_size


def state(generation: int, *, is_incomplete: bool = False) -> FileState:
    return FileState(version=3, generation=generation, is_incomplete=is_incomplete)


EARLIER, COMPLETE, INCOMPLETE = state(0), state(7), state(7, is_incomplete=True)
SALTS = b"saltsalt"


def header(
    one: FileState, *, pages: int = 5, changes: int = 1, definitions: int = 9, wal: int = 2
) -> bytes:
    """Return the header of a file."""
    made = bytearray(FILE_HEADER)
    made[:20] = b"SQLite format 3\x00" + struct.pack(">HBB", 4096, wal, wal)
    struct.pack_into(">IIIII", made, 24, changes, pages, 0, 0, definitions)
    struct.pack_into(">I4xI", made, 60, one.user_version, APPLICATION_ID)
    struct.pack_into(">II", made, 92, changes, 3_040_001)
    return bytes(made)


def mismatch_of(
    file: bytes, log: int | None, *headers: bytes, needed: int | bytes | None = None
) -> str:
    """Return the mismatch of a file with a log of generation `log` that holds these headers."""
    beside = None if log is None else LogState(generation=log, salts=SALTS, headers=headers)
    return what_is_wrong("x.db", file, needed, beside) or "nothing"


# As the log of generation 7 began, when the file had grown in it, and when it was at rest.
BEGUN = header(state(7), changes=2)
GROWN = header(state(7), changes=2, pages=8)
AT_REST = header(state(8), changes=2, pages=8)
LOG = (BEGUN, GROWN, AT_REST)
GROWN_BY_HAND = header(state(6), changes=2, pages=9)


@pytest.mark.parametrize(
    ("file", "log", "headers", "needed"),
    [
        (header(EARLIER), None, (), None),
        (header(EARLIER), 0, (), None),
        (header(EARLIER), 7, LOG, None),  # the first of this version
        (header(EARLIER), 0, (), SALTS),
        (header(COMPLETE), None, (), None),
        (header(state(6)), None, (), None),
        (header(state(6)), 7, LOG, None),  # which had just begun
        (GROWN, 7, LOG, None),  # a part of it was brought into the file, or all
        (AT_REST, 7, LOG, None),
        (header(INCOMPLETE), 7, LOG, 7),
        (header(INCOMPLETE, pages=8, changes=2), 7, LOG, 7),
        (GROWN, 7, LOG, SALTS),
        (header(state(6)), 7, LOG, SALTS),
        (header(state(MOST - 1)), MOST, (header(state(MOST)),), None),
        (b"", None, (), None),  # a new one
    ],
)
def test_states_that_a_crash_can_leave_belong_together(
    file: bytes, log: int | None, headers: tuple[bytes, ...], needed: int | bytes | None
) -> None:
    """A file and log in any state that a crash can leave belong together."""
    assert mismatch_of(file, log, *headers, needed=needed) == "nothing"


@pytest.mark.parametrize(
    ("file", "log", "headers", "needed", "said"),
    [
        (header(INCOMPLETE), None, (), 7, "x.db is not whole: the file x.db-wal"),
        (GROWN, None, (), SALTS, "x.db is not whole"),
        (header(state(9, is_incomplete=True)), 7, LOG, 9, "do not belong together"),
        (GROWN, 7, LOG, b"another.", "do not belong together"),
        (header(state(8)), 7, LOG, None, "do not belong together"),
        (header(state(5)), 7, LOG, None, "do not belong together"),
        (header(state(6), pages=4), 7, LOG, None, "do not belong together"),
        # Vacuumed, by itself or into another file; or written by SQLite's own backup.
        (header(COMPLETE, definitions=10), 7, LOG, None, "do not belong together"),
        (header(COMPLETE, definitions=10, wal=1), 7, LOG, None, "do not belong together"),
        (header(INCOMPLETE, definitions=10), 7, LOG, 7, "do not belong together"),
        (header(COMPLETE, definitions=1), 7, LOG, None, "do not belong together"),
        (header(EARLIER, definitions=1), 7, LOG, None, "do not belong together"),
        (header(COMPLETE), 0, (), None, "was written by another program"),
        (
            header(state(6)),
            6,
            (header(state(6), pages=9),),
            None,
            "was written by another program",
        ),
        (header(INCOMPLETE), 0, (), 7, "was written by another program"),
        (header(EARLIER), 0, (), b"another.", "was written by another program"),
        (b"", 7, LOG, None, "x.db is missing or empty, and x.db-wal"),
        (b"", 0, (), None, "x.db is missing or empty, and x.db-wal"),
    ],
)
def test_a_missing_or_foreign_log_is_described(
    file: bytes,
    log: int | None,
    headers: tuple[bytes, ...],
    needed: int | bytes | None,
    said: str,
) -> None:
    """A log that is missing, of another ledger, time or file is described in the error."""
    assert said in mismatch_of(file, log, *headers, needed=needed)


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_a_file_says_which_log_it_needs(page_size: int) -> None:
    """A file names the log that it needs, by generation in its mark or by salts in its tail."""
    tail = tail_of(b"header of a log " + SALTS + b"checksum")
    assert len(tail) == TAIL
    for one, marked in ((COMPLETE, None), (INCOMPLETE, 7)):
        made = bytearray(header(one))
        made[16:18] = struct.pack(">H", page_size % 65535)
        assert needed_log(bytes(made), 3 * page_size, bytes(TAIL)) == marked
        assert needed_log(bytes(made), 3 * page_size + TAIL, tail) == SALTS
        assert needed_log(bytes(made), 3 * page_size, tail) == marked  # the end of a page
        assert needed_log(bytes(made), 3 * page_size + TAIL, bytes(TAIL)) == marked
    assert needed_log(b"", 0, b"") is None


@pytest.mark.parametrize("one", [EARLIER, COMPLETE, INCOMPLETE, state(MOST, is_incomplete=True)])
def test_a_state_is_one_number(one: FileState) -> None:
    """A file state is one `user_version`, which is the version alone where no generation is."""
    assert FileState.of(one.user_version) == one
    assert 0 <= one.user_version < 2**31
    assert EARLIER.user_version == 3


def test_generations_begin_anew() -> None:
    """Generations wrap around and never become 0; odd means in use and even at rest."""
    assert (after(1), after(2), after(MOST - 1), after(MOST)) == (2, 3, MOST, 2)
    assert (rest_after(1), rest_after(2), rest_after(MOST - 1), rest_after(MOST)) == (2, 4, 2, 2)


def test_the_headers_that_a_file_had_by_a_log_are_found(tmp_path: Path) -> None:
    """The file headers in a log are found, but not those that an older log left behind."""
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for number in range(9):
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
        for statement in ("PRAGMA user_version = 11", "CREATE TABLE t (x)"):
            connection.execute(statement)
        connection.execute("INSERT INTO t VALUES (1)")  # which leaves the first page as it is
        with Path(f"{path}-wal").open("rb") as log:
            found = list(file_headers(log))
    numbers = [struct.unpack_from(">I", one, 60) for one in found]
    assert numbers == [(11,), (11,)]
    assert [len(one) for one in found] == [FILE_HEADER, FILE_HEADER]


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


def test_generation_and_frame_size_are_read_from_real_files(files: tuple[bytes, bytes]) -> None:
    """The generation is read from a file and a log that SQLite wrote."""
    file, log = files
    assert FileState.in_header(file) == COMPLETE
    assert generation_in(log) == 7
    assert frame_size(log) == 4096 + 24


def test_a_file_of_another_kind_has_no_state(files: tuple[bytes, bytes]) -> None:
    """A short file, a text and a database of something else have no state."""
    file, _ = files
    other = bytearray(file)
    other[68] ^= 1
    for one in (b"", file[:99], b"x" * 200, bytes(other)):
        assert FileState.in_header(one) == FileState()


def test_a_log_in_which_sqlite_would_find_nothing_has_no_generation(
    files: tuple[bytes, bytes],
) -> None:
    """A log that is cut off or changed at its beginning has no generation."""
    _, log = files
    for length in (0, 31, 32, 56, 4151):
        assert generation_in(log[:length]) is None
    for place in (0, 3, 12, 16, 24, 31, 32, 36, 40, 48, 56, 60, 4000, 4151):
        changed = bytearray(log)
        changed[place] ^= 1
        assert generation_in(bytes(changed)) is None, place


def test_a_log_that_is_intact_is_known_by_its_first_bytes(files: tuple[bytes, bytes]) -> None:
    """The generation of a log known to be intact is read from its first bytes alone."""
    _, log = files
    assert generation_in(log[:156], is_intact=True) == 7
    for length in (0, 31, 32, 56):
        assert generation_in(log[:length], is_intact=True) is None
    changed = bytearray(log)
    changed[40] ^= 1
    assert generation_in(bytes(changed[:156]), is_intact=True) is None


def test_a_log_in_the_other_order_of_bytes_is_read(files: tuple[bytes, bytes]) -> None:
    """A log of a machine with the other byte order is read."""
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
    """A log that does not begin with the first page has generation 0."""
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO t VALUES (1)")
        assert generation_in(Path(f"{path}-wal").read_bytes()) == 0
