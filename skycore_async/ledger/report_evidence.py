"""Decides when a missing row in a sending report proves an attempt not taken.  No I/O, no storage.

Rules:

* The report is complete, covers the time from before the attempt to long after it, and was made
  after that: a provider may list late what it took.
* There is a witness on each side: the accepted message that was begun last before the attempt, and
  the one that was begun first after its end.  The report lists both, and all accepted messages
  between them, except those that were in doubt before, as their rows may be of other messages.
* The witnesses are before and after the attempt by the clock as well as by turn.  So it was sent
  between them, whatever the clock showed, and the report has to cover all of that time.  Where
  clock and turns agree, a day of it is enough.
* The report was made long after the attempt, even if the clock was wrong.  Where clock and turns
  do not agree, the wait is counted from the witness after the attempt, plus the time by which a
  witness is listed late.
* Even if no witnesses are required, the next accepted messages count: a report that
  covers their times, and lists none of them, is of another account.
* Without proof a doubt stays open, for a reason that says what would end it.
* If a row that one report listed leaves a doubt open, a later report has to cover the time of that
  row as well.  Otherwise the row would be forgotten, and the doubt ended for lack of it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterable, Sequence
from types import MappingProxyType
from typing import Final

import attrs

from .settlement import CLOCKS_APART

AFTER: Final = 3600.0  # seconds past the end of an exchange that a report has to cover
# The attempt was sent within so many seconds, if nothing shows that the clock was wrong.
NEAR: Final = 86_400.0
_APART: Final = 3600.0  # seconds: spans closer than this are requested as one period
_FIRST_PAUSE: Final = 60.0  # seconds after a look-up that was refused as too often, then doubled
_LONGEST_PAUSE: Final = 3600.0


class OpenReason(enum.StrEnum):
    """Why a report does not end a doubt; `words` say why, and what would end it."""

    NOT_COVERED = "not_covered"
    NO_REPORT = "no_report"
    TOO_SOON = "too_soon"
    NO_WITNESS_BEFORE = "no_witness_before"
    NO_WITNESS_AFTER = "no_witness_after"
    WITNESS_MISSING = "witness_missing"
    ALIKE = "alike"
    LATE_ROW = "late_row"
    SENT_BY_OTHERS = "sent_by_others"
    ANOTHER_TEXT = "another_text"
    WITHOUT_NUMBER = "without_number"
    OLDER_VERSION = "older_version"
    CROWDED = "crowded"
    FORGOTTEN = "forgotten"
    UNDER_WAY = "under_way"
    CHANGED = "changed"
    ASKED_TOO_OFTEN = "asked_too_often"

    @property
    def words(self) -> str:
        """The reason as a text that follows "it stays in doubt:"."""
        return _WORDS[self]


_WORDS: Final = MappingProxyType(
    {
        OpenReason.NOT_COVERED: "no complete report covers its time",
        OpenReason.NO_REPORT: "there was no report of its time, or not all of one",
        OpenReason.TOO_SOON: "the report ends or was made too soon after it",
        OpenReason.NO_WITNESS_BEFORE: (
            "no message that was accepted before it shows that the report lists that time"
        ),
        OpenReason.NO_WITNESS_AFTER: (
            "no message that was accepted after it shows that the report lists that time: it can"
            " be ended once one was"
        ),
        OpenReason.WITNESS_MISSING: (
            "a message of its time that was accepted is not in the report, or not surely"
        ),
        OpenReason.ALIKE: (
            "the same text to the same number was accepted at the same time, or may have been:"
            " whose a message of the report is cannot be told"
        ),
        OpenReason.LATE_ROW: (
            "the report lists the same text to the same number at a later time, which may be it"
        ),
        OpenReason.SENT_BY_OTHERS: (
            "the report lists the same text to the same number more often than it was sent here"
        ),
        OpenReason.ANOTHER_TEXT: (
            "the report lists another text to its number at its time, or its own before it, which"
            " was not sent here and may be it"
        ),
        OpenReason.WITHOUT_NUMBER: "a report lists a message without its number, which may be it",
        OpenReason.OLDER_VERSION: (
            "it was begun by an older version, which kept too little to show that it is missing"
        ),
        OpenReason.CROWDED: "too much was sent to its number to tell it apart",
        OpenReason.FORGOTTEN: "the ledger has forgotten what else was sent at its time",
        OpenReason.UNDER_WAY: "it is being sent, or whoever sends it may still be alive",
        OpenReason.CHANGED: "it was sent again or settled while the report was read",
        OpenReason.ASKED_TOO_OFTEN: ("the provider limits how often it is asked for a report"),
    }
)


# Reasons that end with time alone.
_IN_TIME: Final = frozenset(
    {OpenReason.TOO_SOON, OpenReason.NO_WITNESS_AFTER, OpenReason.ASKED_TOO_OFTEN}
)


# Reasons that come from rows which may be of the doubt: a later report must list those rows again.
BY_ROWS: Final = frozenset(
    {
        OpenReason.LATE_ROW,
        OpenReason.SENT_BY_OTHERS,
        OpenReason.ANOTHER_TEXT,
        OpenReason.WITHOUT_NUMBER,
        OpenReason.ALIKE,
        OpenReason.CROWDED,
    }
)


def not_before(
    reason: OpenReason, ended_at: float, *, after: float, next_at: float
) -> float | None:
    """Return when a doubt can end at the earliest, in seconds since 1970; None if that is unknown.

    `ended_at` is the end of its attempts, and `next_at` when a report may be requested again.
    """
    if reason not in _IN_TIME:
        return None
    is_refused = reason is OpenReason.ASKED_TOO_OFTEN
    return max(ended_at + after, next_at if is_refused else 0.0)


@attrs.frozen(kw_only=True)
class ReportPeriod:
    """The period that a report covers, and when it was made, in seconds since 1970."""

    since: float
    until: float
    made_at: float


@attrs.frozen(kw_only=True)
class Witnesses:
    """The witnesses that show whether a report lists the time of an attempt.

    `before` and `after` say whether there is a witness on that side, and `all_present` whether all
    witnesses from the first to the last are surely in the report.  `late` is by how many seconds
    the report lists those two late.
    """

    before: bool
    after: bool
    all_present: bool
    late: float = 0.0


@attrs.frozen(kw_only=True)
class Neighbours:
    """When the witnesses next to an attempt were begun; None for a missing one.

    The witness after the attempt had ended by `until`.  With `is_in_order`, clock and turns agree
    for all attempts that were begun near it.
    """

    before: float | None
    after: float | None
    until: float
    is_in_order: bool = True

    @property
    def times(self) -> list[float]:
        """The times of the witnesses that exist."""
        return [at for at in (self.before, self.after) if at is not None]

    def around(self, since: float, until: float) -> tuple[float, float]:
        """Return the span in which an attempt was sent if its clock showed `since` to `until`."""
        far = NEAR if self.is_in_order else math.inf
        before = -math.inf if self.before is None else self.before
        after = math.inf if self.after is None else self.after
        return max(before, since - far), min(after + until - since, until + far)

    def ended_by(self, since: float, until: float) -> float:
        """Return by when an attempt had ended if its clock showed `since` to `until`."""
        if self.is_in_order or self.after is None:
            return until
        return max(until, self.around(since, until)[1])

    def listed_by(self, periods: Sequence[ReportPeriod], *, after: float) -> list[float]:
        """Return the times that complete reports cover and were made late enough to list."""
        return [
            at
            for at in self.times
            for each in joined(periods)
            if each.since <= at <= each.until and each.made_at >= at + after
        ]


def merged(times: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return spans of time, joined where they touch or overlap."""
    found: list[tuple[float, float]] = []
    for since, until in sorted(times):
        if found and since <= found[-1][1]:
            found[-1] = found[-1][0], max(until, found[-1][1])
        else:
            found.append((since, until))
    return found


def hull(times: Collection[tuple[float, float]]) -> tuple[float, float]:
    """Return the span from the first to the last of some spans."""
    return min(since for since, _ in times), max(until for _, until in times)


def periods_of(times: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return the periods to request for these spans, in whole seconds by the provider's clock.

    Spans that are less than an hour apart share a period.
    """
    near = merged((since - CLOCKS_APART, until + CLOCKS_APART + _APART) for since, until in times)
    return tuple(
        (float(math.floor(since)), float(math.ceil(until - _APART))) for since, until in near
    )


def period_for(
    times: Collection[tuple[float, float]], around: Iterable[tuple[float, float]], *, after: float
) -> ReportPeriod:
    """Return the least period that a report has to cover to prove attempts absent.

    `times` has the start and the end of each attempt by its clock, and `around` the span in which
    it was sent.  `made_at` of the result is the earliest time at which the report may be made.
    """
    first, last = hull(times)
    near = first - CLOCKS_APART, last + max(after, CLOCKS_APART)
    since, until = hull([near, *around])
    return ReportPeriod(since=since, until=until, made_at=last + after)


def is_within(period: ReportPeriod, most: ReportPeriod) -> bool:
    """Return whether a report of the period `most` covers this period, and was made after it."""
    return (
        most.since <= period.since
        and period.until <= most.until
        and period.made_at <= most.made_at
    )


def joined(periods: Sequence[ReportPeriod]) -> list[ReportPeriod]:
    """Return the periods of complete reports, joined where they touch or overlap."""
    return [
        ReportPeriod(
            since=since,
            until=until,
            made_at=min(each.made_at for each in periods if since <= each.since <= until),
        )
        for since, until in merged((each.since, each.until) for each in periods)
    ]


def covers(periods: Sequence[ReportPeriod], since: float, until: float) -> bool:
    """Return whether complete reports cover all of a span of time."""
    return any(each.since <= since and until <= each.until for each in joined(periods))


def why_not_covered(
    started_at: float,
    ended_at: float,
    periods: Sequence[ReportPeriod],
    *,
    after: float,
    late: float = 0.0,
) -> OpenReason | None:
    """Return why complete reports are no proof about this time; None if they may be proof.

    If rows may be listed `late` seconds late, the reports must be made that much later.
    """
    for period in joined(periods):
        if period.since <= started_at - CLOCKS_APART and period.until > started_at:
            is_long_enough = period.until >= ended_at + max(after, CLOCKS_APART)
            is_late_enough = period.made_at >= ended_at + after + late
            return None if is_long_enough and is_late_enough else OpenReason.TOO_SOON
    return OpenReason.NOT_COVERED


def why_not_between(
    near: Neighbours,
    times: tuple[float, float],
    periods: Sequence[ReportPeriod],
    *,
    after: float,
    late: float,
) -> OpenReason | None:
    """Return why reports are no proof about the whole span in which an attempt was sent.

    Returns None if they may be proof.
    """
    if not covers(periods, *near.around(*times)):
        return OpenReason.NOT_COVERED
    return why_not_covered(times[0], near.ended_by(*times), periods, after=after, late=late)


def why_no_report(
    reason: OpenReason, *, is_over: bool, has_problem: bool, is_refused: bool
) -> OpenReason:
    """Return why no complete report covers an attempt; with `is_over` one could be had now."""
    if reason is OpenReason.TOO_SOON and not is_over:
        return reason
    if has_problem:
        return OpenReason.NO_REPORT
    return OpenReason.ASKED_TOO_OFTEN if is_refused else reason


def why_not_witnessed(witnesses: Witnesses) -> OpenReason | None:
    """Return why witnesses do not show that a report lists a time; None if they do."""
    if not witnesses.before:
        return OpenReason.NO_WITNESS_BEFORE
    if not witnesses.after:
        return OpenReason.NO_WITNESS_AFTER
    return None if witnesses.all_present else OpenReason.WITNESS_MISSING


def next_report_request(requests: Sequence[tuple[float, bool, float]], *, now: float) -> float:
    """Return when the provider may be asked for a report again.

    `requests` has the latest requests, the last one first: when each was made, whether it was
    refused as too often, and for how many seconds the provider wanted no other.  The limit is a
    setting of the account that cannot be read, so the pause doubles with each refusal.  A request
    in the future was made by a wrong clock, and is ignored: it would count until then.
    """
    known = [each for each in requests if each[0] <= now + CLOCKS_APART]
    refused = 0
    while refused < len(known) and known[refused][1]:
        refused += 1
    if not refused:
        return 0.0
    asked_at, _, retry_after = known[0]
    pause = min(_FIRST_PAUSE * 2.0 ** (refused - 1), _LONGEST_PAUSE)
    return asked_at + max(pause, retry_after)
