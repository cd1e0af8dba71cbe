"""Times on the command line: one to start at, and one of a report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

_ROOM: Final = timedelta(days=31)  # in which somebody's hours begin, in any zone


class StartTime(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic since click 8.2
    """A time in the form of ISO 8601; one without an offset is that of this machine's clock."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time, with an offset."""
        try:
            time = _as_local(datetime.fromisoformat(value))
            _ = time + _ROOM  # fails for a time too near the last that there is
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time, as 2026-12-01T09:00 is one.", param, ctx)
        return time


def _as_local(time: datetime) -> datetime:
    """Return a time with an offset, by this machine's clock where it has none.

    One that is skipped as clocks are put forward is as much later, and not earlier.
    """
    found = time.astimezone()
    if time.tzinfo is None:
        found += max(time - found.replace(tzinfo=None), timedelta(0))
    return found


class UTCTime(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic since click 8.2
    """A time in the form of ISO 8601; one without an offset is in UTC, as reports are."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time, in UTC."""
        try:
            time = datetime.fromisoformat(value)
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time, as 2026-12-01T09:00 is one.", param, ctx)
