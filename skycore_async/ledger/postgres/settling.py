"""The lock of whoever holds the doubts in a database against a sending report.

Rule: it is that of a connection of its own, and ends with it, however that ends.  The server
learns of an end only in its own time, so whoever comes to a good one lets go first.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import psycopg

from ...errors import LedgerError, LedgerInUse
from ...postgres.connection import Database, cleaned, describe_error
from ...postgres.schema import Connection

_SETTLING: Final = 0x534B5945  # "SKYE"


def lock_for_settling(database: Database) -> Connection:
    """Return a connection that holds the lock.

    Raises LedgerInUse where another process has it.
    """
    try:
        connection = database.connect()
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_SETTLING,)).fetchone()
    except psycopg.Error as error:
        raise LedgerError(f"{database.name}: {describe_error(error)}") from cleaned(error)
    if row != (True,):
        connection.close()
        raise LedgerInUse(
            f"{database.name}: its doubts are being settled by another process: wait for that"
        )
    return connection


def unlock(connection: Connection) -> None:
    """Let go of the lock, and close the connection that holds it."""
    with connection, suppress(psycopg.Error):  # of one that broke, which has let go by that
        connection.execute("SELECT pg_advisory_unlock(%s)", (_SETTLING,))
