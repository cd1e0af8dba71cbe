"""Detects that a backup was put back into an open ledger by SQLite's own means, as by `.restore`.

Strategy: each message that is begun gets a later turn than all messages before.  This process
remembers the last turn that it wrote to the disk; a file whose last turn is earlier has forgotten
what was sent since.  The statements that begin messages read the last turn, so a backup is
detected before any of these messages is sent.  The same goes for the number that opted out, or in,
last: its entry is looked for once another program has written to the file.

Rules:

* From then on no message is begun until the ledger is opened again: it may have been sent already.
* Outcomes and postbacks are still recorded: the file is still a ledger, and the provider does not
  repeat a postback for ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from ...errors import LedgerError
from ...runtime.logs import log
from ..columns import OPT_OUT
from ..commands import Begin, PendingCommand

_LAST_OF_ALL: Final = f"SELECT {OPT_OUT.listed} FROM opt_outs ORDER BY at DESC LIMIT 1"
_ENTRY: Final = f"SELECT {OPT_OUT.listed} FROM opt_outs WHERE number = ?"


class PutBackError(Exception):
    """An earlier state of the ledger is in the file."""


class LastTurn:
    """The last turn of the messages that were begun, and who opted out last; used by one thread.

    `execute` executes a statement.
    """

    def __init__(self, execute: Callable[..., Any]) -> None:
        self._execute = execute
        self._kept = 0  # the last turn on the disk
        self._next = 0  # the last turn once the transaction is committed
        self._refusal: LedgerError | None = None
        self.opted: str | None = None  # whose entry the transaction has changed last
        self._unread: str | None = None  # whose entry is the last on the disk, if it is not known
        self._entry: Any = None  # the last entry on the disk, None for none
        self._version = -1  # another one once other programs have written to the file

    def begin(self, last: int) -> None:
        """Note what a file has that was just opened: messages with turns up to `last`."""
        self._kept = last
        self._entry = self._execute(_LAST_OF_ALL).fetchone()

    def start(self, group: Sequence[PendingCommand]) -> Sequence[PendingCommand]:
        """Return the commands of a group that may run; call it as their transaction begins.

        Raises PutBackError if the last entry of who opted out is not in the file any more.
        """
        self._next, self.opted = self._kept, None  # the last transaction may be rolled back
        if self._refusal is None:
            (version,) = self._execute("PRAGMA data_version").fetchone()
            if version != self._version:
                last = self._entry
                if last and self._execute(_ENTRY, last[:1]).fetchone() != last:
                    raise PutBackError
                self._version = version  # only now: after an error it is looked for again
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
        """Remember the last turn of the transaction, once that is on the disk, and its entry."""
        self._kept = self._next
        if self.opted is not None:
            self._unread, self._entry = self.opted, None
        if self._unread is not None:
            with suppress(sqlite3.Error):  # it is read after the next transaction
                self._entry = self._execute(_ENTRY, (self._unread,)).fetchone()
                self._unread = None

    def refuse_begins(self, name: str) -> None:
        """Refuse to begin messages in the ledger `name` from now on, and log why."""
        self._refusal = LedgerError(_PUT_BACK.format(name=name))
        log.error("%s", self._refusal)


_PUT_BACK: Final = (
    "{name} has forgotten what was sent last, or who opted out last: another program has put an"
    " earlier state of it back while it was open, as SQLite's .restore does. Nothing is begun"
    " before it is opened again. What it does not list may have been sent since, as Skycore's own"
    " report of messages alone can tell"
)
