"""The session of a ledger that is open: its row in the database, by which others know it alive.

Rules:

* It is begun by who has just seen that the tables are of this version, before a migration can
  be: whoever migrates sees either it, or nobody.
* The row is written in the transaction of each group that begins anything, see `under_way`.
* What it has on the disk of that, this process remembers.  A database that has less of it, once a
  lost connection is made again, has forgotten what was sent since, and would have it sent again:
  a backup was put back, or a standby took over that lagged.  All its campaigns are halted then,
  and nothing else is begun from here before the ledger is opened again.  What comes is recorded.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import psycopg

from ...errors import LedgerError
from ...postgres.pooler_check import check_durable
from ...postgres.schema import Connection, check
from ...runtime.logs import log
from ..commands import Begin
from .statements import ALIVE, END_SESSION, HALT_ALL, OVER, SESSION, SESSION_IS
from .under_way import UnderWayAttempts

FORGOTTEN: Final = (
    "the database has forgotten what was sent last: a backup was put back, or a standby took over"
    " that lagged"
)
WHY_HALTED: Final = (
    f"{FORGOTTEN}. Resumed, it would send that again: cancel it, and send what is left of it under"
    " another name, without the numbers in Skycore's report of what was sent since"
)


Written = tuple[float, int | None]  # until when it is alive, and its oldest attempt


class LedgerSession:
    """One that is alive for `lease` seconds from when it last said so; used by one thread.

    `name` is the database's.
    """

    def __init__(self, lease: float, *, name: str) -> None:
        # Nobody else's, also where a backup was put back, which would give one out again.
        self.id = secrets.randbits(62)
        self.attempts = UnderWayAttempts()
        self._lease = lease
        self._said = f"{name}: {FORGOTTEN}"
        self._has_forgotten = False
        self._kept: Written = (-math.inf, None)

    def begin(self, connection: Connection) -> None:
        """Write that it is there.

        Raises LedgerError where the tables are of another version by now.
        """
        with connection.transaction():
            check(connection)
            written = self.write(connection)
        self.committed(written)

    def write(self, connection: Connection) -> Written:
        """Write which of its attempts may be under way, and return what is written."""
        return self._write(connection, SESSION)[1]

    def stay_alive(self, connection: Connection) -> Written:
        """Write that it is alive, too; raises UnfitSession where that may be lost."""
        durability, written = self._write(connection, ALIVE)
        check_durable((durability,))
        return written

    def committed(self, written: Written | None) -> None:
        """Remember what is on the disk now."""
        self._kept = written or self._kept

    def compare(self, connection: Connection) -> None:
        """Hold against a database, to which the connection was lost, what it had of this.

        Raises LedgerError where it has less, once its campaigns are halted.
        """
        found = connection.execute(SESSION_IS, (self.id,)).fetchone()
        if found is not None and not self._is_of_before(*found):
            return
        self._has_forgotten = True
        # Who has no right to them halts none, as who takes postbacks in alone.
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute(HALT_ALL, (WHY_HALTED,))
        self.committed(self.write(connection))
        log.error("%s; all its campaigns are halted", self._said)
        raise LedgerError(self._said)

    def check(self, command: Begin) -> None:
        """Raise LedgerError for a message of no campaign, where the database has forgotten any."""
        if self._has_forgotten and command.fence is None:
            raise LedgerError(
                f"{self._said}; nothing is begun before the ledger is opened again, as it may have"
                " been sent since"
            )

    def end(self, connection: Connection, interrupt: Callable[[], object]) -> None:
        """End it; `interrupt` has what is under way, and nobody is left to tell of, in doubt."""
        with connection.transaction():
            if self.attempts:
                connection.execute(OVER, (self.id,))
                interrupt()
            connection.execute(END_SESSION, (self.id,))

    def _write(self, connection: Connection, statement: str) -> tuple[str, Written]:
        oldest = self.attempts.oldest
        execute: Any = connection.execute
        durability, alive_until = execute(statement, (self.id, self._lease, oldest)).fetchone()
        return durability, (alive_until, oldest)

    def _is_of_before(self, alive_until: float, oldest: int | None) -> bool:
        """Return whether a row is older than what is known to be on the disk."""
        kept_until, kept_oldest = self._kept
        # Others take the number away, once they have seen to what was under way.
        is_behind = None not in {oldest, kept_oldest} and (oldest or 0) < (kept_oldest or 0)
        return alive_until < kept_until or is_behind
