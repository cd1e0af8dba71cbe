"""The provider's sending report, written from its books, and read to settle doubts.

Rule: it is made of bytes, as a real report is: written in one of the provider's forms, and read by
the package's own reader.  A report that breaks off says so.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Self

from skycore_async.errors import ReportError
from skycore_async.ledger.report_values import Settlement
from skycore_async.messages import ReportedMessage, ReportSection
from skycore_async.protocol.report_reader import ReportReader
from skycore_async.sending.report_requests import settle as settle_by_reports
from skycore_async.simulator.report_file import ReportForm, write_report

from .provider import BEGINNING, Provider, Submission, text_of

if TYPE_CHECKING:
    from skycore_async import MemoryLedger, SQLiteLedger

_EDGE = timedelta(seconds=1)


class PretendReport:
    """What the provider lists of a time, as a `SendingReport` is read."""

    def __init__(
        self, provider: Provider, since: datetime, until: datetime, *, chance: Random, breaks: bool
    ) -> None:
        if not since < until:  # as the real one says
            raise ValueError("since: it is not before until")
        self.since = self.covered_until = since
        self.until = until
        self.period = until - since
        self.is_begun = True
        self.dated = None
        self._provider = provider
        self._chance = chance
        self._breaks = breaks

    @property
    def complete(self) -> bool:
        """Whether all of it was read."""
        return self.covered_until == self.until

    async def __aenter__(self) -> Self:
        self._messages = iter(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReportedMessage:
        for message in self._messages:
            return message
        if self._breaks:
            raise ReportError("the report is not complete")
        self.covered_until = self.until
        raise StopAsyncIteration

    def _read(self) -> list[ReportedMessage]:
        books = [*self._provider.books.values(), *self._provider.others]
        listed = [
            shown
            for shown in map(_shown, books)
            if self.since - _EDGE <= (shown.acknowledged_at or self.since) <= self.until + _EDGE
        ]
        self._chance.shuffle(listed)
        if self._breaks:
            listed = listed[: len(listed) // 2]
        form = ReportForm(
            well_formed=self._chance.random() < 0.5,
            edition=self._chance.choice((2013, 2014)),
            text_attribute=self._chance.choice(("text", "body")),
            # Else nobody could tell what others sent of the same text.
            names_sender=bool(self._provider.others) or self._chance.random() < 0.5,
        )
        reader = ReportReader()
        read = [m for piece in write_report(listed, form) for m in reader.feed(piece)]
        return read + reader.finish()


def _shown(taken: Submission) -> ReportedMessage:
    at = (BEGINNING + timedelta(seconds=taken.at)).astimezone(UTC)
    return ReportedMessage(
        history_id=taken.id.removeprefix("SMS_"),
        to=taken.to,
        from_=taken.from_,
        text=text_of(taken.name, taken.version),
        section=ReportSection.SENDING_LIST,
        acknowledged_at=at,
    )


async def settle(
    provider: Provider,
    ledger: SQLiteLedger | MemoryLedger,
    *,
    after: float,
    breaks: bool,
    chance: Random,
    wall: Callable[[], float],
) -> Settlement:
    """Settle the doubts of a ledger by the provider's reports."""

    def opened(since: datetime, until: datetime, *, period: timedelta | None) -> PretendReport:
        assert period is None  # none is too long here
        return PretendReport(provider, since, until, chance=chance, breaks=breaks)

    return await settle_by_reports(
        ledger,
        opened,  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        after=after,
        clock=wall,
    )
