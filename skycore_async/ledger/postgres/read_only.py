"""Read a ledger in PostgreSQL without changing it.

Strategy: each query runs in a read-only transaction, over a connection of its own.  There is no
session as senders have, so that a role which may only read is enough, and a standby, too.

Rules:

* What an expired session was sending is in doubt, even if nobody has written so yet; on a standby,
  by what has been replicated.
* All reads of one query see one state.
"""

from __future__ import annotations

from typing import TypeVar

import psycopg

from ...errors import LedgerError
from ...postgres.connection import Database, cleaned, describe_error
from ...postgres.schema import Connection
from ...runtime.one_thread import OneThread
from ..base import BaseLedger
from ..commands import LedgerCommand, Query
from .reader import SEEN_MESSAGES
from .reading_connection import answer_at_once

T = TypeVar("T")


class PostgresLedgerView(BaseLedger):
    """Read the ledger in `database`; a command that would change it raises LedgerError.

    Raises LedgerError if the database cannot be reached or read.
    """

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._threads = OneThread()
        self._connection: Connection | None = None

    async def open(self) -> None:
        """Connect for reading."""
        await self._threads.run(self._connect)

    async def aclose(self) -> None:
        """Disconnect without changing anything."""
        if (connection := self._connection) is not None:
            await self._threads.close(connection.close, interrupt=connection.cancel)

    async def run(self, command: LedgerCommand[T]) -> T:
        """Return the answer to a query."""
        if not isinstance(command, Query):
            raise LedgerError(
                f"{self._database.name} is only looked at here: it can be read, and not be written"
            )
        return await self._threads.run(lambda: self._answered(command))

    def _connect(self) -> None:
        self._connection = self._database.open_to_read()

    def _answered(self, query: Query[T]) -> T:
        if self._connection is None:
            raise LedgerError(f"{self._database.name} is not open: use `async with`")
        try:
            return answer_at_once(self._connection, query, messages=SEEN_MESSAGES)
        except psycopg.Error as error:
            raise LedgerError(
                f"{self._database.name} could not be read: {describe_error(error)}"
            ) from cleaned(error)
