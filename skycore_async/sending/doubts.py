"""The doubts of a ledger, and what it began near them, to be compared with reports.

Rules:

* Memory holds the doubts; what was accepted near them goes into the database.
* The ledger is read again after the reports.  These may list what was sent meanwhile, and rows of
  messages that are no longer in doubt.  Such messages are found by their time, and new ones by
  their ids as well, as the clock may be set back meanwhile.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence

import attrs

from ..ledger.base import BaseLedger
from ..ledger.model import EarlierAttempt, MessageRecord, MessageState
from ..ledger.paging import pages_of, rows_of
from ..ledger.report_commands import (
    ForgottenUntil,
    LastAccepted,
    ListBegunMessages,
    ListDoubts,
    ListEarlierAttempts,
)
from ..ledger.report_decisions import (
    MessageInDoubt,
    begun_attempt,
    earlier_attempt,
    last_attempt,
    listed_of,
)
from ..ledger.report_evidence import (
    NEAR,
    OpenReason,
    ReportPeriod,
    hull,
    period_for,
    periods_of,
)
from ..ledger.report_graph import LONGEST_AHEAD
from ..ledger.report_rows import KnownAttempt, Role
from ..ledger.report_values import BegunMessage
from ..ledger.settlement import CLOCKS_APART
from .report_database import ReportDatabase


class LedgerDoubts:
    """The messages in doubt by their ids, and their attempts by ids that are given here.

    `periods` has the times worth requesting, up to `after` seconds past the end of an attempt.
    """

    def __init__(
        self, database: ReportDatabase, *, after: float, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._after = after
        self._clock = clock
        self._ids = itertools.count(1)
        self._loaded_at = 0.0
        self._last_loaded = sys.maxsize  # the id of the last message begun by then
        self._last_of_doubts = 0
        self._known_earlier: set[int] = set()  # the ledger's ids of earlier attempts
        # Messages of which a report showed, by HISTORYID, that an earlier attempt was taken.
        self._found_earlier: set[tuple[int, str]] = set()
        self.doubts: dict[int, MessageInDoubt] = {}
        self.doubtful: dict[int, KnownAttempt] = {}
        self.periods: tuple[tuple[float, float], ...] = ()

    async def load(self, ledger: BaseLedger) -> None:
        """Read the doubts of the ledger, and what it began near them."""
        self._loaded_at = self._clock()
        forgotten = await ledger.run(ForgottenUntil())
        records: dict[int, tuple[MessageRecord, OpenReason | None]] = {}
        async for doubt in rows_of(ledger, lambda after: ListDoubts(after=after)):
            reason = OpenReason.UNDER_WAY if doubt.is_under_way else None
            records[doubt.record.id] = doubt.record, reason
        if not records:
            return
        earlier: dict[int, list[EarlierAttempt]] = {}
        async for attempt in rows_of(ledger, lambda after: ListEarlierAttempts(after=after)):
            earlier.setdefault(attempt.message, []).append(attempt)
            self._known_earlier.add(attempt.id)
            if attempt.history_id:
                self._found_earlier.add((attempt.message, attempt.history_id))
        attempts = list(self._attempts_of(records, earlier, forgotten))
        await self._database.run(self._database.add_attempts, attempts)
        self._last_of_doubts = next(self._ids)
        times = [each for each in self.doubtful.values() if self._may_end(each.message)]
        if not times:
            return
        since = min(each.window[0] for each in times) - LONGEST_AHEAD - CLOCKS_APART
        # Messages that were sent later account for rows that may be late ones of a doubt.
        self._last_loaded = await self._add_begun_since(ledger, since)
        if await self._database.run(self._lacks_witness, times):
            last = await ledger.run(LastAccepted(before=since))
            if last is not None:  # and messages near it that may have its row
                await self._add_begun_since(ledger, last - 2 * CLOCKS_APART, before=since)
        self.periods = await self._database.run(self._periods, times)

    async def follow(self, ledger: BaseLedger) -> None:
        """Read what has changed since `load`; a message that was begun since is no witness."""
        if not self.periods:
            return
        doubts = rows_of(ledger, lambda after: ListDoubts(after=after))
        still = {doubt.record.id: doubt.record async for doubt in doubts}
        changed = {id_ for id_, doubt in self.doubts.items() if still.get(id_) != doubt.record}
        await self._database.run(self._database.leave_open, changed)
        since = self._loaded_at - CLOCKS_APART
        await self._database.run(self._database.forget, self._last_of_doubts, since)
        await self._add_begun_since(ledger, since)
        await self._add_begun_since(ledger, -math.inf, after=self._last_loaded, before=since)
        left = [
            (earlier_attempt(attempt, next(self._ids), Role.POSSIBLE), False)
            async for attempt in rows_of(ledger, lambda after: ListEarlierAttempts(after=after))
            if attempt.id not in self._known_earlier
            and not self._is_known(attempt.message, attempt.started_at)
        ]
        await self._database.run(self._database.add_attempts, left)
        for id_ in changed:
            self.doubts[id_] = attrs.evolve(self.doubts[id_], reason=OpenReason.CHANGED)

    def period_for(self, attempts: Sequence[KnownAttempt], *, trust_absence: bool) -> ReportPeriod:
        """Return the least period that a report has to cover to prove attempts absent."""
        times, around = [each.times for each in attempts], list[tuple[float, float]]()
        if not trust_absence:
            near = [self._database.neighbours(each) for each in attempts]
            around = [each.around(*own) for each, own in zip(near, times, strict=True)]
            times = [(own[0], each.ended_by(*own)) for each, own in zip(near, times, strict=True)]
        return period_for(times, around, after=self._after)

    def _may_end(self, message: int) -> bool:
        doubt = self.doubts.get(message)
        return doubt is not None and doubt.reason is None

    def _attempts_of(
        self,
        records: dict[int, tuple[MessageRecord, OpenReason | None]],
        earlier: dict[int, list[EarlierAttempt]],
        forgotten: float,
    ) -> Iterator[tuple[KnownAttempt, bool]]:
        """Note the doubts and their attempts, and yield the latter, each as no witness."""
        for message, (record, given) in records.items():
            reason = given
            role = Role.POSSIBLE if reason else Role.DOUBTFUL
            last = last_attempt(record, next(self._ids), role)
            before: dict[int, int] = {}
            begun = [] if last is None else [last.window[0]]
            for attempt in earlier.pop(message, ()):
                known = self._earlier(attempt, role)
                before[known.id] = attempt.id
                if attempt.started_at:  # else unknown, and no row fits it
                    begun.append(known.window[0])
                yield known, False
            # A row of a forgotten message could be taken for one of its attempts.
            if reason is None and min(begun, default=math.inf) <= forgotten:
                reason = OpenReason.FORGOTTEN
            if last is not None:
                self._note(last)
                yield last, False
            self.doubts[message] = MessageInDoubt(
                record=record,
                last=None if last is None else last.id,
                earlier=before,
                reason=reason,
            )
        for attempt in itertools.chain(*earlier.values()):
            yield self._earlier(attempt, Role.DOUBTFUL), False

    def _earlier(self, attempt: EarlierAttempt, role: Role) -> KnownAttempt:
        known = earlier_attempt(
            attempt, next(self._ids), role if attempt.started_at else Role.POSSIBLE
        )
        self._note(known)
        return known

    def _note(self, attempt: KnownAttempt) -> None:
        if attempt.role is Role.DOUBTFUL:
            self.doubtful[attempt.id] = attempt

    async def _add_begun_since(
        self, ledger: BaseLedger, since: float, *, after: int = 0, before: float = math.inf
    ) -> int:
        """Add what was begun from `since` on and before `before`; return the last id."""
        last = after
        async for page in pages_of(
            ledger, lambda last: ListBegunMessages(since=since, after=last), after=after
        ):
            rows = [each for each in page.rows if each.started_at < before]
            await self._database.run(self._add_begun, rows)
            last = max((last, *(each.id for each in page.rows)))
        return last

    def _add_begun(self, page: Sequence[BegunMessage]) -> None:
        self._database.add_attempts(list(self._begun_attempts(page)))

    def _begun_attempts(self, page: Sequence[BegunMessage]) -> Iterator[tuple[KnownAttempt, bool]]:
        now = self._clock()
        for each in page:
            is_doubt = each.state == MessageState.IN_DOUBT
            if each.untaken or (is_doubt and self._is_known(each.id, each.started_at)):
                continue
            is_earlier = (each.id, each.history_id) in self._found_earlier
            attempt, is_witness = begun_attempt(
                each, next(self._ids), now=now, is_found_earlier=is_earlier
            )
            self._note(attempt)
            was_there = each.id <= self._last_loaded and each.started_at <= self._loaded_at
            yield attempt, is_witness and was_there

    def _is_known(self, message: int, started_at: float) -> bool:
        """Return whether that was the last attempt of a message in doubt when `load` read it."""
        doubt = self.doubts.get(message)
        return doubt is not None and doubt.record.started_at == started_at

    def _lacks_witness(self, attempts: Sequence[KnownAttempt]) -> bool:
        """Return whether an attempt has no witness before it in what was read so far."""
        return any(self._database.neighbours(each).before is None for each in attempts)

    def _periods(self, attempts: Sequence[KnownAttempt]) -> tuple[tuple[float, float], ...]:
        """Return the periods to request: first those of doubts, then those of far witnesses.

        For a far witness only its own time is requested, and only if there is a witness on the
        other side, too: nothing is proven absent without both.
        """
        found: list[tuple[float, float]] = []
        far: list[tuple[float, float]] = []
        for each in attempts:
            first, last = each.times
            near = self._database.neighbours(each)
            times = [at for at in near.times if first - NEAR <= at <= last + NEAR]
            ends = near.until if near.after in times else last
            ended_by = near.ended_by(first, last)
            spans = [(first, max(ended_by + self._after, ends)), *((at, at) for at in times)]
            if near.before is not None and near.after is not None:
                spans.append(near.around(first, last))
                far += [(at, at + self._after) for at in near.times if at not in times]
            period = hull(spans)
            if listed := listed_of(self.doubts[each.message].record):
                # These are by the provider's clock, and the request assumes times by this one.
                since, until = listed[0] + CLOCKS_APART, listed[1] - CLOCKS_APART
                period = hull([period, (since, until)])
            found.append(period)
        starts = [since for since, _ in periods_of(found)]

        def is_of_witness(period: tuple[float, float]) -> bool:
            return not any(period[0] <= start <= period[1] for start in starts)

        # Requests are limited, and a doubt that is listed needs no witness.
        return tuple(sorted(periods_of(found + far), key=is_of_witness))
