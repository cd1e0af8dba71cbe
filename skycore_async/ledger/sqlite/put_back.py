"""Detects that a backup was put back into an open ledger by SQLite's own means, as by `.restore`.

Strategy: each message that is begun gets a later turn than all messages before.  This process
remembers the last turn that it wrote to the disk; a file whose last turn is earlier has forgotten
what was sent since.  The statements that begin messages read the last turn, so a backup is
detected before any of these messages is sent.

Rules:

* From then on no message is begun until the ledger is opened again: it may have been sent already.
* Outcomes and postbacks are still recorded: the file is still a ledger, and the provider does not
  repeat a postback for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...errors import LedgerError
from ...runtime.logs import log
from ..commands import Begin, PendingCommand


class PutBackError(Exception):
    """An earlier state of the ledger is in the file."""


class LastTurn:
    """The last turn of the messages that were begun; used by one thread."""

    def __init__(self) -> None:
        self._kept = 0  # the last turn on the disk
        self._next = 0  # the last turn once the transaction is committed
        self._refusal: LedgerError | None = None

    def start(self, group: Sequence[PendingCommand]) -> Sequence[PendingCommand]:
        """Return the commands of a group that may run; call it as their transaction begins."""
        self._next = self._kept
        if self._refusal is None:
            return group
        others = []
        for pending in group:
            if isinstance(pending.command, Begin):
                pending.error = self._refusal
            else:
                others.append(pending)
        return others

    def take(self, *, before: int, last: int) -> None:
        """Note that messages are begun with turns up to `last`.

        Raises PutBackError if `before`, the last turn in the file, is earlier than it must be.
        """
        if before < self._kept:
            raise PutBackError
        self._next = max(self._next, last)

    def keep(self) -> None:
        """Remember the last turn of the transaction, once that is on the disk."""
        self._kept = self._next

    def refuse_begins(self, name: str) -> None:
        """Refuse to begin messages in the ledger `name` from now on, and log why."""
        self._refusal = LedgerError(_PUT_BACK.format(name=name))
        log.error("%s", self._refusal)


_PUT_BACK: Final = (
    "{name} has forgotten what was sent last: another program has put an earlier state of it"
    " back while it was open, as SQLite's .restore does. Nothing is begun before it is opened"
    " again. What it does not list may have been sent since, as Skycore's own report of messages"
    " alone can tell"
)
