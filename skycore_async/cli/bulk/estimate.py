"""What a bulk send would be: how many rows, how many segments, how much, how long.

Strategy: a `Survey` is given what was found of every row, once, and keeps counts and
the first few of each kind, so that it is as small for a million rows as for ten.
Its `Estimate` is a value, and `preview` says it in lines for people.

Rules:

* What the estimate counts is what would be sent, and nothing else.
* A row that lacks what the text names stops the run before it begins: nobody
  knows what was meant.
* Every example has its line number.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

import attrs

from ...protocol.numbers import country_code
from ...protocol.segments import Encoding, describe, segments
from ..ui.output import number_of
from .rows import JudgedRow, RejectedRow, RejectionKind

_EXAMPLES: Final = 5
_CHARACTERS: Final = 8
_COUNTRIES: Final = 8
_SHOWN: Final = 500  # characters of a text: a screen has to hold the rest of the estimate, too
_WIDTH: Final = 13  # of the words that lines begin with

_segments = functools.lru_cache(maxsize=16)(segments)  # many rows may have one text


@attrs.frozen(kw_only=True)
class Example:
    """A row, by its line, and what is to be said of it."""

    line: int
    reason: str


@attrs.frozen(kw_only=True)
class Refusals:
    """How many rows are refused for one kind of reason, and the first of them."""

    count: int
    first: tuple[Example, ...]


@attrs.frozen(kw_only=True)
class Share:
    """What goes out in one encoding; `longest` is the most segments of one message."""

    messages: int
    segments: int
    longest: int
    longest_line: int


@attrs.frozen(kw_only=True)
class Forcing:
    """A character that GSM 03.38 lacks, and how many messages it makes UCS-2."""

    character: str
    messages: int
    first_line: int

    @property
    def name(self) -> str:
        """Name the character, and show it where it can be shown."""
        shown = f"{self.character} " if self.character.isprintable() else ""
        return shown + describe(self.character)


@attrs.frozen(kw_only=True)
class TenDigits:
    """How many numbers have ten digits and no +, as American ones are written in America.

    `countries` are the country codes that they go to as they stand, the most first.
    """

    count: int
    first_line: int
    countries: dict[str, int]


@attrs.frozen(kw_only=True)
class Estimate:
    """What a bulk send would be.

    `countries` has how many messages go to each country code, the most first.
    """

    rows: int
    to_send: int
    refused: dict[RejectionKind, Refusals]
    countries: dict[str, int]
    ten_digits: TenDigits | None
    segments: int
    encodings: dict[Encoding, Share]
    forcing: tuple[Forcing, ...]
    sample: Example | None
    price: Decimal | None
    rate: float | None

    @property
    def cost(self) -> Decimal | None:
        """What all segments cost, where the price is known."""
        return None if self.price is None else self.price * self.segments

    @property
    def seconds(self) -> float | None:
        """How long it takes to start all messages, where the rate is known."""
        return None if self.rate is None else self.to_send / self.rate

    @property
    def numbers(self) -> dict[str, Any]:
        """What is said of the numbers, as names and values for programs."""
        ten = self.ten_digits
        return {
            "countries": self.countries,
            "ten_digits": None if ten is None else attrs.asdict(ten),
        }

    def count(self, kind: RejectionKind) -> int:
        """Return how many rows are refused for that kind of reason."""
        return self.refused[kind].count if kind in self.refused else 0

    def obstacle(self, max_segments: int | None) -> str | None:
        """Say why this cannot be begun, and what to do; None where it can."""
        if lacking := self.refused.get(RejectionKind.INCOMPLETE):
            lines = ", ".join(str(one.line) for one in lacking.first)
            more = ", ..." if lacking.count > len(lacking.first) else ""
            return (
                f"nothing was sent: rows lack what the text names, {lacking.count:,} in all, on"
                f" line {lines}{more} ({lacking.first[0].reason}): fill them in, or take them out"
            )
        if not self.to_send:
            return "nothing was sent: no row has a message to send"
        if max_segments is not None and self.segments > max_segments:
            return (
                f"nothing was sent: it would take {self.segments:,} segments, and --max-segments"
                f" is {max_segments:,}"
            )
        return None


class Survey:
    """See what each row is, and keep what matters of them all."""

    def __init__(self) -> None:
        self._rows = 0
        self._refused: dict[RejectionKind, list[Example]] = {}
        self._counts: Counter[RejectionKind] = Counter()
        self._shares: dict[Encoding, Share] = {}
        self._forcing: Counter[str] = Counter()
        self._first: dict[str, int] = {}
        self._sample: Example | None = None
        self._countries: Counter[str] = Counter()
        self._ten_digits: Counter[str] = Counter()
        self._ten_digits_line = 0

    def see(self, judged: JudgedRow) -> None:
        """Take one row into account."""
        self._rows += 1
        if isinstance(judged, RejectedRow):
            self._counts[judged.kind] += 1
            examples = self._refused.setdefault(judged.kind, [])
            if len(examples) < _EXAMPLES:
                examples.append(Example(line=judged.row.line, reason=judged.reason))
            return
        self._see_text(judged.message.text, judged.row.line)
        code = country_code(judged.message.to)
        self._countries[code] += 1
        if judged.looks_american:
            self._ten_digits[code] += 1
            self._ten_digits_line = self._ten_digits_line or judged.row.line

    def _see_text(self, text: str, line: int) -> None:
        self._sample = self._sample or Example(line=line, reason=text)
        cut = _segments(text)
        count = cut.count
        share = self._shares.get(cut.encoding) or Share(
            messages=0, segments=0, longest=0, longest_line=line
        )
        is_longest = count > share.longest
        self._shares[cut.encoding] = Share(
            messages=share.messages + 1,
            segments=share.segments + count,
            longest=count if is_longest else share.longest,
            longest_line=line if is_longest else share.longest_line,
        )
        for character in {one.character for one in cut.forced_ucs2}:
            self._forcing[character] += 1
            self._first.setdefault(character, line)

    def _seen_ten_digits(self) -> TenDigits | None:
        if not self._ten_digits:
            return None
        return TenDigits(
            count=self._ten_digits.total(),
            first_line=self._ten_digits_line,
            countries=dict(self._ten_digits.most_common()),
        )

    def estimate(self, *, price: Decimal | None = None, rate: float | None = None) -> Estimate:
        """Return what was seen, at `price` a segment and `rate` messages a second."""
        total = sum(share.segments for share in self._shares.values())
        to_send = sum(share.messages for share in self._shares.values())
        return Estimate(
            rows=self._rows,
            to_send=to_send,
            refused={
                kind: Refusals(count=self._counts[kind], first=tuple(self._refused[kind]))
                for kind in RejectionKind
                if kind in self._refused
            },
            countries=dict(self._countries.most_common()),
            ten_digits=self._seen_ten_digits(),
            segments=total,
            encodings={name: self._shares[name] for name in Encoding if name in self._shares},
            forcing=tuple(
                Forcing(character=one, messages=count, first_line=self._first[one])
                for one, count in self._forcing.most_common(_CHARACTERS)
            ),
            sample=self._sample,
            price=price,
            rate=rate,
        )


def preview(estimate: Estimate) -> Iterator[str]:
    """Say an estimate in lines, as they are printed before anything is sent."""
    yield _line("rows", f"{estimate.rows:,}")
    yield _line("  to send", f"{estimate.to_send:,}")
    for kind, refused in estimate.refused.items():
        yield _line(f"  {kind}", f"{refused.count:,}")
        for one in refused.first:
            yield f"    line {one.line}: {one.reason}"
        if refused.count > len(refused.first):
            yield f"    and {refused.count - len(refused.first):,} more"
    yield from _numbers(estimate)
    if estimate.sample is not None:
        # As Python writes it, since it may hold what would steer a terminal.
        text = estimate.sample.reason
        cut = f"{text[:_SHOWN]!r} and {len(text) - _SHOWN:,} characters more"
        shown = repr(text) if len(text) <= _SHOWN else cut
        yield _line("first text", f"{shown} (line {estimate.sample.line})")
    yield _line("segments", f"{estimate.segments:,}")
    for encoding, share in estimate.encodings.items():
        yield _line(f"  {encoding}", _share(share))
    if estimate.forcing:
        yield "UCS-2 takes more segments, and is needed for"
    for character in estimate.forcing:
        often = number_of(character.messages, "message")
        yield f"    {character.name}: {often}, first on line {character.first_line}"
    if estimate.cost is not None:
        yield _line("estimate", f"{estimate.cost:,.2f} at {estimate.price} a segment")
    if estimate.seconds is not None:
        yield _line("time", f"{duration(estimate.seconds)} at {estimate.rate:g} a second")


def _numbers(estimate: Estimate) -> Iterator[str]:
    if estimate.countries:
        yield _line("countries", _codes(estimate.countries, counted=True))
    if (ten := estimate.ten_digits) is not None:
        have = "number has" if ten.count == 1 else "numbers have"
        yield (
            f"{ten.count:,} {have} ten digits and no + (first on line {ten.first_line}): with"
            f" --country US they are American; without it they go to {_codes(ten.countries)}"
        )


def _codes(countries: dict[str, int], *, counted: bool = False) -> str:
    shown = [f"+{code} ({n:,})" if counted else f"+{code}" for code, n in countries.items()]
    more = len(shown) - _COUNTRIES
    return ", ".join(shown[:_COUNTRIES]) + (f" and {more:,} more" if more > 0 else "")


def _line(name: str, value: str) -> str:
    return f"{name:<{_WIDTH}} {value}"


def _share(share: Share) -> str:
    said = f"{share.segments:,} in {number_of(share.messages, 'message')}"
    if share.longest > 1:
        said += f", at most {share.longest} for one (line {share.longest_line})"
    return said


def duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, second = divmod(math.ceil(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
