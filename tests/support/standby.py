"""A server as whoever connects in the middle of a failover meets it: it takes no writes.

Sessions that begin meanwhile stay so, as connections to a standby do once the primary is
reached again; those of before are cut.
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
    """Have the server of this connection be a standby to all others, from now until the end."""
    connection.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
    try:
        connection.execute(_CUT)
        yield
    finally:
        connection.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
