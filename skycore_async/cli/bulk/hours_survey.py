"""How many messages are outside their recipients' hours, counted while a file is checked."""

from __future__ import annotations

from datetime import datetime

import attrs

from ...sending.hours import SendingHours
from ..ui.output import number_of
from .rows import MessageRow


@attrs.frozen(kw_only=True)
class HoursSeen:
    """How many of the messages to send are `outside` their `hours` when the run starts.

    `without_zone` counts those to numbers whose time zone is not known.
    """

    hours: str
    outside: int
    without_zone: int
    first_without_line: int

    @property
    def obstacle(self) -> str | None:
        """Say why the run cannot begin, and what to do; None where it can."""
        if not self.without_zone:
            return None
        count = number_of(self.without_zone, "number")
        return (
            f"nothing was sent: the time zone of {count} is not known, first on line"
            f" {self.first_without_line}, and it may be night there: name the one that counts for"
            " these, as --tz America/New_York"
        )


class HoursSurvey:
    """Count messages by whether they are within `hours` at the time `at`."""

    def __init__(self, hours: SendingHours, at: datetime) -> None:
        self._hours = hours
        self._at = at
        self._known: dict[tuple[str, ...], tuple[bool, bool]] = {}
        self._outside = 0
        self._without_zone = 0
        self._first_without_line = 0

    def see(self, row: MessageRow) -> None:
        """Count a message."""
        own = self._hours.own_zones(row.message.to)
        if (known := self._known.get(own)) is None:  # kept, as zones are few and the time is one
            zones = self._hours.zones_that_count(own, self._at)
            known = self._known[own] = (self._hours.are_open(zones, self._at), bool(zones))
        is_open, has_zone = known
        self._outside += not is_open
        if not has_zone:
            self._without_zone += 1
            self._first_without_line = self._first_without_line or row.row.line

    def seen(self) -> HoursSeen:
        """Return the counts."""
        return HoursSeen(
            hours=str(self._hours),
            outside=self._outside,
            without_zone=self._without_zone,
            first_without_line=self._first_without_line,
        )
