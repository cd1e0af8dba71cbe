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
    """How many messages and notifications were pruned, or may be; `last` is None at the end.

    The messages were begun `until` then.
    """

    messages: int
    notifications: int
    last: int | None
    until: float = 0.0


@attrs.frozen
class PruningBegun:
    """Which messages are pruned: those begun before `before`, in seconds since 1970.

    `until` is the latest time of what is pruned without a message, or was pruned earlier.
    """

    before: float
    until: float


@attrs.frozen(kw_only=True)
class BeginPruning(StoreCommand[PruningBegun]):
    """Write that what is older than so many seconds is pruned, and return which that is."""

    older_than: float

    def run(self, store: LedgerStore, now: float) -> PruningBegun:
        """Run it over a store."""
        before = now - self.older_than
        until = max(_marked(store), store.last_prunable_notification(before))
        store.mark_pruned(before)
        return PruningBegun(before, until)


@attrs.frozen(kw_only=True)
class NotePruned(StoreCommand[None]):
    """Write the latest time of what was pruned, `until`, in place of that `marked` beforehand.

    The mark was set by a clock that may have been ahead: doubts would be held open until then.
    """

    marked: float
    until: float

    def run(self, store: LedgerStore, now: float) -> None:
        """Run it over a store, unless another has marked something since."""
        store.change_mark(self.marked, self.until)


def _marked(store: LedgerStore) -> float:
    return max(store.pruned_until() - pruning.NEAR, 0.0)


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
        latest = max((each.started_at for each, _ in pairs), default=0.0)
        if latest > _marked(store):  # where another that prunes has ended meanwhile
            store.mark_pruned(latest)
        return PrunedPart(len(pairs), store.prune(pairs) if pairs else 0, last, latest)


@attrs.frozen(kw_only=True)
class PruneNotifications(StoreCommand[int]):
    """Prune some notifications without a message, and return how many; 0 where none are left."""

    before: float

    def run(self, store: LedgerStore, now: float) -> int:
        """Run it over a store."""
        return store.prune_notifications(self.before)


@attrs.frozen
class EndPruning(StoreCommand[None]):
    """See to it that what was pruned is in no file any more; the ledger that has the file does."""

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
