"""Take postbacks into a ledger's file from the inbox beside it, each once.

Strategy: `next` reads some postbacks, the ledger records them as one command, and `taken` removes
them from the inbox.

Rules:

* What is removed from the inbox is on the disk in the ledger.  What is in both is recorded again,
  which changes nothing.  So a crash loses and repeats nothing, and neither does an inbox that is
  restored from a backup, whose ids then come a second time.
* Postbacks count from when they came, not from when they are taken in.
* Postbacks for another ledger are never taken in, and that is an error: see `claim_of`.
"""

from __future__ import annotations

import enum
import threading
from pathlib import Path
from typing import Any

import attrs

from ...errors import LedgerError
from ..commands import LedgerCommand, PendingCommand
from ..execution import CommandExecutor
from .inbox_file import InboxFile, KeptPostback


@attrs.frozen(kw_only=True)
class TakeIn(LedgerCommand[None]):
    """Record postbacks of an inbox; `is_all` if there were no more when they were read."""

    postbacks: tuple[KeptPostback, ...]
    is_all: bool = False

    @property
    def last(self) -> int:
        """The id of the last of them."""
        return self.postbacks[-1].id


class Claim(enum.Enum):
    """What a ledger may do with an inbox beside it."""

    TAKE = enum.auto()
    MAKE_IT_OURS = enum.auto()
    LEAVE = enum.auto()


def claim_of(ledger: bytes, *, claimed_by: bytes | None, is_empty: bool) -> Claim:
    """Return what a ledger may do with an inbox that one ledger has claimed, or none."""
    if claimed_by == ledger:
        return Claim.TAKE
    return Claim.MAKE_IT_OURS if claimed_by is None or is_empty else Claim.LEAVE


class TakingExecutor(CommandExecutor):
    """Run commands over a ledger's file, which has an inbox beside it."""

    def _run_one(self, pending: PendingCommand, command: LedgerCommand[object]) -> None:
        if not isinstance(command, TakeIn):
            super()._run_one(pending, command)
            return
        with pending:
            kept = (
                (each, postback.received)
                for postback in command.postbacks
                for each in postback.notifications()
            )
            self._record(kept, were_kept=True)


class InboxTaker:
    """Take postbacks for the ledger at `path`, whose identity is `ledger`, from its inbox.

    Errors call the ledger `name`.
    """

    def __init__(self, path: Path, *, name: str, ledger: bytes) -> None:
        self._file = InboxFile(path)
        self._name = name
        self._ledger = ledger
        self._turn = threading.Lock()

    @classmethod
    def over(cls, connection: Any, path: Path, *, name: str) -> InboxTaker:
        """Return that of an open ledger; `connection` is to its tables."""
        (ledger,) = connection.execute("SELECT ledger FROM identity").fetchone()
        return cls(path, name=name, ledger=ledger)

    def is_there(self) -> bool:
        """Return whether there may be anything to take in; it only checks for the file."""
        return self._file.exists()

    def next(self) -> TakeIn | None:
        """Return the command that records the next postbacks; None if there are none.

        Raises LedgerError if the inbox cannot be read, or has postbacks for another ledger.
        """
        with self._turn:
            if not self._file.open_if_there():
                return None
            self._claim()
            postbacks, is_all = self._file.read()
            if not postbacks:
                return None
            return TakeIn(postbacks=tuple(postbacks), is_all=is_all)

    def taken(self, command: TakeIn) -> None:
        """Remove from the inbox what a command has recorded."""
        with self._turn:
            self._file.remove(command.last)

    def rewrite(self) -> None:
        """Rewrite the inbox, so that what was removed from it is gone."""
        with self._turn:
            if self._file.open_if_there():
                self._file.rewrite()

    def close(self) -> None:
        """Close the inbox."""
        with self._turn:
            self._file.close()

    def _claim(self) -> None:
        claimed_by = self._file.claimed_by()
        claim = claim_of(self._ledger, claimed_by=claimed_by, is_empty=self._file.is_empty())
        if claim is Claim.LEAVE or (
            claim is Claim.MAKE_IT_OURS and not self._file.give_to(self._ledger)
        ):
            raise LedgerError(
                f"{self._file.path} has postbacks for another ledger that was called"
                f" {self._name}: {self._file.count():,} of them, and none is taken in here. Move"
                " it to that ledger, with the name that it has there and -inbox behind it; or,"
                " where that ledger is gone for good, remove it"
            )
