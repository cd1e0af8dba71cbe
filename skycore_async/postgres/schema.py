"""The tables in PostgreSQL, created and migrated only when the operator asks for it.

Rules:

* Everything is in a separate schema, `skycore`, so that it can share a database.
* Opening a ledger creates and changes nothing: `migrate` does, which `skycore cluster migrate`
  calls.
* New tables are created by all migrations in order, so that they equal migrated ones.
* A process that has the database open relies on the tables as they are: no migration begins while
  it lives.  Asking for the version waits for a migration that is running.
* A submission is what the provider knows by a tracking id.  Whichever comes first, the answer or a
  postback, writes the submission's row, and the other finds it: the row makes them wait for each
  other.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Final

import psycopg

from ..errors import LedgerError

_LOCK: Final = 0x534B59  # "SKY": two that migrate at once do it one after the other
# The first version called them holders.
_ALIVE: Final = """
SELECT count(*), coalesce(ceil(extract(epoch FROM max(alive_until) - now())), 0)::int
FROM skycore.sessions WHERE alive_until > clock_timestamp()
"""

Connection = psycopg.Connection[tuple[Any, ...]]


@cache
def migrations() -> tuple[str, ...]:
    """Return the scripts from each version to the next, the first from no tables to version 1."""
    files = resources.files("skycore_async.postgres").joinpath("migrations").iterdir()
    scripts = sorted((file.name, file) for file in files if file.name.endswith(".sql"))
    return tuple(file.read_text("utf-8") for _, file in scripts)


VERSION: Final = len(migrations())


def version_of(connection: Connection) -> int:
    """Return the version of the schema, 0 if there is none."""
    row = connection.execute("SELECT to_regclass('skycore.version') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return 0
    found = connection.execute("SELECT version FROM skycore.version").fetchone()
    return 0 if found is None else int(found[0])


def migrate(connection: Connection) -> tuple[int, int]:
    """Create the tables, or bring them up to date; return the versions before and after.

    Raises LedgerError if their version is newer than this package knows, or if they would change
    while a process has the database open.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        before = version = version_of(connection)
        _refuse_newer(version)
        if version and version < VERSION:
            _refuse_in_use(connection)
            connection.execute("LOCK TABLE skycore.version")
            _refuse_in_use(connection)  # since who was just opening it was waited for
        if not version:
            connection.execute("CREATE SCHEMA IF NOT EXISTS skycore")
            connection.execute("CREATE TABLE skycore.version (version integer NOT NULL)")
            connection.execute("INSERT INTO skycore.version VALUES (0)")
        for script in migrations()[version:]:
            connection.execute(script)  # pyright: ignore[reportArgumentType, reportCallIssue]
        connection.execute("UPDATE skycore.version SET version = %s", (VERSION,))
    return before, VERSION


def check(connection: Connection) -> None:
    """Raise LedgerError unless the tables exist, in the version that this package knows."""
    version = version_of(connection)
    _refuse_newer(version)
    if version != VERSION:
        found = f"are of schema {version}, and this one needs {VERSION}" if version else "are not"
        where = "" if version else " in this database"
        raise LedgerError(
            f"the tables of skycore-async {found}{where}: run `skycore cluster migrate DSN` once"
        )


def _refuse_in_use(connection: Connection) -> None:
    row = connection.execute("SELECT to_regclass('skycore.sessions') IS NOT NULL").fetchone()
    is_named_so = row is not None and row[0]
    found = connection.execute(_ALIVE if is_named_so else _ALIVE.replace("sessions", "holders"))  # pyright: ignore[reportArgumentType, reportCallIssue]
    alive, seconds = found.fetchone() or (0, 0)
    if alive:
        raise LedgerError(
            f"{alive} of the workers, listeners and services have the database open, and do not"
            " know the new tables: stop them first, or what they have in flight ends in doubt."
            f" If they were killed, wait {seconds} seconds"
        )


def _refuse_newer(version: int) -> None:
    if version > VERSION:
        raise LedgerError(
            f"the tables were made by a newer skycore-async (schema {version}, this one knows"
            f" {VERSION}): upgrade with pip install -U skycore-async"
        )
