"""Where a ledger is: in a file, or in a PostgreSQL database that many processes share.

Rules:

* A ledger to read must exist: a misspelt name creates nothing.
* A file that another process has open is read all the same.
* A DSN may contain a password: the name of the database is shown in its place.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from ...ledger.base import BaseLedger
from ...ledger.sqlite.ledger import SQLiteLedger
from ...ledger.sqlite.opt_out_list import name_of_file
from ...ledger.sqlite.read_only import looked_at
from ...receiving.inbox import PostbackInbox
from ...runtime.secret import Secret
from .dsn import is_dsn
from .output import NO_STREAM, fail

if TYPE_CHECKING:
    from ...campaigns.progress import CampaignProgress
    from .database import LedgerDatabase

# Of the names of the files that are a ledger's own.
_ENDINGS: Final = ("", "-lock", "-wal", "-shm", "-inbox", "-inbox-journal")


class LedgerFile:
    """A ledger in a file, which one process at a time can write to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = self.argument = str(path)
        self.title = path.name
        self.full_name = name_of_file(path)
        self.page = path.with_suffix(".html").name if path.name else "report.html"

    def to_write(self) -> SQLiteLedger:
        """Return the ledger to open and write to; its file is created on opening."""
        if self._path.is_dir():
            fail(f"{self.name} is a directory, and no ledger: name a file")
        return SQLiteLedger(self._path)

    def to_receive(self) -> PostbackInbox:
        """Return what takes postbacks in for the ledger, whichever process has its file open."""
        if self._path.is_dir():
            fail(f"{self.name} is a directory, and no ledger: name a file")
        return PostbackInbox(self._path)

    def to_read(self) -> AbstractAsyncContextManager[BaseLedger]:
        """Return the ledger to open and read; fail where the file does not exist."""
        self.check()
        return looked_at(self._path)

    def version(self) -> object:
        """Return a value that changes when the file, or one that belongs to it, is written."""
        found: list[object] = []
        for ending in _ENDINGS:
            with suppress(OSError):
                status = Path(f"{self._path.resolve()}{ending}").stat()
                found += [ending, status.st_ino, status.st_size, status.st_mtime_ns]
        return found

    def check(self) -> None:
        """Fail where there is nothing to read."""
        if not self._path.exists():
            fail(
                f"{self.name}: there is no such file; name the one that --ledger named, or that"
                " `skycore bulk` made beside its recipients, as promo.db for promo.csv"
            )
        if not self._path.is_file():
            fail(f"{self.name} is no file, and no ledger")
        if not self._path.stat().st_size:
            # Opening an empty file would make it a ledger.
            fail(f"{self.name} is empty, and no ledger")

    def holds(self, path: Path) -> bool:
        """Return whether a file belongs to the ledger."""
        own = {f"{self._path.resolve()}{ending}" for ending in _ENDINGS}
        return str(path.resolve()) in own

    def campaigns(self) -> list[CampaignProgress] | None:
        """Return None: a file has no campaigns."""
        return None


LedgerTarget: TypeAlias = "LedgerFile | LedgerDatabase"


def ledger_target(path_or_dsn: Secret) -> LedgerTarget:
    """Return the ledger that a path or a DSN names; fail where it is neither."""
    if not path_or_dsn.reveal():
        fail("name the ledger: a file, or a database as postgresql://host/database")
    if path_or_dsn.reveal() == "-":
        fail(f"the ledger -: {NO_STREAM}")
    if is_dsn(path_or_dsn.reveal()):
        from .database import LedgerDatabase  # noqa: PLC0415 - the extra `postgres`

        return LedgerDatabase(path_or_dsn)
    return LedgerFile(Path(path_or_dsn.reveal()))
