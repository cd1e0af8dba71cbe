"""A small database in a file that several processes write to: an inbox, a list of opt-outs.

Rules:

* What was committed is on the disk, even after a power cut: `synchronous=EXTRA`, read back.
* It has a rollback journal and no write-ahead log: several processes write to it, and SQLite
  before 3.51.3 can damage a log that two write to or checkpoint at once.
* Its kind is read in one statement, and set in a transaction that reads it again, as another
  program may be making it.  Nothing is written to a file of another kind.
* It is private from its first byte, as it holds phone numbers.
* Only SQLite opens an existing file: by POSIX, closing any descriptor of a file drops all locks
  that the process has on it, including those of its other connections.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs

from ...errors import LedgerError
from ...runtime.private_files import private

PATIENCE: Final = 5.0  # seconds, while other processes write to it; a receiver waits 8
_EXTRA: Final = 3  # what PRAGMA synchronous calls EXTRA


@attrs.frozen(kw_only=True)
class FileKind:
    """A kind of file: SQLite's `application_id`, its version, and the statements that make it."""

    application_id: int
    version: int
    tables: tuple[str, ...]
    called: str  # in errors, such as "inbox"


def make_if_missing(path: Path) -> None:
    """Make an empty file if there is none."""
    with suppress(FileExistsError):
        os.close(private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))


def connect(path: str) -> Any:
    """Return a connection without implicit transactions."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)


def set_up(connection: Any, path: Path, kind: FileKind) -> None:
    """Make commits durable, and make the tables if there are none.

    Raises LedgerError for a file of another kind, and if commits cannot be made durable.
    """
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA fullfsync = ON")  # macOS has a weaker one by default
    if _ids_of(connection) != (kind.application_id, kind.version):
        with transaction(connection) as execute:
            if _must_be_made(connection, path, kind):
                for statement in kind.tables:
                    execute(statement)
                execute(f"PRAGMA application_id = {kind.application_id}")
                execute(f"PRAGMA user_version = {kind.version}")
    (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if mode != "delete" or synchronous != _EXTRA:
        raise LedgerError(
            f"{path} cannot be made durable: its journal is {mode!r} and not 'delete'; it needs a"
            " disk of this machine"
        )


def _ids_of(connection: Any) -> tuple[int, int]:
    kind, version = connection.execute(
        "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    return kind, version


def _must_be_made(connection: Any, path: Path, kind: FileKind) -> bool:
    """Return whether it is empty; LedgerError if it is of another kind."""
    application_id, version = _ids_of(connection)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id != kind.application_id and (application_id or version or tables):
        raise LedgerError(f"{path} is a database of something else, and no {kind.called}")
    if version > kind.version:
        raise LedgerError(
            f"{path} was made by a newer skycore-async: upgrade with pip install -U skycore-async"
        )
    return not version


@contextmanager
def transaction(connection: Any) -> Iterator[Callable[..., Any]]:
    """Yield a function that executes statements in one transaction, all of them or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection.execute
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite rolls back by itself after some errors
            connection.execute("ROLLBACK")
        raise


@contextmanager
def as_ledger_errors(path: Path, called: str, advice: str = "") -> Iterator[None]:
    """Turn errors of SQLite or the system about a file into LedgerError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise LedgerError(f"{path}, {called}, cannot be used: {said}{advice}") from error
