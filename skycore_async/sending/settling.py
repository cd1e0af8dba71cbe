"""Settle doubts by the provider's sending reports.

Strategy: `ReportSettling` tells which periods are worth requesting, reads reports from any source,
and in the end writes what they prove.  `ledger.report_decisions` decides what that is;
`report_requests` requests reports from the provider.

Rules:

* One process settles at a time.  What changes in the ledger meanwhile is left as it is.
* Only the times of doubts and of their witnesses are worth requesting.
* A doubt that ends frees rows for others, so all are looked at until no more end.
* A row that keeps a doubt open is remembered: a later report has to cover its time, too.
* A report that breaks off proves what it lists, and nothing else.
"""

from __future__ import annotations

import functools
import time
from array import array
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from math import isfinite
from typing import Final, Self

from ..errors import ConfigurationError
from ..ledger.base import BaseLedger
from ..ledger.model import MessageState
from ..ledger.report_commands import SettleByReport
from ..ledger.report_decisions import MessageInDoubt, decide, listed_of
from ..ledger.report_evidence import (
    AFTER,
    BY_ROWS,
    OpenReason,
    ReportPeriod,
    covers,
    hull,
    is_within,
    merged,
    not_before,
    why_no_report,
    why_not_between,
    why_not_covered,
    why_not_witnessed,
)
from ..ledger.report_findings import Absent, Finding, Taken
from ..ledger.report_graph import may_be_of_its_time
from ..ledger.report_matching import match
from ..ledger.report_rows import KnownAttempt
from ..ledger.report_values import DoubtDecision, OpenDoubt, Settlement
from ..ledger.settlement import CLOCKS_APART
from ..messages import ReportedMessage
from .doubts import LedgerDoubts
from .report_database import ReportDatabase

_BATCH: Final = 2000  # rows of a report that are in memory at a time
LONGEST_AFTER: Final = 366 * 86_400.0  # seconds past the end of an attempt
_WRITTEN: Final = 500  # doubts that are ended in one transaction


class ReportSettling:
    """The doubts of a ledger, to be settled by reports; an async context manager.

    Once entered, `periods` has the times worth requesting, in seconds since 1970.  A report proves
    an attempt absent if it was made `after` seconds past its end and lists witnesses; with
    `trust_absence` no witnesses are needed, unless the next accepted messages are missing.  With
    `is_dry_run` nothing is written.

    Raises ConfigurationError for an invalid `after`, and LedgerInUse if doubts are being settled
    elsewhere.
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
        if not 0 <= after <= LONGEST_AFTER:
            raise ConfigurationError(
                f"after: {after!r} is not from 0 to {LONGEST_AFTER:,.0f} seconds"
            )
        self._ledger = ledger
        self._after = after
        self._trust_absence = trust_absence
        self._is_dry_run = is_dry_run
        self.clock = clock
        self._complete: list[ReportPeriod] = []
        self._problems: dict[str, bool] = {}  # each with whether a report has it
        self._next_at: float | None = None
        self._findings: dict[int, Finding] = {}
        self._listed: dict[int, tuple[float, float]] = {}  # times of rows that may be an attempt's
        self._ended_by: dict[int, float] = {}  # if an attempt may have ended later than recorded
        self.periods: tuple[tuple[float, float], ...] = ()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._ledger.settling())
            self._database = ReportDatabase()
            stack.push_async_callback(self._database.aclose)
            self._known = LedgerDoubts(self._database, after=self._after, clock=self.clock)
            await self._known.load(self._ledger)
            self.periods = self._known.periods
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_error: object) -> None:
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
        """Read a report; `is_complete` is called after its end.

        Rows before an error count, too.  `since` and `until` default to the times of the first and
        last row, and `made_at` to the latest time in the report, by a clock that may be ahead of
        this one.
        """
        rows: list[ReportedMessage] = []
        try:
            async for message in messages:
                rows.append(message)
                if len(rows) >= _BATCH:
                    await self._database.run(self._database.add_rows, rows)
                    rows = []
        finally:  # each row was sent, however the report ends
            await self._database.run(self._database.add_rows, rows)
            await self._database.run(self._database.set_period, since, until)
        span = await self._database.run(self._database.span_of_rows)
        if is_complete() and span is not None:
            shown = self._database.latest - CLOCKS_APART
            self.covered(*span, made_at=shown if made_at is None else made_at)

    def covered(self, since: float, until: float, *, made_at: float) -> None:
        """Note that what was read has everything that the provider sent in a period."""
        self._complete.append(ReportPeriod(since=since, until=until, made_at=made_at))

    def cut_short(self, next_at: float) -> None:
        """Note that not all worthwhile periods could be requested, and when they can be."""
        self._next_at = next_at

    def failed(self, problem: str, *, of_report: bool = True) -> None:
        """Note why there was no report, or not all of one, or what else is wrong."""
        self._problems[problem] = of_report

    # What they prove.

    async def end(self) -> Settlement:
        """Write what the reports prove, and return it."""
        await self._known.follow(self._ledger)
        decided = await self._database.run(self._decided)
        decisions = [each for _, each in decided if isinstance(each, DoubtDecision)]
        still_open = [
            self._open(doubt, each) for doubt, each in decided if isinstance(each, OpenReason)
        ]
        settled: set[str] = set()
        for first in range(0, len(decisions), _WRITTEN):
            settled |= await self._write(decisions[first : first + _WRITTEN])
        if obstructed := [each for each in map(self._obstructed, decided) if each is not None]:
            await self._write(obstructed)
        still_open += [
            OpenDoubt(key=each.seen.key, reason=OpenReason.CHANGED)
            for each in decisions
            if each.seen.key not in settled
        ]
        told = [each for each in decisions if each.seen.key in settled]
        is_sent = MessageState.ACCEPTED
        return Settlement(
            sent=tuple(each.seen.key for each in told if each.state is is_sent),
            not_sent=tuple(each.seen.key for each in told if each.state is not is_sent),
            open=tuple(still_open),
            problems=tuple(self._problems),
        )

    async def would_prove(self, most: ReportPeriod) -> tuple[ReportPeriod, int] | None:
        """Return a period that would prove more, and for how many messages; None if none would.

        This is for a report that may cover more than its rows show, but no more than `most`.
        """
        return await self._database.run(self._would_prove, most)

    async def _write(self, decisions: Sequence[DoubtDecision]) -> frozenset[str]:
        if self._is_dry_run:
            return frozenset(each.seen.key for each in decisions)
        return await self._ledger.run(SettleByReport(decisions=tuple(decisions)))

    def _decided(self) -> list[tuple[MessageInDoubt, DoubtDecision | OpenReason]]:
        """Return what becomes of each message in doubt."""
        self._want()
        decided: dict[int, DoubtDecision | OpenReason] = {}
        ended: dict[int, DoubtDecision] = {}
        while True:
            self._match()
            for id_ in self._known.doubts.keys() - ended.keys():
                decided[id_] = self._decide(self._known.doubts[id_])
            new = {
                id_: each
                for id_, each in decided.items()
                if isinstance(each, DoubtDecision) and id_ not in ended
            }
            if not new:
                return [(doubt, decided[id_]) for id_, doubt in self._known.doubts.items()]
            self._end(new)
            ended |= new

    def _want(self) -> None:
        database = self._database
        doubtful = self._known.doubtful.values()
        windows: list[tuple[float, float]] = []
        for each in doubtful:
            near = database.neighbours(each)
            if self._trust_absence:
                windows += [(at, at) for at in near.times]
            elif near.before is not None and near.after is not None:
                windows.append((near.before, near.after))
        database.want((each.number for each in doubtful), merged(windows))

    def _match(self) -> None:
        present, late = array("q"), dict[int, float]()
        for attempts, rows in self._database.by_number():
            matching = match(attempts, rows, after=self._after)
            self._findings |= matching.doubtful
            present.extend(matching.present)
            late |= matching.late
            for id_ in matching.doubtful:
                doubt = self._known.doubtful[id_]
                spans = [row.span for row in rows if may_be_of_its_time(doubt, row)]
                if spans:
                    self._listed[id_] = hull(spans)
        self._database.set_present(present, late)

    def _end(self, decisions: Mapping[int, DoubtDecision]) -> None:
        """Treat doubts as ended from now on, and look at their numbers again."""
        taken: list[int] = []
        not_taken: list[int] = []
        for id_, decision in decisions.items():
            ids = self._known.doubts[id_].attempts
            if decision.state is MessageState.ACCEPTED:
                taken += [each for each in ids if isinstance(self._findings.get(each), Taken)]
            else:
                not_taken += ids
        self._database.end(taken, not_taken)
        self._database.want((self._known.doubtful[each].number for each in taken + not_taken), ())

    def _obstructed(
        self, decided: tuple[MessageInDoubt, DoubtDecision | OpenReason]
    ) -> DoubtDecision | None:
        """Return the times of rows that keep a message open, as a decision to write; else None."""
        doubt, reason = decided
        if reason not in BY_ROWS:
            return None
        known = listed_of(doubt.record)
        spans = [self._listed.get(id_) for id_ in doubt.attempts]
        found = (*spans, known, self._database.nameless)
        # A report cannot cover a time that is not finite.
        some = [each for each in found if each is not None and all(map(isfinite, each))]
        if not some or (listed := hull(some)) == known:
            return None
        return DoubtDecision(seen=doubt.record, state=MessageState.IN_DOUBT, listed=listed)

    def _decide(
        self, doubt: MessageInDoubt, period: ReportPeriod | None = None
    ) -> DoubtDecision | OpenReason:
        """Return what becomes of a message, as if all that was read were a report of `period`."""
        complete = self._complete if period is None else [period]
        why_not = functools.partial(self._why_not_proven, complete)
        found = decide(doubt, self._findings, why_not, trust_absence=self._trust_absence)
        listed = listed_of(doubt.record)  # when an earlier report listed what may be its own
        is_as_far = listed is None or covers(complete, *listed)
        return found if isinstance(found, OpenReason) or is_as_far else OpenReason.NOT_COVERED

    def _why_not_proven(self, complete: Sequence[ReportPeriod], id_: int) -> OpenReason | None:
        times = (attempt := self._known.doubtful[id_]).times
        reason = why_not_covered(*times, complete, after=self._after)
        if reason is not None:
            return self._why_no_report(reason, times[1])
        if self._database.nameless is not None:
            return OpenReason.WITHOUT_NUMBER
        near = self._database.neighbours(attempt)
        if self._trust_absence:
            listed = near.listed_by(complete, after=self._after)
            return OpenReason.WITNESS_MISSING if self._database.lacks(listed) else None
        witnesses = self._database.witnesses(near)
        if (reason := why_not_witnessed(witnesses)) is not None:
            return reason
        self._ended_by[id_] = ended_by = near.ended_by(*times) + witnesses.late
        reason = why_not_between(near, times, complete, after=self._after, late=witnesses.late)
        return None if reason is None else self._why_no_report(reason, ended_by)

    def _why_no_report(self, reason: OpenReason, ended_at: float) -> OpenReason:
        return why_no_report(
            reason,
            is_over=ended_at + self._after <= self.clock(),
            has_problem=any(self._problems.values()),
            is_refused=self._next_at is not None,
        )

    def _attempts_behind(self, doubt: MessageInDoubt) -> list[KnownAttempt]:
        """Return the attempts that a report has to cover to end this doubt."""
        ids = {id_ for id_ in doubt.attempts if id_ in self._known.doubtful}
        for id_ in tuple(ids):
            if isinstance(decision := self._findings.get(id_), Absent):
                ids |= decision.group
        return [self._known.doubtful[id_] for id_ in ids]

    def _open(self, doubt: MessageInDoubt, reason: OpenReason) -> OpenDoubt:
        behind = self._attempts_behind(doubt)
        ends = [self._ended_by.get(each.id, each.times[1]) for each in behind]
        at = not_before(
            reason, max(ends, default=0.0), after=self._after, next_at=self._next_at or 0.0
        )
        ahead = datetime.fromtimestamp(at, UTC) if at and at > self.clock() else None
        return OpenDoubt(key=doubt.record.key, reason=reason, not_before=ahead)

    def _would_prove(self, most: ReportPeriod) -> tuple[ReportPeriod, int] | None:
        found = {id_: self._attempts_behind(doubt) for id_, doubt in self._known.doubts.items()}
        wanted = {
            id_: self._known.period_for(attempts, trust_absence=self._trust_absence)
            for id_, attempts in found.items()
            if attempts
            and isinstance(why := self._decide(self._known.doubts[id_]), OpenReason)
            and why is not OpenReason.WITNESS_MISSING
        }
        proven = [
            id_
            for id_, period in wanted.items()
            if is_within(period, most)
            and isinstance(self._decide(self._known.doubts[id_], period), DoubtDecision)
        ]
        if not proven:
            return None
        attempts = [each for id_ in proven for each in found[id_]]
        return self._known.period_for(attempts, trust_absence=self._trust_absence), len(proven)
