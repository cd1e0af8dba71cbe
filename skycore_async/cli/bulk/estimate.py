"""The estimate of a bulk send: how many rows, how many segments, how much, how long.

Strategy: a `Survey` is shown every row once, and keeps counts and the first few examples of each
kind, so that it is as small for a million rows as for ten.  It returns an `Estimate`, a value that
`preview` puts into lines for people.

Rules:

* Segments, costs and countries are those of the messages that would be sent.  Rows with a recorded
  outcome are only counted, by the kind of that outcome.
* A row with no value for a column that the text names stops the run before it begins: nobody knows
  what was meant.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import attrs

from ...protocol.numbers import country_code
from ...protocol.segments import Encoding, describe, is_one_of_gsm, segments
from ..ui.outcome_kinds import OutcomeKind
from .hours_survey import HoursSeen, HoursSurvey
from .resemblance import Sketch
from .rows import JudgedRow, MessageRow, RejectedRow, RejectionKind

_EXAMPLES: Final = 5
_CHARACTERS: Final = 8

_segments = functools.lru_cache(maxsize=16)(segments)  # many rows may have one text


@attrs.frozen(kw_only=True)
class Example:
    """A row, by its line number, and why it is an example."""

    line: int
    reason: str


@attrs.frozen(kw_only=True)
class Refusals:
    """How many rows are refused for one kind of reason, with the first few of them."""

    count: int
    first: tuple[Example, ...]


@attrs.frozen(kw_only=True)
class Share:
    """The messages that go out in one encoding; `longest` is the most segments of one of them."""

    messages: int
    segments: int
    longest: int
    longest_line: int


@attrs.frozen(kw_only=True)
class Forcing:
    """A character that GSM 03.38 lacks, and how many messages need UCS-2 for it."""

    character: str
    messages: int
    first_line: int

    @property
    def name(self) -> str:
        """The name of the character, after the character itself where it is printable."""
        shown = f"{self.character} " if self.character.isprintable() else ""
        return shown + describe(self.character)


@attrs.frozen(kw_only=True)
class TenDigits:
    """How many numbers have ten digits and no +, as numbers are written in America.

    `countries` counts them by the country code that they have as they stand, most first.
    """

    count: int
    first_line: int
    countries: dict[str, int]


@attrs.frozen(kw_only=True)
class Estimate:
    """What a bulk send would do.

    `messages` counts the rows that are messages: `to_send` go out now, and `known` have a recorded
    outcome, by its kind.  `held_back` counts messages beyond the limit of this run, which later
    runs send.  `revived` counts the messages that a file of rejects calls in doubt and the ledger
    knows as not sent, `settled` those that the ledger knows as sent.  `resent` counts those of
    `to_send` that may have been sent before.  `segments` are those of the messages that go out,
    and `doubtful_segments` those of the messages in doubt.  `countries` counts the messages to
    each country code, most first.  `hours` says whom the hours of sending hold up, where there are
    any.
    """

    rows: int
    messages: int
    to_send: int
    known: dict[OutcomeKind, int]
    held_back: int
    resent: int
    revived: int
    settled: int
    refused: dict[RejectionKind, Refusals]
    countries: dict[str, int]
    ten_digits: TenDigits | None
    hours: HoursSeen | None
    segments: int
    doubtful_segments: int
    encodings: dict[Encoding, Share]
    forcing: tuple[Forcing, ...]
    sample: Example | None
    price: Decimal | None
    rate: float | None

    @property
    def cost(self) -> Decimal | None:
        """What the segments cost; None where the price is not known."""
        return None if self.price is None else self.price * self.segments

    @property
    def seconds(self) -> float | None:
        """Seconds until all messages are started; None where the rate is not known."""
        return None if self.rate is None else self.to_send / self.rate

    @property
    def numbers(self) -> dict[str, Any]:
        """The counts of recipients' numbers, for programs."""
        ten = self.ten_digits
        return {
            "countries": self.countries,
            "ten_digits": None if ten is None else attrs.asdict(ten),
        }

    def count(self, kind: RejectionKind) -> int:
        """Return how many rows are refused for that kind of reason."""
        return self.refused[kind].count if kind in self.refused else 0

    @property
    def in_doubt(self) -> int:
        """How many of the rows are in doubt."""
        return self.known.get(OutcomeKind.IN_DOUBT, 0) + self.count(RejectionKind.IN_DOUBT)

    def obstacle(self, max_segments: int | None, *, settles: bool = False) -> str | None:
        """Say why the run cannot begin, and what to do; None where it can.

        With `settles`, doubts are settled first, and all of them may turn out to be unsent.
        """
        if lacking := self.refused.get(RejectionKind.INCOMPLETE):
            lines = ", ".join(str(one.line) for one in lacking.first)
            more = ", ..." if lacking.count > len(lacking.first) else ""
            return (
                f"nothing was sent: rows lack what the text names, {lacking.count:,} in all, on"
                f" line {lines}{more} ({lacking.first[0].reason}): fill them in, or take them out"
            )
        if self.hours is not None and (why := self.hours.obstacle) is not None:
            return why
        if not self.rows:
            return "nothing was sent: there is no row below the first line, that of the columns"
        if not (self.messages or self.settled or (settles and self.in_doubt)):
            return "nothing was sent: no row has a message to send, for the reasons above"
        most = self.segments + (self.doubtful_segments if settles else 0)
        if max_segments is not None and most > max_segments:
            return over_the_bound(most, max_segments, is_sure=most == self.segments)
        return None


@attrs.define
class _SegmentCounter:
    """The messages that go out in one encoding, counted so far."""

    messages: int = 0
    segments: int = 0
    longest: int = 0
    longest_line: int = 0

    def add(self, segments: int, line: int) -> None:
        self.messages += 1
        self.segments += segments
        if segments > self.longest:
            self.longest, self.longest_line = segments, line


class Survey:
    """Count rows, of which the first `limit` messages are to be sent.

    `campaign` is the beginning of the keys that are made of numbers.
    """

    def __init__(
        self,
        limit: int | None = None,
        hours: HoursSurvey | None = None,
        *,
        campaign: str = "",
    ) -> None:
        self._campaign = campaign
        self._hours = hours
        self._limit = math.inf if limit is None else limit
        self._to_send = 0
        self._held_back = 0
        self._resent = 0
        self._rows = 0
        self._refused: dict[RejectionKind, list[Example]] = {}
        self._counts: Counter[RejectionKind] = Counter()
        self._gsm = _SegmentCounter()
        self._counters = {Encoding.GSM_7: self._gsm, Encoding.UCS_2: _SegmentCounter()}
        self._forcing: Counter[str] = Counter()
        self._first: dict[str, int] = {}
        self._sample: Example | None = None
        self._prefixes: Counter[str] = Counter()
        self._ten_digits: Counter[str] = Counter()
        self._ten_digits_line = 0
        self._known: Counter[OutcomeKind] = Counter()
        self._doubtful_segments = 0
        self.sketch = Sketch()
        self.revived = 0
        self.settled = 0

    def see_known(self, judged: MessageRow, kind: OutcomeKind) -> None:
        """Count a message by the kind of its recorded outcome."""
        self._rows += 1
        self._known[kind] += 1
        if kind is OutcomeKind.IN_DOUBT:
            self._doubtful_segments += _segments(judged.message.text).count

    def see(self, judged: JudgedRow, *, in_doubt: bool = False) -> None:
        """Count a row that has no recorded outcome, or is `in_doubt` and to be sent again."""
        self._rows += 1
        if isinstance(judged, RejectedRow):
            if judged.kind is RejectionKind.IN_DOUBT and judged.message is not None:
                self._doubtful_segments += _segments(judged.message.text).count
            self._counts[judged.kind] += 1
            examples = self._refused.setdefault(judged.kind, [])
            if len(examples) < _EXAMPLES:
                examples.append(Example(line=judged.row.line, reason=judged.reason))
            return
        if self._to_send >= self._limit:
            self._held_back += 1
            return
        self._to_send += 1
        self._resent += in_doubt
        to, text = judged.message.to, judged.message.text
        key = judged.message.key or ""
        self.sketch.add(to, text, key, is_by_number=key == f"{self._campaign}:{to}")
        self._see_text(text, judged.row.line)
        if self._hours is not None:
            self._hours.see(judged)
        prefix = to[:3]  # it includes the country code
        self._prefixes[prefix] += 1
        if judged.looks_american:
            self._ten_digits[prefix] += 1
            self._ten_digits_line = self._ten_digits_line or judged.row.line

    def _see_text(self, text: str, line: int) -> None:
        self._sample = self._sample or Example(line=line, reason=text)
        if is_one_of_gsm(text):
            self._gsm.add(1, line)
            return
        cut = _segments(text)
        self._counters[cut.encoding].add(cut.count, line)
        for character in {one.character for one in cut.forced_ucs2}:
            self._forcing[character] += 1
            self._first.setdefault(character, line)

    def _seen_ten_digits(self) -> TenDigits | None:
        if not self._ten_digits:
            return None
        return TenDigits(
            count=self._ten_digits.total(),
            first_line=self._ten_digits_line,
            countries=_countries(self._ten_digits),
        )

    def estimate(self, *, price: Decimal | None = None, rate: float | None = None) -> Estimate:
        """Return the estimate, at `price` a segment and `rate` messages a second."""
        return Estimate(
            rows=self._rows,
            messages=self._to_send + self._known.total(),
            to_send=self._to_send,
            known={kind: self._known[kind] for kind in OutcomeKind if self._known[kind]},
            held_back=self._held_back,
            resent=self._resent,
            revived=self.revived,
            settled=self.settled,
            refused={
                kind: Refusals(count=self._counts[kind], first=tuple(self._refused[kind]))
                for kind in RejectionKind
                if kind in self._refused
            },
            countries=_countries(self._prefixes),
            ten_digits=self._seen_ten_digits(),
            hours=None if self._hours is None else self._hours.seen(),
            segments=sum(counter.segments for counter in self._counters.values()),
            doubtful_segments=self._doubtful_segments,
            encodings={
                encoding: Share(**attrs.asdict(counter))
                for encoding, counter in self._counters.items()
                if counter.messages
            },
            forcing=tuple(
                Forcing(character=one, messages=count, first_line=self._first[one])
                for one, count in self._forcing.most_common(_CHARACTERS)
            ),
            sample=self._sample,
            price=price,
            rate=rate,
        )


def _countries(prefixes: Mapping[str, int]) -> dict[str, int]:
    """Return how many numbers have each country code, most first."""
    countries: Counter[str] = Counter()
    for digits, count in prefixes.items():
        countries[country_code(digits)] += count
    return dict(countries.most_common())


def over_the_bound(segments: int, most: int, *, is_sure: bool = True) -> str:
    """Say that nothing was sent, as too many segments would be needed, or could, if not sure."""
    would = "would" if is_sure else "could"
    return (
        f"nothing was sent: it {would} take {segments:,} segments, and --max-segments is {most:,}"
    )


def duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, second = divmod(math.ceil(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
