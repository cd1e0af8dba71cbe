"""Where a ledger is: in a file, or in a PostgreSQL database that many processes share.

Rules:

* A ledger to read must exist: a misspelt name creates nothing.
* A file that another process has open is read all the same.
* A DSN may hold a password: the name of the database is shown in its place.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from .dsn import is_dsn, name_of_database, within
from .output import fail

if TYPE_CHECKING:
    from ...campaigns.progress import CampaignProgress
    from ...ledger.base import BaseLedger
    from ...ledger.postgres.ledger import PostgresLedger
    from ...ledger.sqlite.ledger import SQLiteLedger


class LedgerFile:
    """A ledger in a file, which one process at a time can write to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = self.argument = str(path)
        self.title = path.name
        self.page = path.with_suffix(".html").name if path.name else "report.html"

    def to_write(self) -> SQLiteLedger:
        """Return the ledger to open and write to; its file is created on opening."""
        from ...ledger.sqlite.ledger import SQLiteLedger

        if self._path.is_dir():
            fail(f"{self.name} is a directory, and no ledger")
        return SQLiteLedger(self._path)

    def to_read(self) -> AbstractAsyncContextManager[BaseLedger]:
        """Return the ledger to open and read, or fail where there is none."""
        from ...ledger.sqlite.read_only import looked_at

        self.check()
        return looked_at(self._path)

    def check(self) -> None:
        """Fail where there is nothing to read."""
        if not self._path.exists():
            fail(f"{self.name}: there is no such file")
        if not self._path.is_file():
            fail(f"{self.name} is no file, and no ledger")
        if not self._path.stat().st_size:
            # Opening it would turn it into a ledger.
            fail(f"{self.name} is empty, and no ledger")

    def holds(self, path: Path) -> bool:
        """Return whether a file is the ledger's own."""
        own = {f"{self._path.resolve()}{ending}" for ending in ("", "-lock", "-wal", "-shm")}
        return str(path.resolve()) in own

    def campaigns(self) -> list[CampaignProgress] | None:
        """Return None: a file has no campaigns."""
        return None


class LedgerDatabase:
    """A ledger in a database, which any number of processes can write to."""

    argument = "DSN"
    page = "report.html"

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.name = self.title = name_of_database(dsn)

    def to_write(self) -> PostgresLedger:
        """Return the ledger to open and write to."""
        from ...ledger.postgres.ledger import PostgresLedger

        return PostgresLedger(self._dsn)

    def to_read(self) -> PostgresLedger:
        """Return the ledger to open and read."""
        return self.to_write()

    def check(self) -> None:
        """Do nothing: opening it says what is wrong."""

    def holds(self, _path: Path) -> bool:
        """Return False: no file here is the ledger's own."""
        return False

    def campaigns(self) -> list[CampaignProgress]:
        """Return how far campaigns are, or fail where the database cannot be asked."""
        from ...campaigns.progress import progress

        return within(self._dsn, progress)


LedgerTarget = LedgerFile | LedgerDatabase


def ledger_target(path_or_dsn: str) -> LedgerTarget:
    """Return the ledger that a path or a DSN names, or fail where it is neither."""
    if not path_or_dsn:
        fail("name the ledger: a file, or a database as postgresql://user@host/database")
    if is_dsn(path_or_dsn):
        return LedgerDatabase(path_or_dsn)
    return LedgerFile(Path(path_or_dsn))
