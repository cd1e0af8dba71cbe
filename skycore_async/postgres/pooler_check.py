"""Check that a connection keeps one server session, which some poolers do not.

Strategy: on connecting, a pooler reports a process id of its own, and the server can be asked for
the one that serves the session.  If they are equal, there is no pooler.  If not, two connections
are compared: if each keeps its session, no two share a server process, and none has two.

Rules:

* A pooler that keeps sessions, as PgBouncer does with `pool_mode = session`, is fine.
* If a second connection cannot be made, or gets no session in time, nothing is proven: the pooler
  has given out all its sessions, the first one's among them.
* A pooled session may have been another client's before, and not every pooler cleans it: settings,
  prepared statements and locks of that client are discarded.
* Settings are read back: whatever may reset them, a transaction is on the disk, or is not
  committed.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, Final

import psycopg
from psycopg.pq import ExecStatus

# Seconds before each query of a round: a pooler may pass an answer on before it has the session
# back, and use another session meanwhile.
_PAUSES: Final = (0.0, 0.02, 0.1)
_WAIT: Final = 2.0  # seconds for the second connection to get a session
# With these values committed data is on the disks of the server and a synchronous standby.
_DURABLE: Final = frozenset({"on", "remote_apply"})
PROCESS: Final = "SELECT pg_backend_pid()"
CLEAN: Final = "DISCARD ALL"


class UnfitSession(psycopg.OperationalError):
    """The connection does not keep its settings, so that nothing is safe over it."""


def check_session(
    connection: psycopg.Connection[Any], connect: Callable[[], psycopg.Connection[Any]]
) -> None:
    """Raise UnfitSession if a pooler in between keeps no sessions; `connect` connects again.

    Whatever other clients left in a pooled session is discarded.
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
    # A separate query, since several statements at once are a transaction, which it cannot be in.
    connection.execute(CLEAN, prepare=False)


def check_durable(found: tuple[Any, ...] | None) -> None:
    """Raise UnfitSession unless this value of `synchronous_commit` keeps committed data."""
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
    """Return whether the server process `first` serves another connection, too."""
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
    """Return the server process that serves a connection."""
    (process,) = connection.execute(PROCESS, prepare=False).fetchone() or (0,)
    return int(process)


def _process_in_time(connection: psycopg.Connection[Any]) -> int | None:
    """Return the server process that serves a connection; None if none does in time."""
    pgconn, found, until = connection.pgconn, None, time.monotonic() + _WAIT
    with selectors.DefaultSelector() as selector, suppress(psycopg.Error):  # it was lost
        selector.register(pgconn.socket, selectors.EVENT_READ)
        pgconn.send_query(PROCESS.encode())
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
