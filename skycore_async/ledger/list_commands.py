"""The queries that list or count many messages.

Rule: a query looks at a limited span of ids, however few rows it returns, so that none holds a
transaction for long.
"""

from __future__ import annotations

import attrs

from .commands import LongQuery
from .export import ExportedMessage
from .list_rows import (
    CountedPage,
    MessageLine,
    counted_page,
    first_of_each,
    needs_other_carrier,
    needs_other_status,
)
from .model import MessageState
from .reader import SPAN, LedgerReader, Page, span_after


@attrs.frozen
class GetLastTurn(LongQuery[int]):
    """The turn of the attempt that was begun last: it only ever grows; 0 without messages."""

    def answer(self, store: LedgerReader) -> int:
        """Return the answer of a store."""
        return store.last_begun()


@attrs.frozen(kw_only=True)
class ListLines(LongQuery[Page[MessageLine]]):
    """A page of messages in one state beyond the id `after`, without their notifications."""

    state: MessageState
    after: int

    def answer(self, store: LedgerReader) -> Page[MessageLine]:
        """Return the answer of a store."""
        return store.lines(self.state, self.after)


@attrs.frozen(kw_only=True)
class CountMessages(LongQuery[CountedPage]):
    """The messages in a span of ids beyond `after`, counted by slots of `step` seconds."""

    step: int
    after: int

    def answer(self, store: LedgerReader) -> CountedPage:
        """Return the answer of a store."""
        until, last = span_after(self.after, SPAN, store.last_id())
        ended = first_of_each(store.ended(self.after, until))
        named = {row[4] for row in ended}
        whole: set[int] = set()
        for element, needs in (("spid", needs_other_carrier), ("status", needs_other_status)):
            if lacking := set(filter(needs, named)):
                ids = {row[0] for row in ended if row[4] in lacking}
                whole |= ids.intersection(store.naming(element, self.after, until))
        return counted_page(
            store.begun_counts(self.step, self.after, until),
            ended,
            store.notifications_of(whole),
            last=last,
        )


@attrs.frozen(kw_only=True)
class ListExported(LongQuery[Page[ExportedMessage]]):
    """A page of messages as they are exported, all or those in one state, beyond `after`."""

    state: MessageState | None
    after: int

    def answer(self, store: LedgerReader) -> Page[ExportedMessage]:
        """Return the answer of a store."""
        return store.exported(self.state, self.after)
