"""Whether a backup was put back into an open ledger by SQLite's own means, as by `.restore`.

Strategy: what is begun has a turn after all that was begun before.  Which the last one is on the
disk, this process remembers; a file that has an earlier one has forgotten what was sent since.  It
is found out with the very statements that begin messages, and so before any is sent.

Rules:

* Nothing is begun from then on before the ledger is opened again: it may have been sent since.
* What comes is recorded: it is a ledger all the same, and a postback does not come for ever.
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
    """The last turn of all that was begun; used by one thread."""

    def __init__(self) -> None:
        self._kept = 0  # on the disk
        self._next = 0  # as the transaction leaves it
        self._refusal: LedgerError | None = None

    def start(self, group: Sequence[PendingCommand]) -> Sequence[PendingCommand]:
        """Return what of a group may be run, at the beginning of its transaction."""
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
        """Note that messages are begun, up to a turn.

        Raises PutBackError if the last one before them is too early.
        """
        if before < self._kept:
            raise PutBackError
        self._next = max(self._next, last)

    def keep(self) -> None:
        """Remember what the transaction had, once it is on the disk."""
        self._kept = self._next

    def refuse_begins(self, name: str) -> None:
        """Have nothing begun in the ledger `name` any more, and say why."""
        self._refusal = LedgerError(_PUT_BACK.format(name=name))
        log.error("%s", self._refusal)


_PUT_BACK: Final = (
    "{name} has forgotten what was sent last: another program has put an earlier state of it"
    " back while it was open, as SQLite's .restore does. Nothing is begun before it is opened"
    " again. What it does not list may have been sent since, as Skycore's own report of messages"
    " alone can tell"
)
