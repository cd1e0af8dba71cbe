"""Whether a connection is one session of the server, or a pooler gives it now this, now that.

Strategy: a pooler names a process of its own to whoever connects, and the server names the
one that serves the session.  Where they are the same there is no pooler.  Where they are
not, two connections are compared: as long as a session is its connection's alone, no two
have the same one, and none has two.

Rules:

* A pooler that keeps sessions, as PgBouncer does with `pool_mode = session`, is fine.
* Where a second connection cannot be had, or gets no session in time, nothing is proven:
  such a pooler has given out all that it has, the first one's among them.
* A session that a pooler keeps may have been somebody else's before, and not every pooler cleans
  it: what they set, prepared or locked is discarded.
* What was set is read back: whatever it is that resets it, what is committed is on the
  disk, or is not committed.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, Final

import psycopg
from psycopg.pq import ExecStatus

# Seconds before each query of a round: a pooler may hand an answer on before it has the session
# back, and have another take its place meanwhile.
_PAUSES: Final = (0.0, 0.02, 0.1)
_WAIT: Final = 2.0  # seconds for the second connection to get a session
# Under these what is committed is on the server's disk, and on that of a synchronous standby.
_DURABLE: Final = frozenset({"on", "remote_apply"})
_PROCESS: Final = "SELECT pg_backend_pid()"
_CLEAN: Final = "DISCARD ALL"


class UnfitSession(psycopg.OperationalError):
    """The connection does not keep what it is set to, so that nothing is safe over it."""


def check_session(
    connection: psycopg.Connection[Any], connect: Callable[[], psycopg.Connection[Any]]
) -> None:
    """Raise UnfitSession where a pooler in between keeps no sessions; `connect` makes another.

    What others left in a session that a pooler keeps is discarded.
    """
    first = _process(connection)
    if first == connection.info.backend_pid:
        return
    if _is_shared(connection, first, connect):
        raise UnfitSession(
            "a pooler in between gives each transaction to another session of the server, as"
            " PgBouncer does with pool_mode = transaction or statement, so that settings, locks"
            " and prepared statements are lost or others': connect to the server itself, or with"
            " pool_mode = session"
        )
    # By itself, as it cannot be in a transaction, which several statements at once are.
    connection.execute(_CLEAN, prepare=False)


def check_durable(found: tuple[Any, ...] | None) -> None:
    """Raise UnfitSession unless `synchronous_commit`, as it was read, keeps what is committed."""
    if found is None or found[0] not in _DURABLE:
        raise UnfitSession(
            "synchronous_commit was set to on, and is not any more: something in between resets"
            " it, and what is committed could be lost; connect to the server itself"
        )


def _is_shared(
    connection: psycopg.Connection[Any],
    first: int,
    connect: Callable[[], psycopg.Connection[Any]],
) -> bool:
    """Return whether the server's process `first` serves another connection, too."""
    try:
        other = connect()
    except psycopg.Error:
        return False
    with closing(other):
        for pause in _PAUSES:
            time.sleep(pause)
            second = _process_in_time(other)
            if second is None:
                return False
            time.sleep(pause)
            if second == first or _process(connection) != first:
                return True
    return False


def _process(connection: psycopg.Connection[Any]) -> int:
    """Return the server's process that serves a connection."""
    (process,) = connection.execute(_PROCESS, prepare=False).fetchone() or (0,)
    return int(process)


def _process_in_time(connection: psycopg.Connection[Any]) -> int | None:
    """Return the server's process that serves a connection; None where none does in time."""
    pgconn, found, until = connection.pgconn, None, time.monotonic() + _WAIT
    with selectors.DefaultSelector() as selector, suppress(psycopg.Error):  # it was lost
        selector.register(pgconn.socket, selectors.EVENT_READ)
        pgconn.send_query(_PROCESS.encode())
        while True:
            if pgconn.is_busy():  # so that asking for a result would wait without an end
                if not selector.select(max(0.0, until - time.monotonic())):
                    return None
                pgconn.consume_input()
            elif (result := pgconn.get_result()) is None:
                return found
            elif result.status == ExecStatus.TUPLES_OK:
                found = int(result.get_value(0, 0) or 0)
    return None
