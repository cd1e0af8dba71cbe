"""The attempts of a ledger and the rows of a report, as they are matched.  No I/O, no storage.

Rule: an attempt and a row are alike where number, text and sender may be the same.  What is not
known of either, or can be shown in another way, tells nothing apart.
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

    Times are in seconds since 1970; `started_at` is 0 where it is not known.  `text` is the
    digest of its text, None if that is not known.  Of the attempts of one `message` that are
    alike one is enough to have been taken.  `turn` tells in what order they began, as
    `attempts.turn_of` has it.
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

    `at` is the first that was said of it, None if it waits at the provider.  `is_unsure` is
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


def is_of_its_time(attempt: KnownAttempt, row: ReportRow, after: float) -> bool:
    """Return whether a row may be of an attempt that waited for `after` seconds at most.

    Where its row is of another time, the clock may have been wrong as it began, and as its
    neighbours did.
    """
    since, until = attempt.window
    return is_in((since, until + after), row)


def lateness(attempt: KnownAttempt, row: ReportRow) -> float:
    """Return by how much later than its attempt ended a row is, beyond what clocks are apart.

    It waited, or the machine's clock was behind by that.
    """
    late = row.span[0] - attempt.window[1]
    return late + CLOCKS_APART if late > 0 else 0.0


def fits(attempt: KnownAttempt, row: ReportRow) -> bool:
    """Return whether a row may be of an attempt that was taken at once."""
    return is_in(attempt.window, row) and is_row_of(attempt, row)


def without_repeats(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """Return rows, each once: what two reports list at the end of one and start of the next.

    Others of the same name and content are extra: it is unsure whether they are more than one.
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
    """Return whether two reports list one message: what waits may be another, and comes apart."""
    is_of_one_report = (known.since, known.until) == (row.since, row.until)
    return not is_of_one_report and row.at is not None and known.at == row.at


def apart(
    attempts: list[KnownAttempt], rows: list[ReportRow]
) -> Iterator[tuple[list[KnownAttempt], list[ReportRow]]]:
    """Yield attempts and rows of numbers that may be the same, apart from all others.

    Read backwards, a number begins as those do that it ends.
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
