"""Numbers, shares, durations and times as a report writes them.  No I/O.

Rules:

* A share is never rounded to 0 % or 100 %.
* A number and its unit stay on one line.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Final

from ..ui.output import number_of

_DAY: Final = 86400
NO_BREAK: Final = "\N{NO-BREAK SPACE}"
_PER_CENT: Final = f"{NO_BREAK}%"


def counted(number: int) -> str:
    """Return a number with separated thousands."""
    return f"{number:,}"


def messages(number: int) -> str:
    """Return how many messages there are."""
    return number_of(number, "message")


def money(amount: Decimal) -> str:
    """Return an amount, to the hundredth."""
    return f"{amount:,.2f}"


def share(part: int, whole: int) -> str:
    """Return a share in percent."""
    if not whole:
        return "none"
    percent = 100 * part / whole
    if 0 < percent < 0.1:  # noqa: PLR2004 - what a decimal place can show
        return f"<{NO_BREAK}0.1{_PER_CENT}"
    if 99.9 < percent < 100:  # noqa: PLR2004
        return f">{NO_BREAK}99.9{_PER_CENT}"
    return f"{percent:.1f}{_PER_CENT}"


def duration(seconds: float) -> str:
    """Return a time span in its largest unit."""
    units = ((_DAY, "days"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next((each for each in units if seconds >= each[0]), units[-1])
    value = f"{seconds / size:.2g}" if seconds / size < 10 else f"{seconds / size:.0f}"  # noqa: PLR2004
    unit = "day" if (value, unit) == ("1", "days") else unit
    return f"{value}{NO_BREAK}{unit}"


def moment(at: datetime) -> str:
    """Return a time to the minute."""
    return f"{at:%d %b %Y %H:%M}"


def span(first: datetime, last: datetime) -> str:
    """Return a period to the minute; a day that both ends share stands once."""
    begun, ended = moment(first), moment(last)
    if first.date() == last.date():
        ended = f"{last:%H:%M}"
    return begun if moment(last) == begun else f"{begun} to {ended}"


def named(value: str | None, name: str) -> str | None:
    """Return a value after its name; None where there is no value."""
    return f"{name} {value}" if value else None


def column_name(start: datetime, step: int, *, short: bool = False) -> str:
    """Return the time at which a column of `step` seconds begins; a short name has no day."""
    if step >= _DAY:
        return f"{start:%d %b %Y}"
    clock = f"{start:%H:%M:%S}" if step < 60 else f"{start:%H:%M}"  # noqa: PLR2004
    return clock if short else f"{start:%d %b} {clock}"
