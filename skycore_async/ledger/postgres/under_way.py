"""The attempts of a session that may be under way, as its row in the database tells others.

Strategy: an outcome changes no index, so that no index tells what has none.  Instead the row
of a session has the number of its oldest attempt that may be under way, and whoever looks for
what it was sending looks from there on.

Rules:

* An attempt counts from before its intent may be written until after its outcome is, or it
  is certain that there was no intent.  So the number is too low at times, and never too high.
* It is written in the transaction of each group that begins anything: whoever took the session
  for dead, and cleared the number, has seen all that came before.
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
        """The lowest number of these; None where there is none."""
        return min(self._numbers, default=None)

    def add(self, group: Sequence[PendingCommand]) -> bool:
        """Count what a group is about to begin, and return whether that is anything."""
        begun = {attempt.number for attempt in _begun(group)}
        self._numbers |= begun
        return bool(begun)

    def committed(
        self, group: Sequence[PendingCommand], unwritten: Collection[Attempt | None] = ()
    ) -> None:
        """Count no longer what was ended by a group that is on the disk.

        Nor what was not begun by it, but for what is still to be ended.
        """
        ended = [pending.command for pending in group if isinstance(pending.command, Finish)]
        self._numbers -= {each.attempt.number for each in ended if each.attempt is not None}
        self.failed([each for each in group if not _has_begun(each)], unwritten)

    def failed(
        self, group: Sequence[PendingCommand], unwritten: Collection[Attempt | None]
    ) -> None:
        """Count no longer what a group would have begun, but for what is still to be ended."""
        self._numbers -= {each.number for each in _begun(group) if each not in unwritten}


def _has_begun(pending: PendingCommand) -> bool:
    return pending.error is None and pending.result is None


def _begun(group: Sequence[PendingCommand]) -> Iterable[Attempt]:
    """Return the attempts that a group begins."""
    for pending in group:
        if isinstance(pending.command, Begin) and pending.command.attempt is not None:
            yield pending.command.attempt
