"""A connection that reads a ledger in PostgreSQL beside the one that writes to it.

Strategy: what is about many messages is asked over a connection of its own, by one thread at a
time, so that a count of millions holds up nothing that is sent meanwhile.

Rules:

* It is made where it is first needed.  It sees all that was acknowledged before, and what one
  question asks is of one moment.
* Where it cannot be had, or breaks, the question is left to the connection that writes, which is
  made again if it is lost, and says what is wrong.
* A cancelled caller leaves at once, though the server answers on; the next question waits for it.
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
    """Return the answer to a question, of one moment."""
    with one_moment(connection):
        return query.answer(PostgresReader(connection, messages=messages))


class ConnectionBeside:
    """What reads the ledger in `database` while it is open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = threading.Lock()
        # Those who wait to read take no threads from others.
        self._readers = anyio.CapacityLimiter(1)
        self._connection: Connection | None = None

    async def answer(self, query: Query[T]) -> T:
        """Return the answer to a question; raises Unreadable where the writer is to answer it."""
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
        """Close it, once the question that is being answered has its answer."""
        with self._turn:
            self._disconnect()
