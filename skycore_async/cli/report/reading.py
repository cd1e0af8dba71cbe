"""The reading of a ledger for its report: one pass, page by page, whatever its size."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

from ...ledger.base import BaseLedger
from ...ledger.list_commands import CountMessages, ListLines
from ...ledger.model import MessageState
from ...ledger.paging import pages_of
from .data import ReportCounters, ReportData


async def read_report(
    ledger: BaseLedger,
    *,
    title: str,
    price: Decimal | None = None,
    told: Callable[[int], None] | None = None,
) -> ReportData:
    """Return the report data of a ledger, called `title`, at `price` a segment.

    `told` is called with the number of messages counted so far.
    """
    counters = ReportCounters(price)
    async for page in pages_of(
        ledger, lambda after: CountMessages(step=counters.step, after=after)
    ):
        counters.add(page)
        if told is not None:
            told(counters.messages)
    after: int | None = 0
    while after is not None:
        doubts = await ledger.run(ListLines(state=MessageState.IN_DOUBT, after=after))
        after = doubts.last if counters.list_doubts(doubts.rows) else None
    summary = await ledger.summary()
    return counters.report_data(summary, ledger=title, made=datetime.now(UTC))
