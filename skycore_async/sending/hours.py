"""The hours of the day within which messages may begin, by the clocks of their recipients.

Strategy: plain functions of a time.  A zone is within the hours if a wall clock there shows so at
that minute.  So the days on which clocks change need no rule: an hour that comes twice counts both
times, and what a clock skips does not come that day.  The next opening is found by trying one
minute after another.

Rules:

* The zones of a recipient's number count.  If it may be in several, all of them have to be within
  the hours.
* `zone` counts if the zone of a number is not known, or its zones are never within the hours at
  the same time.  Without `zone`, such a number is never sent to.
* Hours that end before they begin go over midnight.
* The beginning of a message counts, not its end.
* Having no hours means the whole day, `ANY_TIME`, which is no special case.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from zoneinfo import ZoneInfo, available_timezones

import attrs

from ..codes import Verdict
from ..errors import ConfigurationError, NotSent

_FORM: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})", re.ASCII)
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = 24 * 60  # minutes
_AHEAD: Final = 3 * _DAY  # minutes: a clock may skip the hours of one day
_ANY: Final = "UTC"  # any zone will do if the hours are the whole day
_LATELY: Final = 4096  # results that are cached, for zones at a minute


Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(UTC)


class OutsideHours(NotSent):
    """A message was not begun, as it is outside its recipient's hours; it is sent later."""

    @property
    def verdict(self) -> Verdict:
        """Put off: nothing is wrong with it, nor with anything else."""
        return Verdict.PUT_OFF


def _zones_by_number(to: str) -> tuple[str, ...]:
    from ..protocol.time_zones import zones_of  # noqa: PLC0415 - the extra `numbers`

    return zones_of(to)


@attrs.frozen(kw_only=True)
class SendingHours:
    """From when to when messages may begin, in minutes of the day; `closes` is the first after.

    `zone` is the name of the zone for numbers whose own is not known, and `zones_of` returns the
    zones that a number may be in.
    """

    opens: int
    closes: int
    zone: str | None = None
    zones_of: Callable[[str], tuple[str, ...]] = attrs.field(
        default=_zones_by_number, eq=False, repr=False
    )

    @classmethod
    def read(cls, between: str, zone: str | None = None) -> Self:
        """Return the hours in `between`, such as 09:00-20:00.

        Raises ConfigurationError for an invalid `between` or zone, and MissingExtra if the tables
        of numbers are not installed.
        """
        form = _FORM.fullmatch(between.strip())
        if form is None:
            raise _no_hours(between)
        hour, minute, last_hour, last_minute = map(int, form.groups())
        opens, closes = 60 * hour + minute, 60 * last_hour + last_minute
        if minute >= 60 or last_minute >= 60 or opens >= _DAY or closes > _DAY:  # noqa: PLR2004
            raise _no_hours(between)
        if opens == closes % _DAY and closes != _DAY:
            raise ConfigurationError(
                f"between: {between!r} begins and ends at one time: the whole day is 00:00-24:00"
            )
        if zone is not None:
            _zone(zone)
        hours = cls(opens=opens, closes=closes, zone=zone)
        if not hours.is_whole_day:
            hours.zones_of("")  # to fail at once if there are no tables of numbers
        return hours

    @property
    def is_whole_day(self) -> bool:
        """Whether messages may begin at any time."""
        return self.opens == 0 and self.closes == _DAY

    @property
    def between(self) -> str:
        """The hours as `read` takes them."""
        return f"{_clock(self.opens)}-{_clock(self.closes)}"

    def __str__(self) -> str:
        return hours_in_words(self.between, self.zone)

    def zones(self, to: str, at: datetime) -> tuple[str, ...]:
        """Return the zones that count for a number; none if it may never be sent to."""
        return self.zones_that_count(self.own_zones(to), at)

    def own_zones(self, to: str) -> tuple[str, ...]:
        """Return the zones that a number may be in; any one if the hours are the whole day."""
        return (_ANY,) if self.is_whole_day else self.zones_of(to)

    def zones_that_count(self, own: tuple[str, ...], at: datetime) -> tuple[str, ...]:
        """Return the zones that count for a number with its `own` zones; () for never."""
        if own and self.opening(own, at) is not None:
            return own
        return () if self.zone is None else (self.zone,)

    def opening(self, zones: Sequence[str], at: datetime) -> datetime | None:
        """Return when all of these zones are next within the hours; `at` if they are now.

        Returns None if they are not within three days.  Raises ConfigurationError if this machine
        does not know one of them.
        """
        if self.are_open(zones, at):
            return at
        minute = at.astimezone(UTC).replace(second=0, microsecond=0)
        return _next_opening(self.opens, self.closes, tuple(zones), minute)

    def are_open(self, zones: Sequence[str], at: datetime) -> bool:
        """Return whether all of these zones are within the hours; False if there are none."""
        return bool(zones) and all(_is_open(self.opens, self.closes, zone, at) for zone in zones)

    def may_begin(self, to: str, at: datetime) -> bool:
        """Return whether a number may be sent to at that time."""
        return self.is_whole_day or self.are_open(self.zones(to, at), at)

    def check(self, to: str, at: datetime) -> None:
        """Raise OutsideHours if a number may not be sent to at that time."""
        if not self.may_begin(to, at):
            raise OutsideHours(f"it is not between {self.between} where the recipient is")


ANY_TIME: Final = SendingHours(opens=0, closes=_DAY)


def hours_in_words(between: str, zone: str | None) -> str:
    """Return hours as a text for people; `between` and `zone` are as in `SendingHours.read`."""
    return f"{between} where the recipients are{'' if zone is None else f', or else in {zone}'}"


def _no_hours(between: str) -> ConfigurationError:
    return ConfigurationError(
        f"between: {between[:40]!r} says no hours, as 09:00-20:00 does: from 00:00 to 24:00"
    )


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@functools.cache
def _zone(name: str) -> ZoneInfo:
    with suppress(KeyError, ValueError, OSError):  # of a name that is a path, or a folder's
        return ZoneInfo(name)
    if not available_timezones():
        raise ConfigurationError(
            f"tz: {name[:40]!r} cannot be looked up, as this machine has no table of time zones:"
            " pip install tzdata"
        )
    raise ConfigurationError(
        f"tz: {name[:40]!r} is no time zone that this machine knows, as America/New_York is one;"
        " pip install -U tzdata brings the newest"
    )


def _is_open(opens: int, closes: int, zone: str, at: datetime) -> bool:
    there = at.astimezone(_zone(zone))
    minute = 60 * there.hour + there.minute
    if opens < closes:
        return opens <= minute < closes
    return minute >= opens or minute < closes


@functools.lru_cache(maxsize=_LATELY)
def _next_opening(
    opens: int, closes: int, zones: tuple[str, ...], minute: datetime
) -> datetime | None:
    """Return the first minute after `minute` at which all zones are within the hours."""
    if not zones:
        return None
    for _ in range(_AHEAD):
        minute += _MINUTE
        if all(_is_open(opens, closes, zone, minute) for zone in zones):
            return minute
    return None
