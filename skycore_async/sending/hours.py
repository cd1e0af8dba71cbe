"""The hours of the day within which messages may begin, by the clocks of their recipients.

Strategy: plain functions of a time.  Whether a zone is within the hours is what a clock on
the wall there shows at that minute, so that nothing has to be said of days on which clocks
are changed: of an hour that comes twice both are as the clock says, and what a clock skips
does not come that day.  When it is next is found by looking at one minute after another.

Rules:

* Each recipient is held to the zone of their own number.  One whose number may be in several
  is sent to while all of these are within the hours.
* Where the zone of a number is not known, or its zones are never within the hours at one
  time, `zone` counts.  Where there is none either, it may never be sent to.
* Hours that end before they begin are over midnight.
* It is the beginning of a message that counts: what was begun ends as it does.
* To have no hours is to have those of the whole day, `ANY_TIME`, and is no case of its own.
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
_ANY: Final = "UTC"  # zone, as the whole day is within the hours everywhere
_LATELY: Final = 4096  # zones, each at a minute


Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(UTC)


class OutsideHours(NotSent):
    """A message was not begun, as it is not within its recipient's hours; it is for later."""

    @property
    def verdict(self) -> Verdict:
        """Put off: nothing is wrong with it, nor with anything else."""
        return Verdict.PUT_OFF


def _zones_by_number(to: str) -> tuple[str, ...]:
    from ..protocol.time_zones import zones_of  # noqa: PLC0415 - the extra `numbers`

    return zones_of(to)


@attrs.frozen(kw_only=True)
class SendingHours:
    """From when to when messages may begin, in minutes of the day, `closes` being the first after.

    `zone` is the name of that which counts where a number's own is not known, and `zones_of`
    returns the zones that a number may be in.
    """

    opens: int
    closes: int
    zone: str | None = None
    zones_of: Callable[[str], tuple[str, ...]] = attrs.field(
        default=_zones_by_number, eq=False, repr=False
    )

    @classmethod
    def read(cls, between: str, zone: str | None = None) -> Self:
        """Return the hours that `between` says, as 09:00-20:00 does.

        Raises ConfigurationError where it says none, or there is no such zone, and MissingExtra
        where the zones of numbers cannot be told.
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
            hours.zones_of("")  # which fails at once where there are no tables of numbers
        return hours

    @property
    def is_whole_day(self) -> bool:
        """Whether messages may begin at any time."""
        return self.opens == 0 and self.closes == _DAY

    @property
    def between(self) -> str:
        """What `read` makes the same hours of."""
        return f"{_clock(self.opens)}-{_clock(self.closes)}"

    def __str__(self) -> str:
        return hours_in_words(self.between, self.zone)

    def zones(self, to: str, at: datetime) -> tuple[str, ...]:
        """Return the zones by which a number may be sent to; none where it may never be."""
        return self.zones_that_count(self.own_zones(to), at)

    def own_zones(self, to: str) -> tuple[str, ...]:
        """Return the zones that a number may be in; where the hours are all day, just any one."""
        return (_ANY,) if self.is_whole_day else self.zones_of(to)

    def zones_that_count(self, own: tuple[str, ...], at: datetime) -> tuple[str, ...]:
        """Return the zones whose clocks count for a number that is in its `own`; () for never."""
        if own and self.opening(own, at) is not None:
            return own
        return () if self.zone is None else (self.zone,)

    def opening(self, zones: Sequence[str], at: datetime) -> datetime | None:
        """Return when zones are next within the hours, all of them: `at` where they are then.

        None where they are not within three days.
        Raises ConfigurationError where this machine does not know one of them.
        """
        if self.are_open(zones, at):
            return at
        minute = at.astimezone(UTC).replace(second=0, microsecond=0)
        return _next_opening(self.opens, self.closes, tuple(zones), minute)

    def are_open(self, zones: Sequence[str], at: datetime) -> bool:
        """Return whether it is within the hours in all of these zones, of which there is one."""
        return bool(zones) and all(_is_open(self.opens, self.closes, zone, at) for zone in zones)

    def may_begin(self, to: str, at: datetime) -> bool:
        """Return whether a number may be sent to at that time."""
        return self.is_whole_day or self.are_open(self.zones(to, at), at)

    def check(self, to: str, at: datetime) -> None:
        """Raise OutsideHours where a number may not be sent to at that time."""
        if not self.may_begin(to, at):
            raise OutsideHours(f"it is not between {self.between} where the recipient is")


ANY_TIME: Final = SendingHours(opens=0, closes=_DAY)


def hours_in_words(between: str, zone: str | None) -> str:
    """Return what hours are, by what `SendingHours.read` makes them of."""
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
    """Return the first minute after one at which all zones are within the hours."""
    if not zones:
        return None
    for _ in range(_AHEAD):
        minute += _MINUTE
        if all(_is_open(opens, closes, zone, minute) for zone in zones):
            return minute
    return None
