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
            time = datetime.fromisoformat(value).astimezone()
            _ = time + _ROOM  # which fails at the end of all time
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time, as 2026-12-01T09:00 is one.", param, ctx)
        return time


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
