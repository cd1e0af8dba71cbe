"""Figures as SVG and tables: whole pieces of a page, with nothing from outside it.

Strategy: text is HTML and only bars are SVG, stretched to the room there is, so
that words keep their size on a phone.  A bar chart is a table that has bars in
it; a chart that is none has its table beside it.

Rules:

* Whatever comes from a ledger goes through `words`.
* A share is never rounded to all or nothing, and what there is is never too
  small to be seen.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import attrs

_LEAST: Final = 1.0  # the height of a part that would be too small to see, in percent
_DAY: Final = 86400


@attrs.frozen
class ChartKind:
    """A kind of message, as it is called and by the class that colours it."""

    name: str
    css: str


@attrs.frozen(kw_only=True)
class Bar:
    """A row of a bar chart: its name, a line below, its parts, and what is said of it."""

    name: str
    note: str = ""
    parts: Mapping[ChartKind, int]
    said: str
    share: str = ""


def words(text: object) -> str:
    """Write text for HTML; what cannot be seen is shown as unreadable."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return html.escape(shown)


def counted(number: int) -> str:
    """Write a number."""
    return f"{number:,}"


def share(part: int, whole: int) -> str:
    """Write a share in percent."""
    if not whole:
        return "none"
    percent = 100 * part / whole
    if 0 < percent < 0.1:  # noqa: PLR2004 - what a decimal place can show
        return "< 0.1 %"
    if 99.9 < percent < 100:  # noqa: PLR2004
        return "> 99.9 %"
    return f"{percent:.1f} %"


def duration(seconds: float) -> str:
    """Write a time span in its greatest unit."""
    units = ((_DAY, "days"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next((each for each in units if seconds >= each[0]), units[-1])
    value = f"{seconds / size:.2g}" if seconds / size < 10 else f"{seconds / size:.0f}"  # noqa: PLR2004
    return f"{value} day" if (value, unit) == ("1", "days") else f"{value} {unit}"


def moment(at: datetime) -> str:
    """Write a time to the minute."""
    return f"{at:%d %b %Y %H:%M}"


# Bars in a table.


def bars(caption: str, heads: Sequence[str], rows: Iterable[Bar], *, of: int | None = None) -> str:
    """Draw rows of bars; the longest has all the room, or one of the size `of` would."""
    rows = list(rows)
    most = of or max((sum(row.parts.values()) for row in rows), default=0) or 1
    head = "".join(
        f'<th scope="col"{_NUMBER if index == len(heads) - 1 else ""}>{words(name)}</th>'
        for index, name in enumerate(heads)
    )
    body = "".join(_bar(row, most) for row in rows)
    return (
        f'<table class="bars"><caption>{words(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


_NUMBER: Final = ' class="number"'


def _bar(row: Bar, most: int) -> str:
    note = f"<small>{words(row.note)}</small>" if row.note else ""
    share = f' <span class="share">({words(row.share)})</span>' if row.share else ""
    return (
        f'<tr><th scope="row">{words(row.name)}{note}</th>'
        f"<td>{strip(row.parts, most, title=f'{row.name}: {row.said}')}</td>"
        f"<td{_NUMBER}>{words(row.said)}{share}</td></tr>"
    )


def strip(parts: Mapping[ChartKind, int], most: int, *, title: str) -> str:
    """Draw one bar of parts side by side."""
    at, drawn = 0.0, []
    for kind, number in parts.items():
        if number:
            width = max(_LEAST, 100 * number / most)
            drawn.append(
                f'<rect class="{kind.css}" x="{at:.2f}%" y="0" width="{width:.2f}%" height="100%">'
                f"<title>{words(kind.name)}: {counted(number)}</title></rect>"
            )
            at += width
    return (
        f'<svg class="strip" role="img" aria-label="{words(title)}"><title>{words(title)}</title>'
        f'<rect class="track" width="100%" height="100%"/>{"".join(drawn)}</svg>'
    )


# Columns over time.


@attrs.frozen(kw_only=True)
class Column:
    """What there is of each kind from a time on."""

    start: datetime
    parts: Mapping[ChartKind, int]


def columns(
    columns: Sequence[Column], kinds: Sequence[ChartKind], *, step: int, title: str, said: str
) -> str:
    """Draw columns over time, with a legend and the table of their figures."""
    shown = [kind for kind in kinds if any(column.parts.get(kind) for column in columns)]
    top = _round_up(max(sum(column.parts.values()) for column in columns))
    wide = 10 * len(columns)
    lines = "".join(f'<line x1="0" x2="{wide}" y1="{y}" y2="{y}"/>' for y in (0, 50, 100))
    stacks = "".join(
        _stack(column, shown, x=10 * index, top=top, step=step)
        for index, column in enumerate(columns)
    )
    y = "".join(f"<span>{counted(value)}</span>" for value in (top, top // 2, 0))
    x = "".join(f"<span>{when}</span>" for when in _ticks(columns, step))
    return (
        f'<figure style="max-width: max(15rem, {4 * len(columns)}rem)">'
        f'<div class="plot"><div class="y" aria-hidden="true">{y}</div>'
        f'<svg role="img" viewBox="0 0 {wide} 100" preserveAspectRatio="none"'
        f' aria-labelledby="over-time-title over-time-said">'
        f'<title id="over-time-title">{words(title)}</title>'
        f'<desc id="over-time-said">{words(said)}</desc>{lines}{stacks}</svg>'
        f'<div class="x" aria-hidden="true">{x}</div></div></figure>'
        f"{_legend(shown)}{_table_of(columns, shown, step, title)}"
    )


def _round_up(most: int) -> int:
    """Return the next number that is good to read at the top of an axis, and to halve."""
    size: int = 10 ** (len(str(most)) - 1)
    tops = (size * tenths // 10 for tenths in (10, 20, 40, 60, 80, 100))
    return next(top for top in tops if top >= most and top % 2 == 0)


def _stack(column: Column, kinds: Sequence[ChartKind], *, x: int, top: int, step: int) -> str:
    heights = [
        (kind, number, max(_LEAST, 100 * number / top))
        for kind in kinds
        if (number := column.parts.get(kind, 0))
    ]
    # Parts made larger to be seen may not push the others out of the picture.
    shrink = min(1.0, 100 / (sum(height for *_, height in heights) or 1))
    y, drawn = 100.0, []
    for kind, number, height in heights:
        y -= height * shrink
        drawn.append(
            f'<rect class="{kind.css}" x="{x + 1}" y="{y:.2f}" width="8"'
            f' height="{height * shrink:.2f}"><title>{_tick(column.start, step)}:'
            f" {counted(number)} {words(kind.name.lower())}</title></rect>"
        )
    return "".join(drawn)


def _ticks(columns: Sequence[Column], step: int) -> list[str]:
    chosen = sorted({0, (len(columns) - 1) // 2, len(columns) - 1})
    if len(columns) <= 4:  # noqa: PLR2004 - so few stand too close to be named apart
        chosen = chosen[:1]
    short = columns[0].start.date() == columns[-1].start.date()
    return [_tick(columns[index].start, step, short=short) for index in chosen]


def _tick(start: datetime, step: int, *, short: bool = False) -> str:
    if step >= _DAY:
        return f"{start:%d %b %Y}"
    clock = f"{start:%H:%M:%S}" if step < 60 else f"{start:%H:%M}"  # noqa: PLR2004
    return clock if short else f"{start:%d %b} {clock}"


def _legend(kinds: Sequence[ChartKind]) -> str:
    entries = "".join(
        f'<li><svg aria-hidden="true"><rect class="{kind.css}" width="100%" height="100%"/></svg>'
        f"{words(kind.name)}</li>"
        for kind in kinds
    )
    return f'<ul class="legend">{entries}</ul>'


def _table_of(columns: Sequence[Column], kinds: Sequence[ChartKind], step: int, title: str) -> str:
    head = "".join(f'<th scope="col">{words(kind.name)}</th>' for kind in kinds)
    body = "".join(
        f'<tr><th scope="row">{_tick(column.start, step)}</th>'
        + "".join(f"<td>{counted(column.parts.get(kind, 0))}</td>" for kind in kinds)
        + "</tr>"
        for column in columns
    )
    return (
        "<details><summary>The same as a table</summary>"
        f'<div class="wide" role="region" aria-label="{words(title)}, as a table" tabindex="0">'
        f'<table><thead><tr><th scope="col">From</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )
