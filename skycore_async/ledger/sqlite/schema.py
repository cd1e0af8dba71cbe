"""The tables in a file: made and migrated by numbered files, and checked before use.

Rules:

* A new file has the tables that all migrations in order lead to.  They are made at once, as read
  from a database in memory that ran the migrations, which would rename and add each column in
  turn.
* Nothing is ever written to a file that is no ledger, or a newer one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache
from importlib import resources
from typing import Any, Final

from ...errors import LedgerError
from ...protocol.tracking_ids import plain

APPLICATION_ID: Final = 0x534B5943  # "SKYC", where SQLite keeps a file's kind
HEADER: Final = 100  # bytes, by the file format of SQLite; as are the next four
MAGIC: Final = b"SQLite format 3\0"  # what a file begins with
_KIND: Final = slice(68, 72)
_PAGE: Final = slice(16, 18)
_LARGEST: Final = 65_536  # bytes of a page, which is written as 1
_OTHER: Final = "is a database of something else, and no ledger"
_IDENTIFY: Final = "INSERT INTO identity VALUES (randomblob(16))"
VERSION_BITS: Final = 0xFF  # of `user_version`; what the others say is in `generations`


@cache
def migrations() -> tuple[str, ...]:
    """Return the scripts that lead from each version to the next, the first from 0 to 1."""
    files = resources.files("skycore_async.ledger.sqlite").joinpath("migrations").iterdir()
    scripts = sorted((file.name, file) for file in files if file.name.endswith(".sql"))
    return tuple(file.read_text("utf-8") for _, file in scripts)


VERSION: Final = len(migrations())
_PLAIN_IDS: Final = 4  # the version from which on tracking ids are in their plain form


def migrate(connection: Any, version: int) -> None:
    """Bring the tables from `version`, 0 for none, up to date; within a transaction."""
    scripts = migrations()
    if version == 0 and (whole := _whole(scripts)):
        for statement in whole:
            connection.execute(statement)
    else:
        _run(connection, scripts, version)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    number = number & ~VERSION_BITS | VERSION
    connection.execute(f"PRAGMA user_version = {number}")


def _run(connection: Any, scripts: Sequence[str], version: int) -> None:
    for number, script in enumerate(scripts[version:], version + 1):
        if number == _PLAIN_IDS:
            _write_spellings(connection)
        for statement in _statements(script):
            connection.execute(statement)


@cache
def _whole(scripts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the statements that make the tables which the scripts lead to.

    There are none if the scripts leave rows in a new file, other than its identity.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        _run(made, scripts, 0)
        made_by = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
        statements = made.execute(made_by).fetchall()
        tables = [name for name, statement in statements if statement.startswith("CREATE TABLE")]
        filled = {
            name for name in tables if made.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()
        }
    if filled != {"identity"}:
        return ()
    return (*(statement for _, statement in statements), _IDENTIFY)


def _write_spellings(connection: Any) -> None:
    """Write the plain form of each tracking id with another spelling: SQLite reads no base64."""
    ids = connection.execute(
        "SELECT tracking_id FROM submissions UNION SELECT tracking_id FROM messages"
        " UNION SELECT tracking_id FROM events"
    ).fetchall()
    connection.execute("CREATE TEMP TABLE spellings (tracking_id TEXT PRIMARY KEY, plain TEXT)")
    for (tracking_id,) in ids:
        if tracking_id is not None and (form := plain(tracking_id)) != tracking_id:
            connection.execute("INSERT INTO spellings VALUES (?, ?)", (tracking_id, form))


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script, as `executescript` would commit first."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):  # and no text or comment goes on after it
            yield statement
            statement = ""


def refuse_other(header: bytes, size: int, name: str) -> None:
    """Raise LedgerError if a file with that header surely is no ledger, without opening it.

    A file of a single page without an application id may be a ledger that is just being made.
    """
    if not header:
        return
    if not header.startswith(MAGIC):
        raise LedgerError(f"{name} is no ledger, or is damaged: file is not a database")
    kind, page = (int.from_bytes(header[place], "big") for place in (_KIND, _PAGE))
    if kind != APPLICATION_ID and (kind or size > (_LARGEST if page == 1 else page)):
        raise LedgerError(f"{name} {_OTHER}")


def version_of(connection: Any, name: str) -> int:
    """Return the version of a file's tables, 0 for a new file.

    Raises LedgerError, which calls the file `name`, if it is something else, or a newer ledger.
    """
    (kind,) = connection.execute("PRAGMA application_id").fetchone()
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    version = number & VERSION_BITS
    if kind != APPLICATION_ID:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if kind or number or tables:
            raise LedgerError(f"{name} {_OTHER}")
    if version > VERSION:
        raise LedgerError(
            f"{name} was made by a newer skycore-async (schema {version}, this one knows"
            f" {VERSION}): upgrade with pip install -U skycore-async"
        )
    return int(version)
