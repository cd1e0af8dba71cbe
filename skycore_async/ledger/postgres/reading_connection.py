"""A connection that reads a ledger in PostgreSQL beside the one that writes to it.

Strategy: queries about many messages run over a connection of their own, one thread at a time, so
that counting millions of messages delays none that is sent meanwhile.

Rules:

* The connection is made when it is first needed.  It sees everything that was acknowledged before,
  and all reads of one query see one state.
* If it cannot be made, or breaks, the writing connection answers the query; it is made again if it
  is lost, and raises a clear error.
* A cancelled caller leaves at once, although the server goes on; the next query waits for that.
"""

from __future__ import annotations

import threading
from typing import TypeVar

import anyio
import anyio.to_thread
import psycopg

from ...errors import LedgerError
from ...postgres.connection import Database
from ...postgres.formats import one_moment
from ...postgres.schema import Connection
from ..commands import Query
from ..reader import Unreadable
from .reader import PostgresReader

T = TypeVar("T")


def answer_at_once(
    connection: Connection, query: Query[T], *, messages: str = "skycore.messages"
) -> T:
    """Return the answer to a query, of one state of the tables."""
    with one_moment(connection):
        return query.answer(PostgresReader(connection, messages=messages))


class ConnectionBeside:
    """The connection that reads the ledger in `database` while it is open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = threading.Lock()
        # One at a time, so that waiting readers take no threads from others.
        self._readers = anyio.CapacityLimiter(1)
        self._connection: Connection | None = None

    async def answer(self, query: Query[T]) -> T:
        """Return the answer to a query; Unreadable if the writing connection has to answer it."""
        return await anyio.to_thread.run_sync(
            self._answered, query, limiter=self._readers, abandon_on_cancel=True
        )

    def _answered(self, query: Query[T]) -> T:
        with self._turn:
            try:
                if self._connection is None:
                    self._connection = self._database.open_beside()
                return answer_at_once(self._connection, query)
            except (psycopg.Error, LedgerError) as error:
                self._disconnect()
                raise Unreadable from error

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Close it, after a query that is running."""
        with self._turn:
            self._disconnect()
