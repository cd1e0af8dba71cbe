"""What a ledger is told to prune: some of it at a time.

Rule: each command is a transaction, so that whoever else writes waits for a moment, what is in
memory is as much as is pruned at once, and what a crash leaves is a ledger that can be pruned on.
"""

from __future__ import annotations

from typing import Final

import attrs

from . import pruning
from .commands import LongQuery
from .reader import SPAN, LedgerReader, span_after
from .store import LedgerStore, StoreCommand

_AT_ONCE: Final = 200  # ids whose messages are pruned in a transaction


@attrs.frozen
class PrunedPart:
    """How many messages and notifications were pruned, or may be; `last` is None at the end."""

    messages: int
    notifications: int
    last: int | None


@attrs.frozen(kw_only=True)
class BeginPruning(StoreCommand[float]):
    """Write that what is older than so many seconds is pruned, and return before when it began."""

    older_than: float

    def run(self, store: LedgerStore, now: float) -> float:
        """Run it over a store."""
        before = now - self.older_than
        store.mark_pruned(before)
        return before


@attrs.frozen(kw_only=True)
class PruneMessages(StoreCommand[PrunedPart]):
    """Prune the messages of some ids beyond `after` that were begun before `before`."""

    before: float
    after: int

    def run(self, store: LedgerStore, now: float) -> PrunedPart:
        """Run it over a store."""
        until, last = span_after(self.after, _AT_ONCE, store.last_id())
        found = store.messages_to_prune(self.before, self.after, until)
        left = [(each, pruning.pruned(each, before=self.before)) for each in found]
        pairs = [(each, after) for each, after in left if after is not None]
        return PrunedPart(len(pairs), store.prune(pairs) if pairs else 0, last)


@attrs.frozen(kw_only=True)
class PruneNotifications(StoreCommand[int]):
    """Prune some notifications without a message, and return how many; 0 where none are left."""

    before: float

    def run(self, store: LedgerStore, now: float) -> int:
        """Run it over a store."""
        return store.prune_notifications(self.before)


@attrs.frozen
class EndPruning(StoreCommand[None]):
    """See to it that what was pruned is in no file any more: by who has the file."""

    def run(self, store: LedgerStore, now: float) -> None:
        """Do nothing over a store, whose transaction could not do it."""


@attrs.frozen(kw_only=True)
class CountPrunable(LongQuery[PrunedPart]):
    """How much of some ids beyond `after` may be pruned."""

    before: float
    after: int

    def answer(self, store: LedgerReader) -> PrunedPart:
        """Return the answer of a store."""
        until, last = span_after(self.after, SPAN, store.last_id())
        return PrunedPart(*store.prunable(self.before, self.after, until), last)


@attrs.frozen(kw_only=True)
class CountPrunableBeside(LongQuery[tuple[int, int]]):
    """How many notifications without a message may be pruned, and how many old doubts are kept."""

    before: float

    def answer(self, store: LedgerReader) -> tuple[int, int]:
        """Return the answer of a store."""
        return store.prunable_notifications(self.before), store.doubts_before(self.before)
