"""The lock of the process that settles the doubts in a database by reports.

Rules:

* It belongs to a connection of its own, and ends with it, however that ends.  The server may
  notice that late, so the lock is released before the connection is closed.
* If the caller is cancelled while the connection is made, a thread may still take the lock: it is
  released, too.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import psycopg

from ...errors import LedgerError, LedgerInUse
from ...postgres.connection import Database, cleaned, describe_error
from ...postgres.schema import Connection
from ...runtime.one_thread import OneThread

_SETTLING: Final = 0x534B5945  # "SKYE"


class SettlingLock:
    """The lock in a database: `take` it, and `release` it in any case."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = OneThread()
        self._connection: Connection | None = None

    async def take(self) -> None:
        """Take it; raises LedgerInUse if another process has it."""
        await self._threads.run(self._take)

    async def release(self) -> None:
        """Release it if it was taken, even if the caller of `take` was cancelled."""
        await self._threads.close(self._release, interrupt=lambda: None)

    def _take(self) -> None:
        name = self._database.name
        try:
            connection = self._database.connect()
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_SETTLING,)).fetchone()
        except psycopg.Error as error:
            raise LedgerError(f"{name}: {describe_error(error)}") from cleaned(error)
        if row != (True,):
            connection.close()
            raise LedgerInUse(
                f"{name}: its doubts are being settled by another process: wait for that"
            )
        self._connection = connection

    def _release(self) -> None:
        if self._connection is not None:
            # If the connection broke, the lock is released by that.
            with self._connection, suppress(psycopg.Error):
                self._connection.execute("SELECT pg_advisory_unlock(%s)", (_SETTLING,))
