"""What a ledger has forgotten, once a backup was put back.

Strategy: at a backup is noted what the ledger knows by then, as far as others can tell.  What came
since may be done once more when a program has opened the backup.

Rule: what may have been forgotten is odd, and not held against the finer rules.  That nobody is
billed twice whom the backup knows, and that nobody is lost, holds for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class Memory:
    """What the ledger knows at a moment."""

    calls: int  # so many were made
    submitted: int  # so many messages were
    accepted: int  # so many callers were told that theirs is
    billed: frozenset[str]  # names, that are known to have been
    unknown: frozenset[str]  # names that were billed before, and forgotten
    in_exchange: frozenset[str]  # names that are surely under way
    under_way: frozenset[str]  # names that may be
    choices: Mapping[str, int]  # changes of each number's choice


class Forgetting:
    """What was submitted and told in a world, and what of that is forgotten."""

    def __init__(self) -> None:
        self.again: Counter[str] = Counter()  # submissions that are forgotten, by name
        self.odd: set[str] = set()  # names of which something is forgotten
        self._again_left: Counter[str] = Counter()
        self._unknown: set[str] = set()
        self._submitted: list[tuple[str, int]] = []  # names, and the number of the first call
        self._accepted: list[str] = []  # names
        self._last_opened = 0, 0  # calls and submissions before a backup was opened
        # So many calls were made before a backup was put back, if the ledger is still open.
        self._put_back_at: int | None = None

    def submitted(self, name: str, first: int) -> bool:
        """Note that a message is submitted, of which `first` is the number of the first call.

        Return False where the ledger is open, and a backup was put back before that call.
        """
        self._submitted.append((name, first))
        self._unknown.discard(name)
        return self._put_back_at is None or first < self._put_back_at

    def accepted(self, name: str) -> None:
        """Note that somebody was told that a message is accepted."""
        self._accepted.append(name)

    def allows(self, name: str) -> bool:
        """Return whether a message may be billed again as it was forgotten, which counts once."""
        is_left = self._again_left[name] > 0
        self._again_left[name] -= is_left
        return is_left

    def remember(
        self,
        *,
        calls: int,
        billed: Mapping[str, int],
        in_exchange: frozenset[str],
        under_way: frozenset[str],
        choices: Mapping[str, int],
    ) -> Memory:
        """Return what the ledger knows now, and a backup of it."""
        return Memory(
            calls=calls,
            submitted=len(self._submitted),
            accepted=len(self._accepted),
            billed=frozenset(billed) - self._unknown,
            unknown=frozenset(self._unknown),
            in_exchange=in_exchange,
            under_way=under_way,
            choices=choices,
        )

    def put_back(self, memory: Memory, *, calls: int, has_all: bool) -> None:
        """Note that a backup is put back into an open ledger after so many calls.

        It may go unnoticed where it `has_all` that was begun.
        """
        before, submitted = self._last_opened
        since = self._submitted[max(submitted, memory.submitted) :]
        if not has_all or any(first >= max(before, memory.calls) for _, first in since):
            self._put_back_at = calls

    def forget(self, memory: Memory, *, calls: int) -> None:
        """Note that a program opens a backup, and knows nothing of what came since."""
        self._put_back_at = None
        self._last_opened = calls, len(self._submitted)
        submitted = {name for name, _ in self._submitted[memory.submitted :]}
        self.odd |= submitted.union(self._accepted[memory.accepted :])
        again = submitted - memory.billed - memory.in_exchange
        self.again.update(again)
        self._again_left.update(again)
        self._unknown = {*memory.unknown, *again}
