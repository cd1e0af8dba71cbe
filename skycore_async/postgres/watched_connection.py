"""A connection on which a commit counts only once a synchronous standby has it.

Strategy: who cancels a commit that waits for its standby, as by pg_cancel_backend, ends the
waiting, and not the commit: it is on this server alone, and the server says so in a warning.
What follows from it would be sent, and after a failover be sent again.  So the connection is
closed, as if it had been lost at the commit: whoever uses it finds out what was written, and
writes on.

Rule: the warning is known by the function of the server's that gives it, as its words are in the
server's language.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

_WAITING: Final = "SyncRepWaitForLSN"


class NotReplicated(psycopg.OperationalError):
    """What was committed is on this server, and not known to be on its standby."""


class WatchedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose transactions raise NotReplicated where the standby may lack them."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._is_replicated = True
        self.add_notice_handler(self._take_note)

    def _take_note(self, notice: psycopg.errors.Diagnostic) -> None:
        self._is_replicated &= notice.source_function != _WAITING

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        """Begin a transaction, or a part of one, and commit it where nothing is raised within."""
        with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction
        if not self._is_replicated:
            self.close()
            raise NotReplicated(
                "the waiting for a synchronous standby was cancelled: what was committed may be on"
                " this server alone"
            )
