"""A small database in a file that several processes write to: an inbox, a list of opt-outs.

Rules:

* What was committed is on the disk, also after a power cut: `synchronous=EXTRA`, read back.
* Its journal is a rollback journal, and no write-ahead log: several processes write to it, and
  SQLite before 3.51.3 can damage a log that two write to or checkpoint at once.
* Its kind is read at one moment, and where it has none within the transaction that gives it one:
  another program may be making it.  Nothing is written to a file of another kind.
* It is private from its first byte, as it has phone numbers.
* A file that is there is opened by SQLite alone: by POSIX, closing any descriptor of a file drops
  all locks that the process has on it, those of its other connections among them.
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
    """What a file is: by SQLite's `application_id` and version, and what it is made with."""

    application_id: int
    version: int
    tables: tuple[str, ...]
    called: str  # in words: "inbox"


def make_if_missing(path: Path) -> None:
    """Make an empty file where there is none."""
    with suppress(FileExistsError):
        os.close(private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))


def connect(path: str) -> Any:
    """Return a connection that begins and ends transactions where it is told to."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)


def set_up(connection: Any, path: Path, kind: FileKind) -> None:
    """Make what is committed durable, and the tables where there are none.

    Raises LedgerError for a file of another kind, and for one that cannot be made durable.
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
    """Return whether it is empty; LedgerError where it is of another kind."""
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
    """Yield what executes statements that are all committed, or none of them."""
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
    """Raise a LedgerError for what SQLite or the system has to say of a file."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise LedgerError(f"{path}, {called}, cannot be used: {said}{advice}") from error
