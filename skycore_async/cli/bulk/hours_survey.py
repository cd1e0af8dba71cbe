"""Whom the hours of sending concern: counted while a file is checked, and said."""

from __future__ import annotations

from datetime import datetime

import attrs

from ...sending.hours import SendingHours
from ..ui.output import number_of
from .rows import MessageRow


@attrs.frozen(kw_only=True)
class HoursSeen:
    """Of the messages to send, how many are not within `hours` now, or when the run starts.

    Of `without_zone` it is not known in which time zone they are.
    """

    hours: str
    outside: int
    without_zone: int
    first_without_line: int

    @property
    def obstacle(self) -> str | None:
        """Say why this cannot be begun, and what to do; None where it can."""
        if not self.without_zone:
            return None
        count = number_of(self.without_zone, "number")
        return (
            f"nothing was sent: the time zone of {count} is not known, first on line"
            f" {self.first_without_line}, and it may be night there: name the one that counts for"
            " these, as --tz America/New_York"
        )


class HoursSurvey:
    """See which messages are within `hours` at a time."""

    def __init__(self, hours: SendingHours, at: datetime) -> None:
        self._hours = hours
        self._at = at
        self._known: dict[tuple[str, ...], tuple[bool, bool]] = {}
        self._outside = 0
        self._without_zone = 0
        self._first_without_line = 0

    def see(self, row: MessageRow) -> None:
        """Take a message into account."""
        own = self._hours.own_zones(row.message.to)
        if (known := self._known.get(own)) is None:  # it is for one time, and zones are few
            zones = self._hours.zones_that_count(own, self._at)
            known = self._known[own] = (self._hours.are_open(zones, self._at), bool(zones))
        is_open, has_zone = known
        self._outside += not is_open
        if not has_zone:
            self._without_zone += 1
            self._first_without_line = self._first_without_line or row.row.line

    def seen(self) -> HoursSeen:
        """Return what was seen."""
        return HoursSeen(
            hours=str(self._hours),
            outside=self._outside,
            without_zone=self._without_zone,
            first_without_line=self._first_without_line,
        )
