"""Erase what was removed from a ledger's file and still stands in its free space.

Strategy: VACUUM rewrites the file, through the log like any commit; then the log is checkpointed
and truncated.  The same is done to the inbox beside it, from which postbacks are removed all the
time.

Rules:

* That the file has to be rewritten is committed together with what is removed, and that it was is
  committed afterwards.  So after a crash the next pruning does it.
* If it cannot be rewritten, what was pruned stays pruned, and the error says what is left and what
  to do.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from ...errors import LedgerError
from .inbox_intake import InboxTaker
from .write_ahead_log import WriteAheadLog


def rewrite(connection: Any, log: WriteAheadLog, inbox: InboxTaker, name: str) -> None:
    """Rewrite a ledger's file, if that is needed, and its inbox; call it outside a transaction.

    Raises LedgerError if that cannot be done, or somebody still reads the log.
    """
    try:
        (is_needed,) = connection.execute(
            "SELECT EXISTS (SELECT 1 FROM pruned WHERE to_rewrite)"
        ).fetchone()
        if is_needed:
            connection.execute("VACUUM")
            connection.execute("UPDATE pruned SET to_rewrite = 0")
        is_empty = log.empty()
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(
            f"{name} was pruned, but could not be written anew: {error}. What was pruned is in no"
            " row of it, and may still stand in the free space of its file. That takes as much"
            " room as the file, twice, where it is and where SQLite keeps temporary files"
            " (SQLITE_TMPDIR): make room, and prune it again"
        ) from error
    if not is_empty:
        raise LedgerError(
            f"{name} was pruned, but somebody is reading it: what was pruned may still stand in"
            f" {name}-wal until the ledger is closed. Prune it again when nobody looks at it"
        )
    inbox.rewrite()
