"""A PostgreSQL database, as the commands use it: its name, a connection, and its ledger.

Needs the extra `postgres`.

Rule: a DSN may contain a password, so the database's own name is shown in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ...campaigns.progress import CampaignProgress, is_loaded, progress
from ...errors import CampaignError, ConfigurationError, LedgerError
from ...ledger.postgres.ledger import PostgresLedger
from ...ledger.postgres.read_only import PostgresLedgerView
from ...postgres.connection import Database, advised, describe_error
from ...postgres.schema import Connection
from ...runtime.extras import missing
from ...runtime.secret import Secret
from .output import Exit, fail

try:
    import psycopg
except ImportError as error:
    raise missing("postgres", error) from error

T = TypeVar("T")


def name_of_database(dsn: Secret) -> str:
    """Return the name of the database, without a password; fail where the DSN is invalid."""
    try:
        return Database(dsn.reveal()).name
    except ConfigurationError as error:
        fail(str(error))


def with_connection(
    dsn: Secret,
    step: Callable[[Connection], T],
    *,
    connect: Callable[[Database], Connection] = Database.open,
    advice: str = "",
    rights: str | None = None,
) -> T:
    """Return what `step` does with a connection; end the program where the database fails.

    `advice` says what to do where that is in the middle of it, and `rights` what the step takes,
    where that is more than the use of the tables.
    """
    database: Any = None
    try:
        database = Database(dsn.reveal())
        with connect(database) as connection:
            return step(connection)
    except (CampaignError, ConfigurationError, LedgerError) as error:
        fail(str(error))
    except psycopg.Error as error:
        if rights is not None and isinstance(error, psycopg.errors.InsufficientPrivilege):
            fail(f"{database.name}: {describe_error(error)}; {rights}", Exit.NOT_ALL_WELL)
        fail(f"{database.name}: {advised(error)}{advice}", Exit.NOT_ALL_WELL)


class LedgerDatabase:
    """A ledger in a database, which any number of processes can write to."""

    argument = "DSN"
    page = "report.html"

    def __init__(self, dsn: Secret) -> None:
        self._dsn = dsn
        self.name = self.title = self.full_name = name_of_database(dsn)

    def to_write(self) -> PostgresLedger:
        """Return the ledger to open and write to."""
        return PostgresLedger(self._dsn.reveal())

    def to_receive(self) -> PostgresLedger:
        """Return the ledger itself to take postbacks in, as many processes can have it open."""
        return self.to_write()

    def to_read(self) -> PostgresLedgerView:
        """Return the ledger to open and read; a role that can only read is enough."""
        return PostgresLedgerView(Database(self._dsn.reveal()))

    def version(self) -> object:
        """Return a new value each time: other processes may have written since."""
        return object()

    def check(self) -> None:
        """Fail where the database cannot be read, or does not have the tables."""
        with_connection(self._dsn, lambda _: None, connect=Database.open_to_read)

    def check_to_write(self) -> None:
        """Fail where the database cannot be relied on to keep what is written."""
        with_connection(self._dsn, lambda _: None)

    def holds(self, _path: Path) -> bool:
        """Return False: no file here is the ledger's own."""
        return False

    def has_campaign(self, name: str) -> bool:
        """Return whether a campaign of that name was loaded; fail as `campaigns` does."""
        return with_connection(
            self._dsn, lambda it: is_loaded(it, name), connect=Database.open_to_read
        )

    def campaigns(self) -> list[CampaignProgress]:
        """Return the progress of campaigns; fail where the database cannot be asked."""
        return with_connection(self._dsn, progress, connect=Database.open_to_read)
