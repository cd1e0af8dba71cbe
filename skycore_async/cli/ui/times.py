"""Times as people read them, and as programs do.

Rules:

* All times are in UTC, whatever zone they came in.
* Times for programs always have microseconds: pandas reads a column with two formats as texts.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime


def time_of(time: datetime | None) -> str:
    """Return a time as people read it: in UTC, and without the Z where its zone is unknown."""
    if time is None:
        return ""
    if time.tzinfo is None:
        return f"{time:%Y-%m-%d %H:%M:%S}"
    there = in_utc(time)
    return f"{there:%Y-%m-%d %H:%M:%S}{'Z' if there.tzinfo is UTC else f'{there:%z}'}"


def iso_time(time: datetime) -> str:
    """Return a time as programs read it, in UTC where its zone is known."""
    return in_utc(time).isoformat(timespec="microseconds")


def in_utc(time: datetime) -> datetime:
    """Return a time in UTC; one without a zone, or at the end of all time, stays as it is."""
    if time.tzinfo is not None:
        with suppress(OverflowError):
            return time.astimezone(UTC)
    return time
