"""The attempts of a ledger and the rows of a report, as they are matched.  No I/O, no storage.

Rule: an attempt and a row are alike where number, text and sender may be the same.  What is not
known of either, or can be shown in another way, tells nothing apart.
"""

from __future__ import annotations

import enum

import attrs

from ..protocol.numbers import may_be_same
from .settlement import CLOCKS_APART, SETTLE_WITHIN, is_name, is_sender


class Role(enum.IntEnum):
    """What is known of an attempt: it was taken, it is to be found out, or neither."""

    ACCEPTED = 1
    DOUBTFUL = 2
    POSSIBLE = 3


@attrs.frozen(kw_only=True)
class KnownAttempt:
    """An attempt that was taken or may have been; `id` is the caller's name for it.

    Times are in seconds since 1970; `started_at` is 0 where it is not known.  `text` is the
    digest of its text, None where that is not known.  Of the attempts of one `message` that
    are alike one is enough to have been taken.
    """

    id: int
    message: int
    role: Role
    number: str
    text: bytes | None
    from_: str | None
    started_at: float
    ended_at: float
    history_id: str | None = None

    @property
    def times(self) -> tuple[float, float]:
        """From when to when it was under way: it ends before it starts where a clock was set back.

        By which of the two the clock was right is not known.
        """
        return min(self.started_at, self.ended_at), max(self.started_at, self.ended_at)

    @property
    def window(self) -> tuple[float, float]:
        """When the provider's clock may have shown that it took it, if it took it at once."""
        if not self.started_at:
            return float("-inf"), self.ended_at + CLOCKS_APART
        first, last = self.times
        last = max(self.started_at, min(last, first + SETTLE_WITHIN))
        return first - CLOCKS_APART, last + CLOCKS_APART


@attrs.frozen(kw_only=True)
class ReportRow:
    """A message of a report about the time from `since` to `until`.

    `at` is the first that was said of it, None where it waits at the provider.  `is_unsure` is
    set where one with other content has its HISTORYID, and `is_extra` where one before has its
    content, too, so that it may be the same.
    """

    history_id: str
    number: str
    text: bytes
    from_: str | None
    at: float | None
    since: float
    until: float
    is_unsure: bool = False
    is_extra: bool = False

    @property
    def span(self) -> tuple[float, float]:
        """When it may have been sent, as far as the report says."""
        return (self.since, self.until) if self.at is None else (self.at, self.at)


def is_alike(attempt: KnownAttempt, number: str, text: bytes, from_: str | None) -> bool:
    """Return whether a report shows an attempt as one with this number, text and sender."""
    return (
        (attempt.text is None or attempt.text == text)
        and may_be_same(attempt.number, number)
        and (from_ is None or attempt.from_ is None or _may_be_from(from_, attempt.from_))
    )


def is_row_of(attempt: KnownAttempt, row: ReportRow) -> bool:
    """Return whether a report shows an attempt as this row."""
    return is_alike(attempt, row.number, row.text, row.from_)


def _may_be_from(one: str, other: str) -> bool:
    """Return whether two senders may be one: of a short code that is masked a name is shown."""
    return is_sender(one, other) or is_name(one) is not is_name(other)


def is_in(window: tuple[float, float], row: ReportRow) -> bool:
    """Return whether a row may be of a time."""
    first, last = row.span
    return window[0] <= last and first <= window[1]


def fits(attempt: KnownAttempt, row: ReportRow) -> bool:
    """Return whether a row may be of an attempt that was taken at once."""
    return is_in(attempt.window, row) and is_row_of(attempt, row)
