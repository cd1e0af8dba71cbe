"""The session of an open ledger: its row in the database, by which others know that it is alive.

Rules:

* It is begun by who has just seen that the tables are of this version, before a migration can
  be: whoever migrates sees either it, or nobody.
* Who was stopped for longer than it is alive has no say: the tables may be of another version
  once it goes on.  So each sign of life reads that, too, and what is of another is met anew.
* The row is written in the transaction of each group that begins anything, see `under_way`, or
  may take in a STOP, and then is alive for longer.
* Until when it has it alive on the disk, this process remembers.  A database that has less of it
  has forgotten what was sent since, and would have it sent again: a backup was put back, under a
  connection or while it was lost, or a standby took over that lagged.  All campaigns that there
  were are halted then, and nothing else is begun from here before the ledger is opened again.
  What comes is recorded.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import psycopg

from ...errors import LedgerError
from ...postgres.pooler_check import UnfitSession, check_durable
from ...postgres.schema import VERSION, Connection, check
from ...runtime.logs import log
from ..commands import PendingCommand, Record, SetOptOut, TellOptOuts
from .statements import END_SESSION, HALT_ALL, OVER, PUT_SESSION, SESSION, SESSION_IS_KEPT
from .under_way import UnderWayAttempts

FORGOTTEN: Final = (
    "the database has forgotten what was sent last: a backup was put back, or a standby took over"
    " that lagged"
)
WHY_HALTED: Final = (
    f"{FORGOTTEN}. Resumed, it would send that again: cancel it, and send what is left of it under"
    " another name, without the numbers in Skycore's report of what was sent since"
)
_HEARD: Final = (Record, SetOptOut, TellOptOuts)


def is_to_resume(reason: str | None) -> bool:
    """Return whether to advise resuming a campaign that was stopped for this reason."""
    return reason != WHY_HALTED


def may_hear_a_stop(group: Sequence[PendingCommand]) -> bool:
    """Return whether a group may record a STOP, whose loss has to be noticed."""
    return any(isinstance(pending.command, _HEARD) for pending in group)


class _Forgotten(Exception):
    """The session's row is gone, or older than what is known to be on the disk."""


class LedgerSession:
    """A session that is alive for `lease` seconds after each renewal; used by one thread.

    `name` is that of the database.
    """

    def __init__(self, lease: float, *, name: str) -> None:
        # Nobody else's, also where a backup was put back, which would give one out again.
        self.id = secrets.randbits(62)
        self.attempts = UnderWayAttempts()
        self.refusal: str | None = None  # why no message of no campaign is begun, if it is not
        self._lease = lease
        self._said = f"{name}: {FORGOTTEN}"
        self._kept = -math.inf  # until when at least it is alive by what is on the disk
        self._written: float | None = None  # the same, once what is being written is there

    def begin(self, connection: Connection) -> None:
        """Write that it is there.

        Raises LedgerError if the tables are of another version by now.
        """
        with self.transaction(connection):
            check(connection)
            self._write(connection, PUT_SESSION)

    @contextmanager
    def transaction(self, connection: Connection) -> Iterator[None]:
        """Hold a transaction, and remember what it has on the disk then.

        Raises LedgerError if the database has forgotten any, once its campaigns are halted.
        """
        self._written = None
        try:
            with connection.transaction():
                yield
        except _Forgotten:
            self._halt_all(connection)
        if self._written is not None:
            self._kept = self._written

    def write(self, connection: Connection) -> None:
        """Write which of its attempts may be under way, and that it is alive.

        Raises UnfitSession if the tables are of another version by now.
        """
        self._write_again(connection)

    def stay_alive(self, connection: Connection) -> None:
        """Write the same; raises UnfitSession where that may be lost."""
        check_durable((self._write_again(connection),))

    def compare(self, connection: Connection) -> None:
        """Hold against a database, to which the connection was lost, what it had of this.

        Raises LedgerError if it has less, once its campaigns are halted.
        """
        given = {"id": self.id, "kept": self._kept}
        if connection.execute(SESSION_IS_KEPT, given).fetchone() is None:
            self._halt_all(connection)

    def end(self, connection: Connection, interrupt: Callable[[], object]) -> None:
        """End it; `interrupt` has what is under way, and nobody is left to tell of, in doubt."""
        with connection.transaction():
            if self.attempts:
                connection.execute(OVER, (self.id,))
                interrupt()
            connection.execute(END_SESSION, (self.id,))

    def _write_again(self, connection: Connection) -> str:
        durability, version = self._write(connection, SESSION)
        if version != VERSION:
            raise UnfitSession("the tables were migrated meanwhile")
        return durability

    def _write(self, connection: Connection, statement: Any) -> tuple[str, int]:
        """Return what `synchronous_commit` is, and of which version the tables are."""
        given = {"id": self.id, "lease": self._lease, "oldest": self.attempts.oldest}
        row = connection.execute(statement, {**given, "kept": self._kept}).fetchone()
        if row is None:
            raise _Forgotten
        durability, self._written, version = row
        # Either may be there where it is not heard, and the clock may have been set back.
        self._kept = min(self._kept, row[1])
        return durability, version

    def _halt_all(self, connection: Connection) -> NoReturn:
        self.refusal = (
            f"{self._said}; nothing is begun before the ledger is opened again, as it may have"
            " been sent since"
        )
        said = "all its campaigns are halted"
        try:
            connection.execute(HALT_ALL, {"reason": WHY_HALTED, "kept": self._kept})
        except psycopg.errors.InsufficientPrivilege:  # as who takes postbacks in alone
            said = "this user may not halt its campaigns: cancel them before a worker starts"
        with self.transaction(connection):
            self._write(connection, PUT_SESSION)
        log.error("%s; %s", self._said, said)
        raise LedgerError(self._said)
