"""A connection on which a commit counts only when a synchronous standby has it, too.

Strategy: cancelling a commit that waits for its standby, as by pg_cancel_backend, ends the wait
but not the commit: it is on this server only, and the server says so in a warning.  A message
would be sent on the strength of it, and sent again after a failover.  So the connection is closed,
as if it had been lost at the commit: its user then finds out what was written, and goes on from
there.

Rule: the warning is recognised by the server function that raises it, since its text is in the
server's language.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

_WAITING: Final = "SyncRepWaitForLSN"


class NotReplicated(psycopg.OperationalError):
    """The committed data is on this server, but may not be on its standby."""


class WatchedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose transactions raise NotReplicated if the standby may lack them."""

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
        """Begin a transaction or a savepoint, and commit it if nothing is raised within."""
        with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction
        if not self._is_replicated:
            self.close()
            raise NotReplicated(
                "the waiting for a synchronous standby was cancelled: what was committed may be on"
                " this server alone"
            )
