"""The attempts of a ledger and the rows of a report, as values to match.  No I/O, no storage.

Rule: an attempt and a row are alike if number, text and sender may be the same.  A field that is
unknown, or that a report may show in another form, does not tell them apart.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

import attrs

from ..protocol.numbers import SHORTEST, is_name, is_sender, may_be_same
from .settlement import CLOCKS_APART, SETTLE_WITHIN


class Role(enum.IntEnum):
    """What is known about an attempt: taken, in doubt until a report decides, or perhaps taken."""

    ACCEPTED = 1
    DOUBTFUL = 2
    POSSIBLE = 3


@attrs.frozen(kw_only=True)
class KnownAttempt:
    """An attempt that was taken or may have been; `id` is the caller's name for it.

    Times are in seconds since 1970; `started_at` is 0 if it is not known.  `text` is the digest
    of its text, None if the text is not known.  If several attempts of one `message` are alike,
    the message was sent if one of them was taken.  `turn` gives the order in which attempts
    began; see `attempts.turn_of`.
    """

    id: int
    message: int
    turn: int
    role: Role
    number: str
    text: bytes | None
    from_: str | None
    started_at: float
    ended_at: float
    history_id: str | None = None

    @property
    def times(self) -> tuple[float, float]:
        """The span in which it was under way, the earlier time first.

        If the clock was set back meanwhile, its end is before its start, and it is not known at
        which of the two the clock was right.
        """
        return min(self.started_at, self.ended_at), max(self.started_at, self.ended_at)

    @property
    def window(self) -> tuple[float, float]:
        """The span in which the provider took it by the provider's clock, if it did so at once."""
        if not self.started_at:
            return float("-inf"), self.ended_at + CLOCKS_APART
        first, last = self.times
        last = max(self.started_at, min(last, first + SETTLE_WITHIN))
        return first - CLOCKS_APART, last + CLOCKS_APART


@attrs.frozen(kw_only=True)
class ReportRow:
    """A message of a report about the time from `since` to `until`.

    `at` is the time of its first event, None if it still waits at the provider.  `is_unsure` is
    set if a row with other content has the same HISTORYID, and `is_extra` if an earlier row has
    the same HISTORYID and the same content, so that both may be one message.
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
    """Return whether two senders may be the same: a report may show a name for a short code."""
    return is_sender(one, other) or is_name(one) is not is_name(other)


def is_in(window: tuple[float, float], row: ReportRow) -> bool:
    """Return whether a row may be from within a window of time."""
    first, last = row.span
    return window[0] <= last and first <= window[1]


def is_of_its_time(attempt: KnownAttempt, row: ReportRow, after: float) -> bool:
    """Return whether a row may be of an attempt that waited for `after` seconds at most.

    If its row is from another time, the clock may have been wrong when the attempt and its
    neighbours began.
    """
    since, until = attempt.window
    return is_in((since, until + after), row)


def lateness(attempt: KnownAttempt, row: ReportRow) -> float:
    """Return by how many seconds a row is later than the end of its attempt; 0 if it is in time.

    The message waited so long, or the machine's clock was behind by so much.
    """
    late = row.span[0] - attempt.window[1]
    return late + CLOCKS_APART if late > 0 else 0.0


def fits(attempt: KnownAttempt, row: ReportRow) -> bool:
    """Return whether a row may be of an attempt that was taken at once."""
    return is_in(attempt.window, row) and is_row_of(attempt, row)


def without_repeats(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """Return the rows without those that two reports list, one at its end, one at its start.

    Other rows with the same HISTORYID and content are marked `is_extra`: they may be one message
    or several.
    """
    found: list[ReportRow] = []
    places: dict[tuple[object, ...], list[int]] = {}
    contents: dict[str, set[tuple[object, ...]]] = {}
    for row in rows:
        kept = row
        if row.history_id:
            content = (row.number, row.text, row.from_)
            contents.setdefault(row.history_id, set()).add(content)
            known = places.setdefault((row.history_id, *content), [])
            if any(_is_repeated(found[place], row) for place in known):
                continue
            kept = attrs.evolve(row, is_extra=bool(known))
            known.append(len(found))
        found.append(kept)
    return [
        attrs.evolve(row, is_unsure=True) if len(contents.get(row.history_id, ())) > 1 else row
        for row in found
    ]


def _is_repeated(known: ReportRow, row: ReportRow) -> bool:
    """Return whether two reports list one message; rows that still wait may be of two messages."""
    is_of_one_report = (known.since, known.until) == (row.since, row.until)
    return not is_of_one_report and row.at is not None and known.at == row.at


def apart(
    attempts: list[KnownAttempt], rows: list[ReportRow]
) -> Iterator[tuple[list[KnownAttempt], list[ReportRow]]]:
    """Yield groups of attempts and rows whose numbers may be the same.

    Numbers are compared backwards: a number without its country code ends the number with it, so
    that reversed it is a prefix.
    """
    numbers = [each.number for each in attempts] + [each.number for each in rows]
    backwards = sorted({number.lstrip("0")[::-1] for number in numbers})
    groups: dict[str, int] = {}
    shortest = ""
    for number in backwards:
        if len(shortest) < SHORTEST or not number.startswith(shortest):
            shortest = number
        groups[number] = groups.get(shortest, len(groups))
    parts: dict[int, tuple[list[KnownAttempt], list[ReportRow]]] = {}
    for attempt in attempts:
        group = groups[attempt.number.lstrip("0")[::-1]]
        parts.setdefault(group, ([], []))[0].append(attempt)
    for row in rows:
        if (group := groups[row.number.lstrip("0")[::-1]]) in parts:
            parts[group][1].append(row)
    yield from parts.values()
