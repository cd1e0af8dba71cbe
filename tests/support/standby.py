"""A server that takes no writes, as a client finds it that connects in the middle of a failover.

Sessions that begin meanwhile take no writes later either, like connections to a standby when the
primary is back; earlier sessions are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from skycore_async.postgres.schema import Connection

_CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'skycore-async' AND pid <> pg_backend_pid()"
)


@contextmanager
def taking_no_writes(connection: Connection) -> Iterator[None]:
    """Make the server of this connection a standby for all others until the context ends."""
    connection.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
    try:
        connection.execute(_CUT)
        yield
    finally:
        connection.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
