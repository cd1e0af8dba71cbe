"""Counters that take any number of messages in bounded memory.  No I/O.

Rule: no table here grows beyond a fixed number of rows.  Beyond it, values are counted together,
or more coarsely.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

import attrs

from ...ledger.model import MessageState

MAX_ROWS: Final = 200  # of a table
OTHERS: Final = "others"
MAX_SLOTS: Final = 60  # columns of the chart over time; they fit a phone

# Each divides the next, so that columns can be joined.
_STEPS: Final = (1, 5, 15, 60, 300, 900, 3600, 10800, 21600, 43200, 86400, 604800)
DURATIONS: Final = (1, 2, 5, 10, 30, 60, 120, 300, 900, 3600, 21600, 86400)
_FINENESS: Final = 50  # classes for each power of ten: a quantile is 5 % off at most
# The most seconds of each class, from a millisecond to thirty years, and then for ever.  Those
# of `DURATIONS` are among them, so that each is within one of these.
_FINE: Final = sorted(
    {10 ** (index / _FINENESS) for index in range(-3 * _FINENESS, 9 * _FINENESS)}
    | set(map(float, DURATIONS))
    | {math.inf}
)

K = TypeVar("K")


class CappedCounter(Counter[K], Generic[K]):
    """Counts by key; keys beyond the first `MAX_ROWS` are counted together."""

    def __init__(self, others: K) -> None:
        super().__init__()
        self._others = others

    def add(self, key: K, messages: int) -> K:
        """Count so many, and return the key under which they are counted."""
        counted = key if key in self or len(self) < MAX_ROWS else self._others
        self[counted] += messages
        return counted

    def ranked(self) -> list[tuple[K, int]]:
        """Return the keys with their counts, most first, and the others at the end."""
        return sorted(self.most_common(), key=lambda pair: pair[0] == self._others)


@attrs.frozen(kw_only=True)
class Slot:
    """How many messages of each state were begun from `start` on."""

    start: datetime
    states: dict[MessageState, int]


@attrs.frozen(kw_only=True)
class DurationClass:
    """How many deliveries took up to so many seconds, and more than the class before."""

    up_to: int | None
    messages: int


@attrs.frozen(kw_only=True)
class DeliveryTime:
    """How long deliveries took, in seconds, and for how many that is known and unknown."""

    known: int
    unknown: int
    median: float | None
    p90: float | None
    p99: float | None
    distribution: list[DurationClass]


class TimelineCounter:
    """Counts states over time, in at most `MAX_SLOTS` columns however long the time is."""

    def __init__(self) -> None:
        self.step = _STEPS[0]
        self._least = math.inf
        self._most = -math.inf
        self._slots: dict[int, Counter[MessageState]] = {}

    @property
    def first(self) -> datetime | None:
        """When the first was begun."""
        return datetime.fromtimestamp(self._least, UTC) if self._slots else None

    @property
    def last(self) -> datetime | None:
        """When the last was begun."""
        return datetime.fromtimestamp(self._most, UTC) if self._slots else None

    def add(self, state: MessageState, messages: int, *, first: float, last: float) -> None:
        """Count so many messages that began within one step; times are seconds since 1970."""
        self._least, self._most = min(self._least, first), max(self._most, last)
        while self._most // self.step - self._least // self.step >= MAX_SLOTS:
            self._coarsen()
        self._slots.setdefault(int(first // self.step), Counter())[state] += messages

    def _coarsen(self) -> None:
        wider = next((step for step in _STEPS if step > self.step), self.step * 2)
        joined: dict[int, Counter[MessageState]] = {}
        for index, states in self._slots.items():
            joined.setdefault(index * self.step // wider, Counter()).update(states)
        self.step, self._slots = wider, joined

    def slots(self) -> Iterator[Slot]:
        """Return the columns in order, including empty ones."""
        for index in range(min(self._slots, default=0), max(self._slots, default=-1) + 1):
            start = datetime.fromtimestamp(index * self.step, UTC)
            yield Slot(start=start, states=dict(self._slots.get(index, {})))


class DurationCounter:
    """Counts how long deliveries took, in classes fine enough for quantiles."""

    def __init__(self) -> None:
        self._coarse: Counter[int] = Counter()
        self._fine: Counter[int] = Counter()

    def add(self, times: Iterable[float]) -> None:
        """Count deliveries by the seconds that they took."""
        # No Python object for each delivery: there may be millions.
        fine = Counter(map(functools.partial(bisect.bisect_left, _FINE), times))
        self._fine.update(fine)
        for index, messages in fine.items():
            self._coarse[bisect.bisect_left(DURATIONS, _FINE[index])] += messages

    def delivery_time(self, delivered: int) -> DeliveryTime:
        """Return the quantiles and the distribution of what was counted, of so many in all."""
        last, known = max(self._coarse, default=-1), self._coarse.total()
        return DeliveryTime(
            known=known,
            unknown=delivered - known,
            median=self._quantile(0.5),
            p90=self._quantile(0.9),
            p99=self._quantile(0.99),
            distribution=[
                DurationClass(up_to=up_to, messages=self._coarse[index])
                for index, up_to in enumerate((*DURATIONS, None))
                if index <= last
            ],
        )

    def _quantile(self, share: float) -> float | None:
        wanted = self._fine.total() * share
        for index in sorted(self._fine):
            wanted -= self._fine[index]
            if wanted <= 0:
                return round(_FINE[index], 3)
        return None
