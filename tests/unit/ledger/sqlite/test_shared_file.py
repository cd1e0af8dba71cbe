"""What inbox and list of opt-outs share: a file that many programs write to."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from skycore_async.errors import LedgerError
from skycore_async.ledger.opt_outs import OptOut
from skycore_async.ledger.sqlite import inbox_file, opt_out_list, shared_file
from skycore_async.ledger.sqlite.opt_out_list import OptOutList
from skycore_async.ledger.sqlite.shared_file import (
    FileKind,
    connect,
    make_if_missing,
    set_up,
    transaction,
)

KINDS = {kind.called: kind for kind in (inbox_file.KIND, opt_out_list.KIND)}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> FileKind:
    return KINDS[request.param]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shared.db"


def opened(path: Path, kind: FileKind) -> Any:
    make_if_missing(path)
    connection = connect(str(path))
    try:
        set_up(connection, path, kind)
    except BaseException:
        connection.close()
        raise
    return closing(connection)


def test_each_kind_has_a_number_of_its_own() -> None:
    """Each kind of file has its own application id."""
    assert len({kind.application_id for kind in KINDS.values()}) == len(KINDS)


def test_a_shared_file_syncs_each_commit(path: Path, kind: FileKind) -> None:
    """A shared file has a rollback journal and syncs file and directory at each commit."""
    asked = ("journal_mode", "synchronous", "fullfsync")
    with opened(path, kind) as connection:
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in asked]
    assert found == ["delete", 3, 1]


def test_one_that_cannot_be_made_durable_is_refused(
    path: Path, kind: FileKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared file whose synchronous mode cannot be set is refused."""
    monkeypatch.setattr(shared_file, "_EXTRA", 4)
    with pytest.raises(LedgerError, match="cannot be made durable"):
        opened(path, kind)


def test_somebody_elses_write_ahead_log_is_ended(path: Path, kind: FileKind) -> None:
    """A WAL mode that another program set is set back at the next opening."""
    with opened(path, kind) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with opened(path, kind) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_shared_file_is_private_from_its_first_byte(path: Path, kind: FileKind) -> None:
    """A new shared file has mode 600; an existing one keeps its permissions."""
    before = os.umask(0)
    try:
        make_if_missing(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o640)
        with opened(path, kind):
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE TABLE theirs (a)", "is a database of something else, and no {called}"),
        (f"PRAGMA application_id = {0x534B5943}", "is a database of something else"),
        ("PRAGMA user_version = 7", "is a database of something else"),
        (
            "PRAGMA application_id = {application_id}; PRAGMA user_version = 2",
            "was made by a newer skycore-async: upgrade with",
        ),
    ],
)
def test_a_database_of_another_kind_is_not_changed(
    path: Path, kind: FileKind, statement: str, said: str
) -> None:
    """A database of another kind or of a newer version is refused and not changed."""
    with closing(sqlite3.connect(path)) as theirs:
        theirs.executescript(statement.format(application_id=kind.application_id))
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=said.format(called=kind.called)):
        opened(path, kind)
    assert path.read_bytes() == before


def test_one_that_another_program_is_making_is_waited_for(path: Path, kind: FileKind) -> None:
    """Programs that make a shared file at the same time all open it."""
    others = 4
    together = threading.Barrier(others)
    wrong: list[BaseException] = []

    def make() -> None:
        together.wait()
        try:
            with opened(path, kind):
                pass
        except LedgerError as error:  # pragma: no cover - where it is broken
            wrong.append(error)

    for _ in range(5):
        threads = [threading.Thread(target=make) for _ in range(others)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        path.unlink()
    assert wrong == []


class InterruptedConnection:
    """A connection that lets another program act before each statement."""

    def __init__(self, connection: sqlite3.Connection, between: Iterator[None]) -> None:
        self._connection = connection
        self._between = between

    def execute(self, *statement: Any) -> Any:
        next(self._between, None)
        return self._connection.execute(*statement)


@pytest.mark.parametrize("before", range(7))
def test_one_that_is_made_between_two_statements_is_known(
    path: Path, kind: FileKind, before: int
) -> None:
    """A file that another program makes between two statements is opened."""

    def between() -> Iterator[None]:
        for _ in range(before):
            yield
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
            with suppress(sqlite3.OperationalError):  # it is locked
                set_up(other, path, kind)
            yield

    make_if_missing(path)
    with closing(connect(str(path))) as connection:
        set_up(InterruptedConnection(connection, between()), path, kind)
        assert connection.execute("PRAGMA user_version").fetchone() == (kind.version,)


def test_of_a_transaction_all_or_nothing_is_there(path: Path, kind: FileKind) -> None:
    """An error within a transaction undoes its writes, and is raised."""

    def fail(connection: Any) -> None:
        with transaction(connection) as execute:
            execute("CREATE TABLE mine (a)")
            raise LookupError

    with opened(path, kind) as connection:
        with pytest.raises(LookupError):
            fail(connection)
        assert not connection.in_transaction
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'mine'").fetchall()


WRITING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
try:
    connection.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
else:
    print("it was let in")
"""


def test_a_look_takes_no_lock_of_who_writes(tmp_path: Path) -> None:
    """Reading a shared file does not end the lock of a writer in the same process."""
    shared = OptOutList(tmp_path / "opt-outs.db")
    shared.tell([OptOut(number="15551234888", out=True, at=1.0, stamped=False)])
    with closing(connect(str(shared.path))) as connection, transaction(connection):
        assert shared.count() == 1
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", WRITING, str(shared.path)],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "database is locked\n"
