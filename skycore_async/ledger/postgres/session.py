"""The session of a ledger that is open: its row in the database, by which others know it alive.

Rules:

* It is begun by who has just seen that the tables are of this version, before a migration can
  be: whoever migrates sees either it, or nobody.
* The row is written in the transaction of each group that begins anything, see `under_way`.
"""

from __future__ import annotations

import secrets

from ...postgres.pooler_check import check_durable
from ...postgres.schema import Connection, check
from .statements import ALIVE, END_SESSION, OVER, SESSION
from .under_way import UnderWayAttempts


class LedgerSession:
    """One that is alive for `lease` seconds from when it last said so; used by one thread."""

    def __init__(self, lease: float) -> None:
        # Nobody else's, also where a backup was put back, which would give one out again.
        self.id = secrets.randbits(62)
        self.attempts = UnderWayAttempts()
        self._lease = lease

    def begin(self, connection: Connection) -> None:
        """Write that it is there.

        Raises LedgerError where the tables are of another version by now.
        """
        with connection.transaction():
            check(connection)
            self.write(connection)

    def write(self, connection: Connection) -> None:
        """Write which of its attempts may be under way."""
        connection.execute(SESSION, self._row)

    def stay_alive(self, connection: Connection) -> None:
        """Write that it is alive, too; raises UnfitSession where that may be lost."""
        check_durable(connection.execute(ALIVE, self._row).fetchone())

    def give_up(self, connection: Connection) -> None:
        """Write that it is not alive any more."""
        connection.execute(OVER, (self.id,))

    def end(self, connection: Connection) -> None:
        """Write that it is not there any more."""
        connection.execute(END_SESSION, (self.id,))

    @property
    def _row(self) -> tuple[int, float, int | None]:
        return self.id, self._lease, self.attempts.oldest
