"""Times as people read them.

Rule: all are in UTC, whatever zone they came in.
"""

from __future__ import annotations

from datetime import UTC, datetime


def time_of(time: datetime | None) -> str:
    """Return a time as people read it: in UTC, and without the Z where its zone is unknown."""
    if time is None:
        return ""
    if time.tzinfo is None:
        return f"{time:%Y-%m-%d %H:%M:%S}"
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
