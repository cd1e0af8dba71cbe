"""The layout of charts: numbers in, positions out, which the templates draw.  No I/O.

Rules:

* A part that is not zero is large enough to be seen.
* A chart takes the whole width.  Where there are few columns, empty ones follow, so that no column
  is too wide to look like one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import attrs

from .counters import Slot
from .formats import column_name
from .kinds import MessageKind, by_kind

_LEAST: Final = 1.0  # percent: the least size of a part, so that it can be seen
_PITCH: Final = 10  # distance between columns, in the picture's own units
_LEAST_COLUMNS: Final = 12  # columns that the width has room for at least


@attrs.frozen(kw_only=True)
class ChartPart:
    """A part of a bar or a column; `start` and `size` are percent of the whole."""

    kind: MessageKind
    number: int
    start: float
    size: float


@attrs.frozen(kw_only=True)
class ChartColumn:
    """A column: its name, position and parts, and the count of each kind of message."""

    name: str
    x: int
    parts: list[ChartPart]
    numbers: list[int]


@attrs.frozen(kw_only=True)
class ColumnChart:
    """Columns over time, the kinds of messages in them, and the labels of the axes."""

    columns: list[ChartColumn]
    kinds: list[MessageKind]
    scale: tuple[int, int, int]
    ticks: list[str]

    @property
    def width(self) -> int:
        """The width of the picture, in its own units."""
        return _PITCH * max(len(self.columns), _LEAST_COLUMNS)


def bar_parts(parts: Mapping[MessageKind, int], most: int) -> list[ChartPart]:
    """Return the parts of a bar from left to right; a sum of `most` fills it."""
    start, placed = 0.0, []
    for kind, number in parts.items():
        if number:
            size = max(_LEAST, 100 * number / most)
            placed.append(ChartPart(kind=kind, number=number, start=start, size=size))
            start += size
    return placed


def column_chart(slots: Sequence[Slot], step: int) -> ColumnChart:
    """Return a chart of the messages begun in each slot of `step` seconds; needs one slot."""
    counts = [by_kind(slot.states) for slot in slots]
    kinds = [kind for kind in counts[0] if any(each[kind] for each in counts)]
    top = _round_up(max(sum(each.values()) for each in counts))
    return ColumnChart(
        columns=[
            ChartColumn(
                name=column_name(slot.start, step),
                x=_PITCH * index + 1,
                parts=_column_parts(each, top),
                numbers=[each[kind] for kind in kinds],
            )
            for index, (slot, each) in enumerate(zip(slots, counts, strict=True))
        ],
        kinds=kinds,
        scale=(top, top // 2, 0),
        ticks=_ticks(slots, step),
    )


def _round_up(most: int) -> int:
    """Return the next larger round number that can be halved, for the top of an axis."""
    size: int = 10 ** (len(str(most)) - 1)
    tops = (size * tenths // 10 for tenths in (10, 20, 40, 60, 80, 100))
    return next(top for top in tops if top >= most and top % 2 == 0)


def _column_parts(counts: Mapping[MessageKind, int], top: int) -> list[ChartPart]:
    heights = {kind: max(_LEAST, 100 * number / top) for kind, number in counts.items() if number}
    # Parts that were made larger to be seen must not push others out of the picture.
    shrink = min(1.0, 100 / (sum(heights.values()) or 1))
    y, placed = 100.0, []
    for kind, height in heights.items():
        y -= height * shrink
        placed.append(ChartPart(kind=kind, number=counts[kind], start=y, size=height * shrink))
    return placed


def _ticks(slots: Sequence[Slot], step: int) -> list[str]:
    """Return the names of the first column, of that in the middle, and of the last."""
    first = slots[0].start
    last = max(slots[-1].start, first + timedelta(seconds=step * (_LEAST_COLUMNS - 1)))
    middle = first + timedelta(seconds=(last - first).total_seconds() // step // 2 * step)
    short = first.date() == last.date()
    return [column_name(each, step, short=short) for each in (first, middle, last)]
