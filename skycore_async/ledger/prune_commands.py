"""The commands that prune a ledger, some of it at a time.

Rule: each command is a transaction of its own.  So other writers wait for a moment only, memory
holds what one step prunes, and after a crash pruning can go on.
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

    `until` is when the last of these messages was begun.
    """

    messages: int
    notifications: int
    last: int | None
    until: float = 0.0


@attrs.frozen
class PruningBegun:
    """Which messages are pruned: those begun before `before`, in seconds since 1970.

    `until` is the latest time of notifications to prune that have no message, and of what was
    pruned before.
    """

    before: float
    until: float


@attrs.frozen(kw_only=True)
class BeginPruning(StoreCommand[PruningBegun]):
    """Mark what is older than `older_than` seconds as being pruned, and return which that is."""

    older_than: float

    def run(self, store: LedgerStore, now: float) -> PruningBegun:
        """Run it over a store."""
        before = now - self.older_than
        until = max(_marked(store), store.last_prunable_notification(before))
        store.mark_pruned(before)
        return PruningBegun(before, until)


@attrs.frozen(kw_only=True)
class NotePruned(StoreCommand[None]):
    """Replace the time that was `marked` beforehand by that of the last pruned message, `until`.

    The mark was set by a clock that may have been ahead: doubts would stay open up to then.
    """

    marked: float
    until: float

    def run(self, store: LedgerStore, now: float) -> None:
        """Run it over a store; do nothing if another process has set a mark since."""
        store.change_mark(self.marked, self.until)


def _marked(store: LedgerStore) -> float:
    return max(store.pruned_until() - pruning.NEAR, 0.0)


@attrs.frozen(kw_only=True)
class PruneMessages(StoreCommand[PrunedPart]):
    """Prune the messages in a span of ids beyond `after` that were begun before `before`."""

    before: float
    after: int

    def run(self, store: LedgerStore, now: float) -> PrunedPart:
        """Run it over a store."""
        until, last = span_after(self.after, _AT_ONCE, store.last_id())
        found = store.messages_to_prune(self.before, self.after, until)
        left = [(each, pruning.pruned(each, before=self.before)) for each in found]
        pairs = [(each, after) for each, after in left if after is not None]
        latest = max((each.started_at for each, _ in pairs), default=0.0)
        if latest > _marked(store):  # another process that prunes has ended meanwhile
            store.mark_pruned(latest)
        return PrunedPart(len(pairs), store.prune(pairs) if pairs else 0, last, latest)


@attrs.frozen(kw_only=True)
class PruneNotifications(StoreCommand[int]):
    """Prune some notifications without a message, and return how many; 0 if none are left."""

    before: float

    def run(self, store: LedgerStore, now: float) -> int:
        """Run it over a store."""
        return store.prune_notifications(self.before)


@attrs.frozen
class EndPruning(StoreCommand[None]):
    """Erase what was pruned from the ledger's file; the ledger that has the file open does so."""

    def run(self, store: LedgerStore, now: float) -> None:
        """Do nothing: a store, within a transaction, cannot do it."""


@attrs.frozen(kw_only=True)
class CountPrunable(LongQuery[PrunedPart]):
    """How much may be pruned of a span of ids beyond `after`."""

    before: float
    after: int

    def answer(self, store: LedgerReader) -> PrunedPart:
        """Return the answer of a store."""
        until, last = span_after(self.after, SPAN, store.last_id())
        return PrunedPart(*store.prunable(self.before, self.after, until), last)


@attrs.frozen(kw_only=True)
class CountPrunableBeside(LongQuery[tuple[int, int]]):
    """How many notifications without a message are prunable, and how many old doubts are kept."""

    before: float

    def answer(self, store: LedgerReader) -> tuple[int, int]:
        """Return the answer of a store."""
        return store.prunable_notifications(self.before), store.doubts_before(self.before)
