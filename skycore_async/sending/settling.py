"""Doubts held against the provider's sending reports, and ended where those prove something.

Strategy: `ReportSettling` says which periods are worth asking for, takes reports in, wherever
they come from, and writes in the end what they prove.  What that is, is decided in
`ledger.report_decisions` and what it asks; `report_requests` asks the provider.

Rules:

* One process does it at a time.  What changes in the ledger meanwhile is left as it is.
* Only periods in which something is in doubt are worth asking for.
* A report that ends before its end proves what it lists, and nothing else.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import AsyncIterable, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

import anyio.to_thread

from ..ledger.base import BaseLedger
from ..ledger.model import MessageState
from ..ledger.report_commands import SettleByReport
from ..ledger.report_database import ReportDatabase
from ..ledger.report_decisions import decide
from ..ledger.report_evidence import (
    AFTER,
    OpenReason,
    ReportPeriod,
    merged,
    why_not_covered,
    why_not_witnessed,
)
from ..ledger.report_matching import Absent, Taken, Unclear, match
from ..ledger.report_values import DoubtVerdict, OpenDoubt, Settlement
from ..messages import ReportedMessage
from .doubts import LedgerDoubts

_BATCH: Final = 2000  # rows of a report that are in memory at a time
_WRITTEN: Final = 500  # doubts that are ended in one transaction


class ReportSettling:
    """The doubts of a ledger, to be held against reports, as an async context manager.

    After entering, `periods` are the times worth asking for, in seconds since 1970.  A report
    is proof of absence from `after` seconds past the end of an attempt, and by witnesses; with
    `trust_absence` without these.  With `is_dry_run` nothing is written.

    Raises LedgerInUse where it is done elsewhere.
    """

    def __init__(
        self,
        ledger: BaseLedger,
        *,
        after: float = AFTER,
        trust_absence: bool = False,
        is_dry_run: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._after = after
        self._trust_absence = trust_absence
        self._is_dry_run = is_dry_run
        self.clock = clock
        self._complete: list[ReportPeriod] = []
        self._is_cut_short = False
        self.periods: tuple[tuple[float, float], ...] = ()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._ledger.settling())
            self._database = await anyio.to_thread.run_sync(ReportDatabase)
            stack.callback(self._database.close)
            self._known = LedgerDoubts(self._database, after=self._after, clock=self.clock)
            await self._known.load(self._ledger)
            self.periods = self._known.periods
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    # What reports list.

    async def read(
        self,
        messages: AsyncIterable[ReportedMessage],
        *,
        since: float | None = None,
        until: float | None = None,
        made_at: float | None = None,
        is_complete: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take in a report; `is_complete` is asked after its end.

        What was listed before an error counts, too.  Where `since` or `until` is not given, it
        is the time of its first or last row; and where `made_at` is not, it is taken to have
        been made at its end.
        """
        rows: list[ReportedMessage] = []
        try:
            async for message in messages:
                rows.append(message)
                if len(rows) >= _BATCH:
                    await anyio.to_thread.run_sync(self._database.add_rows, rows)
                    rows = []
        finally:  # what was listed was sent, however the report ends
            await anyio.to_thread.run_sync(self._database.add_rows, rows)
            await anyio.to_thread.run_sync(self._database.set_period, since, until)
        span = await anyio.to_thread.run_sync(self._database.span_of_rows)
        if is_complete() and span is not None:
            self.covered(*span, made_at=span[1] if made_at is None else made_at)

    def covered(self, since: float, until: float, *, made_at: float) -> None:
        """Say that what was read has all that the provider sent in a time."""
        self._complete.append(ReportPeriod(since=since, until=until, made_at=made_at))

    def cut_short(self) -> None:
        """Say that the provider was not asked for all that is worth asking for."""
        self._is_cut_short = True

    # What they prove.

    async def end(self) -> Settlement:
        """Write what the reports prove, and return it."""
        decided = await anyio.to_thread.run_sync(self._decided)
        verdicts = [each for _, each in decided if isinstance(each, DoubtVerdict)]
        still_open = [
            OpenDoubt(key=key, reason=each)
            for key, each in decided
            if isinstance(each, OpenReason)
        ]
        settled: set[str] = set()
        for first in range(0, len(verdicts), _WRITTEN):
            settled |= await self._write(verdicts[first : first + _WRITTEN])
        still_open += [
            OpenDoubt(key=each.seen.key, reason=OpenReason.CHANGED)
            for each in verdicts
            if each.seen.key not in settled
        ]
        told = [each for each in verdicts if each.seen.key in settled]
        is_sent = MessageState.ACCEPTED
        return Settlement(
            sent=tuple(each.seen.key for each in told if each.state is is_sent),
            not_sent=tuple(each.seen.key for each in told if each.state is not is_sent),
            open=tuple(still_open),
        )

    async def _write(self, verdicts: Sequence[DoubtVerdict]) -> frozenset[str]:
        if self._is_dry_run:
            return frozenset(each.seen.key for each in verdicts)
        return await self._ledger.run(SettleByReport(verdicts=tuple(verdicts)))

    def _decided(self) -> list[tuple[str, DoubtVerdict | OpenReason]]:
        """Return what becomes of each message in doubt, by its key."""
        database = self._database
        doubtful = self._known.doubtful.values()
        windows: list[tuple[float, float]] = []
        for each in () if self._trust_absence else doubtful:
            near = database.neighbours(each.started_at, each.ended_at)
            if near.before is not None and near.after is not None:
                windows.append((near.before, near.after))
        database.want((each.number for each in doubtful), merged(windows))
        told: dict[int, Taken | Absent | Unclear] = {}
        present = array("q")
        for attempts, rows in database.by_number():
            matching = match(attempts, rows)
            told |= matching.doubtful
            present.extend(matching.present)
        database.set_present(present)
        return [
            (
                doubt.record.key,
                decide(doubt, told, self._why_not_proven, trust_absence=self._trust_absence),
            )
            for doubt in self._known.doubts.values()
        ]

    def _why_not_proven(self, id_: int) -> OpenReason | None:
        attempt = self._known.doubtful[id_]
        times = attempt.started_at, attempt.ended_at
        reason = why_not_covered(*times, self._complete, after=self._after)
        if reason is OpenReason.NOT_COVERED and self._is_cut_short:
            return OpenReason.ASKED_TOO_OFTEN
        if reason is not None or self._trust_absence:
            return reason
        return why_not_witnessed(self._database.witnesses(*times))
