"""When it is proof that a sending report lacks an attempt.  No I/O, no storage.

Rules:

* The report is complete, covers from before the attempt to long after it, and was made after
  that: a provider may take its time to list what it took.
* Witnesses stand on both sides: the message that was begun next before the attempt and was
  accepted, and the one next after its end.  Both are in the report, and all that were accepted
  and begun between them; but for those that were in doubt before, whose row may be another's.
* They are before and after it by the clock as well as in the order of beginning.  Whatever the
  clock showed then, it was sent between them: the report is about all of that time.  Where these
  two orders agree no more of it is needed than a day.
* A report was made long after it also by a clock that was wrong: where these two orders do not
  agree, after the one next after it was begun, and by as much later as a witness was listed late.
* Where no witnesses are asked for, the next accepted messages count all the same: a report that is
  about their times, and has none of them, is of another account.
* What is not proof leaves a doubt open, for a reason that says what would end it.
* What one report listed, and left a doubt open by that, a later one has to be about as well:
  else it would be forgotten, and the doubt ended for lack of it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterable, Sequence
from types import MappingProxyType
from typing import Final

import attrs

from .settlement import CLOCKS_APART

AFTER: Final = 3600.0  # seconds past the end of an exchange that a report covers
# Seconds from an attempt at which it may have been sent, by a clock that nothing shows as wrong.
NEAR: Final = 86_400.0
_APART: Final = 3600.0  # seconds between times that are asked for at once
_FIRST_PAUSE: Final = 60.0  # seconds after a look-up that was refused as too often, then doubled
_LONGEST_PAUSE: Final = 3600.0


class OpenReason(enum.StrEnum):
    """Why a report does not end a doubt; `words` say it, and what would."""

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
        """The reason, in words that follow "it stays in doubt:"."""
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


# What time alone brings nearer, as far as the times of a report go.
_IN_TIME: Final = frozenset(
    {OpenReason.TOO_SOON, OpenReason.NO_WITNESS_AFTER, OpenReason.ASKED_TOO_OFTEN}
)


# Where what a report lists may be of the doubt: to end it, this must be known again.
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
    """Return when a doubt can be ended at the earliest, in seconds since 1970; None for unknown.

    `ended_at` is the end of its attempts, and `next_at` when a report may be asked for again.
    """
    if reason not in _IN_TIME:
        return None
    is_refused = reason is OpenReason.ASKED_TOO_OFTEN
    return max(ended_at + after, next_at if is_refused else 0.0)


@attrs.frozen(kw_only=True)
class ReportPeriod:
    """The time that a report is about, and when it was made, in seconds since 1970."""

    since: float
    until: float
    made_at: float


@attrs.frozen(kw_only=True)
class Witnesses:
    """What shows that a report lists the time of an attempt.

    Whether there is a message before and one after it that was accepted, and whether all
    from the one to the other surely are in the report; by how much these two are listed `late`.
    """

    before: bool
    after: bool
    all_present: bool
    late: float = 0.0


@attrs.frozen(kw_only=True)
class Neighbours:
    """When the messages next to an attempt were begun that were accepted; None for none.

    The one after it had ended by `until`.  With `is_in_order` nothing near was begun before it by
    one clock and after it in the order of beginning, or the other way round.
    """

    before: float | None
    after: float | None
    until: float
    is_in_order: bool = True

    @property
    def times(self) -> list[float]:
        """The times that there are."""
        return [at for at in (self.before, self.after) if at is not None]

    def around(self, since: float, until: float) -> tuple[float, float]:
        """Return within which time an attempt was sent that was under way so by its clock."""
        far = NEAR if self.is_in_order else math.inf
        before = -math.inf if self.before is None else self.before
        after = math.inf if self.after is None else self.after
        return max(before, since - far), min(after + until - since, until + far)

    def ended_by(self, since: float, until: float) -> float:
        """Return when an attempt had ended that was under way so by its clock."""
        if self.is_in_order or self.after is None:
            return until
        return max(until, self.around(since, until)[1])

    def listed_by(self, periods: Sequence[ReportPeriod], *, after: float) -> list[float]:
        """Return the times that complete reports are about, and late enough to list."""
        return [
            at
            for at in self.times
            for each in joined(periods)
            if each.since <= at <= each.until and each.made_at >= at + after
        ]


def merged(times: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return times, each from when to when, those as one that have none between them."""
    found: list[tuple[float, float]] = []
    for since, until in sorted(times):
        if found and since <= found[-1][1]:
            found[-1] = found[-1][0], max(until, found[-1][1])
        else:
            found.append((since, until))
    return found


def hull(times: Collection[tuple[float, float]]) -> tuple[float, float]:
    """Return from the first to the last of some times."""
    return min(since for since, _ in times), max(until for _, until in times)


def periods_of(times: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return what reports to ask for about these times, in whole seconds by the provider's clock.

    What is less than an hour apart is asked for at once.
    """
    near = merged((since - CLOCKS_APART, until + CLOCKS_APART + _APART) for since, until in times)
    return tuple(
        (float(math.floor(since)), float(math.ceil(until - _APART))) for since, until in near
    )


def period_for(
    times: Collection[tuple[float, float]], around: Iterable[tuple[float, float]], *, after: float
) -> ReportPeriod:
    """Return the least that a report has to be about, and from when, to be proof of attempts.

    `times` are when each began and ended by its clock, and `around` within which it was sent.
    """
    first, last = hull(times)
    near = first - CLOCKS_APART, last + max(after, CLOCKS_APART)
    since, until = hull([near, *around])
    return ReportPeriod(since=since, until=until, made_at=last + after)


def is_within(period: ReportPeriod, most: ReportPeriod) -> bool:
    """Return whether a report about `most` may be one about a period."""
    return (
        most.since <= period.since
        and period.until <= most.until
        and period.made_at <= most.made_at
    )


def joined(periods: Sequence[ReportPeriod]) -> list[ReportPeriod]:
    """Return periods of complete reports, those as one that leave no time between them."""
    return [
        ReportPeriod(
            since=since,
            until=until,
            made_at=min(each.made_at for each in periods if since <= each.since <= until),
        )
        for since, until in merged((each.since, each.until) for each in periods)
    ]


def covers(periods: Sequence[ReportPeriod], since: float, until: float) -> bool:
    """Return whether complete reports are about all of a time."""
    return any(each.since <= since and until <= each.until for each in joined(periods))


def why_not_covered(
    started_at: float,
    ended_at: float,
    periods: Sequence[ReportPeriod],
    *,
    after: float,
    late: float = 0.0,
) -> OpenReason | None:
    """Return why complete reports are no proof about this time; None where they may be.

    Of what may be `late` they have to be made by as much later.
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
    """Return why reports are no proof about all the time in which an attempt was sent."""
    if not covers(periods, *near.around(*times)):
        return OpenReason.NOT_COVERED
    return why_not_covered(times[0], near.ended_by(*times), periods, after=after, late=late)


def why_not_had(
    reason: OpenReason, *, is_over: bool, has_problem: bool, is_refused: bool
) -> OpenReason:
    """Return why no complete report covers an attempt; `is_over` where there could be one now."""
    if reason is OpenReason.TOO_SOON and not is_over:
        return reason
    if has_problem:
        return OpenReason.NO_REPORT
    return OpenReason.ASKED_TOO_OFTEN if is_refused else reason


def why_not_witnessed(witnesses: Witnesses) -> OpenReason | None:
    """Return why witnesses do not show that a report lists a time; None where they do."""
    if not witnesses.before:
        return OpenReason.NO_WITNESS_BEFORE
    if not witnesses.after:
        return OpenReason.NO_WITNESS_AFTER
    return None if witnesses.all_present else OpenReason.WITNESS_MISSING


def next_report_request(requests: Sequence[tuple[float, bool, float]], *, now: float) -> float:
    """Return when the provider may be asked for a report again.

    `requests` are the times of the last ones, the latest first, whether each was refused as too
    often, and for how many seconds it was not to be asked then.  How often is often is in an
    account's settings, and cannot be asked for: the pause doubles.  What was asked at a time that
    is yet to come was so by a clock that was wrong, and would count until then.
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
