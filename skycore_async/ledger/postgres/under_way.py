"""The attempts of a session that may be under way, for its row in the database.

Strategy: an outcome changes no index, so no index tells which messages have none.  Instead the row
of a session has the number of its oldest attempt that may be under way.  To find what a session
was sending, others read its attempts from there on.

Rules:

* An attempt counts from before its intent may be written until after its outcome is, or until it
  is certain that there was no intent.  So the number may be too low, and is never too high.
* The number is written in the transaction of each group that begins anything: a process that took
  the session for dead, and cleared the number, has seen everything before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..commands import Begin, Finish, PendingCommand
from ..model import Attempt


class UnderWayAttempts:
    """The numbers of attempts that may be under way, used by one thread at a time."""

    def __init__(self) -> None:
        self._numbers: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._numbers)

    @property
    def oldest(self) -> int | None:
        """The lowest of the numbers; None if there is none."""
        return min(self._numbers, default=None)

    def add(self, group: Sequence[PendingCommand]) -> bool:
        """Add the attempts that a group is about to begin, and return whether there are any."""
        begun = {attempt.number for attempt in _begun(group)}
        self._numbers |= begun
        return bool(begun)

    def committed(
        self, group: Sequence[PendingCommand], unwritten: Collection[Attempt | None] = ()
    ) -> None:
        """Remove the attempts that ended, or did not begin, in a group that is on the disk.

        Those in `unwritten` still have to be ended, and stay.
        """
        ended = [pending.command for pending in group if isinstance(pending.command, Finish)]
        self._numbers -= {each.attempt.number for each in ended if each.attempt is not None}
        self.failed([each for each in group if not _has_begun(each)], unwritten)

    def failed(
        self, group: Sequence[PendingCommand], unwritten: Collection[Attempt | None]
    ) -> None:
        """Remove the attempts that a failed group did not begin, except those in `unwritten`."""
        self._numbers -= {each.number for each in _begun(group) if each not in unwritten}


def _has_begun(pending: PendingCommand) -> bool:
    return pending.error is None and pending.result is None


def _begun(group: Sequence[PendingCommand]) -> Iterable[Attempt]:
    """Yield the attempts that a group begins."""
    for pending in group:
        if isinstance(pending.command, Begin) and pending.command.attempt is not None:
            yield pending.command.attempt
