"""A worker's connection to the database, made again whenever it is lost.

Strategy: a step is a plain function over a connection, called in a thread, one at a time.  If the
database is lost, this waits for it and runs the step again: every step of `chunks` and `campaigns`
can be repeated.

Rules:

* A refusal for missing rights, or for tables of another version, is raised at once, since the
  database would refuse again.  So is a database that was migrated while it was away.
* Waiting for a lock ends after a moment, so that a process that was suspended while it held one
  does not stop the others.
* After `stop_retrying` a lost database is not waited for any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

import anyio
import anyio.to_thread
import psycopg

from ..errors import ConfigurationError, LedgerError
from ..postgres.connection import Database, cleaned, describe_error, refusal
from ..postgres.schema import Connection
from ..runtime.logs import log

P = ParamSpec("P")
T = TypeVar("T")


_LOCK_WAIT: Final = "3s"
# The last one is raised if the server ended a transaction that had been idle for too long.
_LOST: Final = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
_FIRST_PAUSE: Final = 0.2  # seconds, and twice as long each time
_LONGEST_PAUSE: Final = 5.0


class RetryingConnection:
    """Run steps on a separate connection to `database`.

    `on_trouble` is called with what is wrong when the database is lost, and with None when
    it is back.
    """

    def __init__(
        self, database: Database, *, on_trouble: Callable[[str | None], None] = lambda _: None
    ) -> None:
        self._database = database
        self._on_trouble = on_trouble
        self._connection: Connection | None = None
        self._turn = anyio.Lock()
        self._is_last_try = anyio.Event()
        self._in_trouble = False

    async def run(
        self, step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a step, repeatedly until the database has answered, and return its result.

        Raises LedgerError if the database is lost after `stop_retrying`, and ConfigurationError if
        it refuses this step from this worker.
        """
        pause = _FIRST_PAUSE
        while True:
            async with self._turn:
                try:
                    answer = await anyio.to_thread.run_sync(
                        lambda: step(self._connected(), *args, **kwargs)
                    )
                except _LOST as error:
                    self._trouble(error)
                except psycopg.Error as error:
                    refused = refusal(self._database.name, error)
                    if refused is None:
                        raise
                    raise refused from cleaned(error)
                else:
                    self._end_trouble()
                    return answer
            with anyio.move_on_after(pause):
                await self._is_last_try.wait()
            pause = min(2 * pause, _LONGEST_PAUSE)

    def stop_retrying(self) -> None:
        """Stop waiting for a lost database."""
        self._is_last_try.set()

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await anyio.to_thread.run_sync(self._connection.close)

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            try:
                self._connection = self._database.connect_again()
            except LedgerError as error:
                raise ConfigurationError(str(error)) from error
            self._connection.execute(f"SET lock_timeout = '{_LOCK_WAIT}'")
        return self._connection

    def _trouble(self, error: psycopg.Error) -> None:
        said = f"{self._database.name}: {describe_error(error)}"
        if self._is_last_try.is_set():
            raise LedgerError(said) from cleaned(error)
        if not self._in_trouble:
            log.warning("%s", said)
            self._on_trouble(said)
        self._in_trouble = True

    def _end_trouble(self) -> None:
        if self._in_trouble:
            self._in_trouble = False
            self._on_trouble(None)
