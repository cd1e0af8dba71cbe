"""The commands and queries with which doubts are settled by a sending report.

Rule: writing is a compare-and-set on the attempts that were looked at: a message that was begun
again meanwhile, or settled otherwise, is left as it is.
"""

from __future__ import annotations

import attrs

from .commands import LedgerCommand, LongQuery, Query
from .model import EarlierAttempt
from .reader import LedgerReader, Page
from .report_values import BegunMessage, Doubt, DoubtDecision, ReportRequest


@attrs.frozen(kw_only=True)
class ListDoubts(LongQuery[Page[Doubt]]):
    """A page of messages in doubt, beyond the id `after`."""

    after: int

    def answer(self, store: LedgerReader) -> Page[Doubt]:
        """Return the answer of a store."""
        return store.doubts(self.after)


@attrs.frozen(kw_only=True)
class ListBegunMessages(LongQuery[Page[BegunMessage]]):
    """A page of messages accepted, in doubt or under way, begun since then."""

    since: float
    after: int

    def answer(self, store: LedgerReader) -> Page[BegunMessage]:
        """Return the answer of a store."""
        return store.begun(self.since, self.after)


@attrs.frozen(kw_only=True)
class LastAccepted(LongQuery[float | None]):
    """The start of the last message before then that was accepted and never in doubt."""

    before: float

    def answer(self, store: LedgerReader) -> float | None:
        """Return the answer of a store."""
        return store.accepted_before(self.before)


@attrs.frozen(kw_only=True)
class ListEarlierAttempts(LongQuery[Page[EarlierAttempt]]):
    """A page of attempts that were in doubt when their messages were begun again.

    Those that are proven not taken are left out.
    """

    after: int

    def answer(self, store: LedgerReader) -> Page[EarlierAttempt]:
        """Return the answer of a store."""
        return store.earlier_attempts(self.after)


@attrs.frozen
class ForgottenUntil(Query[float]):
    """The start of the last message that the ledger has forgotten; 0 if there is none."""

    def answer(self, store: LedgerReader) -> float:
        """Return the answer of a store."""
        return store.forgotten_until()


@attrs.frozen
class ListReportRequests(Query[list[ReportRequest]]):
    """The latest report requests, the last one first."""

    def answer(self, store: LedgerReader) -> list[ReportRequest]:
        """Return the answer of a store."""
        return store.report_requests()


@attrs.frozen(kw_only=True)
class RecordReportRequest(LedgerCommand[None]):
    """Record that the provider was asked for a report."""

    request: ReportRequest


@attrs.frozen(kw_only=True)
class SettleByReport(LedgerCommand[frozenset[str]]):
    """Record what a report proved; the result is the keys of messages that were still in doubt."""

    decisions: tuple[DoubtDecision, ...]
