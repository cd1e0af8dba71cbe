"""Where a ledger is: in a file, or in a PostgreSQL database that many processes share.

Rules:

* What is to be read must be there: a name that is misspelt makes nothing.
* One that is in use is read beside its owner.
* A DSN may hold a password, so that the database's own name is shown in its place.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from .dsn import is_dsn, name_of_database, within
from .output import leave

if TYPE_CHECKING:
    from ...campaigns.progress import CampaignProgress
    from ...ledger.base import BaseLedger
    from ...ledger.postgres.ledger import PostgresLedger
    from ...ledger.sqlite.ledger import SQLiteLedger


class LedgerFile:
    """A ledger in a file, which one process at a time can write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = self.argument = str(path)
        self.title = path.name
        self.page = path.with_suffix(".html").name if path.name else "report.html"

    def ledger(self) -> SQLiteLedger:
        """Return the ledger to open and write, made where there is none, or leave."""
        from ...ledger.sqlite.ledger import SQLiteLedger

        if self._path.is_dir():
            leave(f"{self.name} is a directory, and no ledger")
        return SQLiteLedger(self._path)

    def looked_at(self) -> AbstractAsyncContextManager[BaseLedger]:
        """Return the ledger to read, or leave where there is none."""
        from ...ledger.sqlite.read_only import looked_at

        self.check()
        return looked_at(self._path)

    def check(self) -> None:
        """Leave where there is nothing to read."""
        if not self._path.exists():
            leave(f"{self.name}: there is no such file")
        if not self._path.is_file():
            leave(f"{self.name} is no file, and no ledger")
        if not self._path.stat().st_size:
            # Opening it would make a ledger of it.
            leave(f"{self.name} is empty, and no ledger")

    def holds(self, path: Path) -> bool:
        """Return whether a file is the ledger's own."""
        own = {f"{self._path.resolve()}{ending}" for ending in ("", "-lock", "-wal", "-shm")}
        return str(path.resolve()) in own

    def campaigns(self) -> list[CampaignProgress] | None:
        """Return None: a file has no campaigns."""
        return None


class LedgerDatabase:
    """A ledger in a database, which any number of processes can write."""

    argument = "DSN"
    page = "report.html"

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.name = self.title = name_of_database(dsn)

    def ledger(self) -> PostgresLedger:
        """Return the ledger to open and write."""
        from ...ledger.postgres.ledger import PostgresLedger

        return PostgresLedger(self._dsn)

    def looked_at(self) -> PostgresLedger:
        """Return the ledger to read."""
        return self.ledger()

    def check(self) -> None:
        """Leave it to the opening to say what is wrong."""

    def holds(self, _path: Path) -> bool:
        """Tell that no file here is the ledger's own."""
        return False

    def campaigns(self) -> list[CampaignProgress]:
        """Return how far campaigns are, or leave where the database cannot be asked."""
        from ...campaigns.progress import progress

        return within(self._dsn, progress)


Place = LedgerFile | LedgerDatabase


def place_of(named: str) -> Place:
    """Return the place that a path or a DSN names, or leave where it can be neither."""
    if not named:
        leave("name the ledger: a file, or a database as postgresql://user@host/database")
    return LedgerDatabase(named) if is_dsn(named) else LedgerFile(Path(named))
