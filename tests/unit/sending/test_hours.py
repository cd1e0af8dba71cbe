"""Sending hours: a table of numbers and times, with every change of a clock."""

from __future__ import annotations

import copy
import pickle
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from skycore_async import ConfigurationError, NotSent
from skycore_async.sending import hours as module
from skycore_async.sending.hours import OutsideHours, SendingHours, utc_now

NEW_YORK, LOS_ANGELES = "America/New_York", "America/Los_Angeles"
BERLIN, KOLKATA = "Europe/Berlin", "Asia/Kolkata"
# What is never within 09:00 and 20:00 in both: there are twelve hours or more between them.
AROUND_THE_WORLD = ("Pacific/Honolulu", "Pacific/Auckland", BERLIN)

ZONES = {
    "1212": (NEW_YORK,),
    "1310": (LOS_ANGELES,),
    "1208": ("America/Boise", LOS_ANGELES),
    "1800": AROUND_THE_WORLD,
}


def hours(between: str, zone: str | None = None) -> SendingHours:
    read = SendingHours.read(between, zone)
    return SendingHours(
        opens=read.opens,
        closes=read.closes,
        zone=zone,
        zones_of=lambda to: ZONES.get(to[:4], ()),
    )


def at(time: str, zone: str = "UTC", *, fold: int = 0) -> datetime:
    return datetime.fromisoformat(time).replace(tzinfo=zoneinfo.ZoneInfo(zone), fold=fold)


@pytest.mark.parametrize(
    ("between", "time", "is_open"),
    [
        ("09:00-20:00", "08:59:59.999999", False),
        ("09:00-20:00", "09:00", True),
        ("09:00-20:00", "19:59:59.999999", True),
        ("09:00-20:00", "20:00", False),
        ("9:00-20:00", "09:00", True),
        (" 09:00-20:00 ", "09:00", True),
        ("20:00-02:00", "19:59", False),
        ("20:00-02:00", "20:00", True),
        ("20:00-02:00", "00:00", True),
        ("20:00-02:00", "01:59", True),
        ("20:00-02:00", "02:00", False),
        ("22:00-00:00", "23:59", True),
        ("22:00-00:00", "00:00", False),
        ("22:00-24:00", "23:59", True),
        ("22:00-24:00", "00:00", False),
        ("00:00-24:00", "00:00", True),
        ("00:00-24:00", "23:59", True),
        ("09:00-09:01", "09:00:30", True),
        ("09:00-09:01", "09:01", False),
    ],
)
def test_a_number_is_within_the_hours_by_the_clock_there(
    between: str, time: str, is_open: bool
) -> None:
    """Hours include their first minute, exclude their last, and may go past midnight."""
    now = at(f"2026-12-01T{time}", BERLIN)
    assert hours(between, BERLIN).may_begin("49301234567", now) is is_open
    assert (hours(between).opening([BERLIN], now) == now) is is_open


@pytest.mark.parametrize(
    ("between", "zones", "now", "then"),
    [
        ("09:00-20:00", [BERLIN], at("2026-12-01T03:12:34", BERLIN), "2026-12-01T08:00"),
        ("09:00-20:00", [BERLIN], at("2026-12-01T20:00", BERLIN), "2026-12-02T08:00"),
        ("20:00-02:00", [BERLIN], at("2026-12-01T02:00", BERLIN), "2026-12-01T19:00"),
        # All of several zones: it is the last that counts, and half an hour is one, too.
        ("09:00-20:00", [NEW_YORK, LOS_ANGELES], at("2026-12-01T12:00"), "2026-12-01T17:00"),
        ("09:00-20:00", [NEW_YORK, LOS_ANGELES], at("2026-12-02T01:00"), "2026-12-02T17:00"),
        ("09:00-12:00", [BERLIN, KOLKATA], at("2026-12-01T12:00"), None),
        ("09:00-20:00", [BERLIN, KOLKATA], at("2026-12-01T02:00"), "2026-12-01T08:00"),
        ("09:00-20:00", [KOLKATA], at("2026-12-01T02:00"), "2026-12-01T03:30"),
        ("09:00-20:00", AROUND_THE_WORLD, at("2026-12-01T12:00"), None),
        ("09:00-20:00", [], at("2026-12-01T12:00"), None),
        # Clocks are put forward: an hour is skipped, and what is in it does not come that day.
        ("02:00-03:00", [BERLIN], at("2026-03-29T01:30", BERLIN), "2026-03-30T00:00"),
        ("02:30-05:00", [BERLIN], at("2026-03-29T01:30", BERLIN), "2026-03-29T01:00"),
        ("09:00-20:00", [BERLIN], at("2026-03-28T20:30", BERLIN), "2026-03-29T07:00"),
        ("02:15-02:30", [BERLIN], at("2026-03-28T02:30", BERLIN), "2026-03-30T00:15"),
        # Clocks are put back: an hour comes twice, and is both times what the clock says.
        ("09:00-20:00", [BERLIN], at("2026-10-24T20:30", BERLIN), "2026-10-25T08:00"),
        ("02:00-02:30", [BERLIN], at("2026-10-25T01:00", BERLIN), "2026-10-25T00:00"),
        ("02:00-02:30", [BERLIN], at("2026-10-25T02:40", BERLIN), "2026-10-25T01:00"),
        ("02:00-02:30", [BERLIN], at("2026-10-25T02:40", BERLIN, fold=1), "2026-10-26T01:00"),
    ],
)
def test_hours_open_next_when_all_zones_are_within_them(
    between: str, zones: Sequence[str], now: datetime, then: str | None
) -> None:
    """Hours open next at the first minute at which the clocks of all zones are within them."""
    expected = None if then is None else at(then)
    assert hours(between).opening(zones, now) == expected


@pytest.mark.parametrize("fold", [0, 1])
def test_an_hour_that_comes_twice_is_within_the_hours_twice(fold: int) -> None:
    """An hour that comes twice, when clocks are put back, is within the hours both times."""
    now = at("2026-10-25T02:15", BERLIN, fold=fold)
    assert hours("02:00-02:30").are_open([BERLIN], now)


@pytest.mark.parametrize(
    ("to", "zone", "zones"),
    [
        ("12125550100", None, (NEW_YORK,)),
        ("12125550100", BERLIN, (NEW_YORK,)),  # their own zone, whatever the other is
        ("12085550100", BERLIN, ("America/Boise", LOS_ANGELES)),
        ("15551234888", BERLIN, (BERLIN,)),
        ("15551234888", None, ()),
        ("18005550100", BERLIN, (BERLIN,)),  # theirs are never within the hours at one time
        ("18005550100", None, ()),
    ],
)
def test_a_recipient_is_held_to_the_zone_of_the_number(
    to: str, zone: str | None, zones: tuple[str, ...]
) -> None:
    """A number's own zones count, else the given zone; without either it is never sent to."""
    found = hours("09:00-20:00", zone)
    assert found.zones(to, at("2026-12-01T12:00")) == zones
    if not zones:
        assert not any(
            found.may_begin(to, at("2026-12-01T00:00") + timedelta(hours=hour))
            for hour in range(48)
        )


def test_each_number_has_hours_of_its_own() -> None:
    """A number may be sent to when the clocks of all its own zones are within the hours."""
    now = at("2026-12-01T09:00", NEW_YORK)
    found = hours("09:00-20:00")
    numbers = ("12125550100", "13105550100", "12085550100")
    assert [found.may_begin(to, now) for to in numbers] == [True, False, False]
    later = now + timedelta(hours=2)  # nine in Boise, eight in the west of Idaho
    assert [found.may_begin(to, later) for to in numbers] == [True, False, False]
    assert all(found.may_begin(to, now + timedelta(hours=3)) for to in numbers)


@pytest.mark.parametrize("to", ["12125550100", "15551234888", "18005550100"])
def test_the_whole_day_is_within_the_hours_everywhere(to: str) -> None:
    """Hours of 00:00-24:00 let every number begin, even one whose zone is not known."""
    found = hours("00:00-24:00")
    assert found.is_whole_day
    assert not hours("00:00-23:59").is_whole_day
    now = at("2026-12-01T03:30")
    assert found.may_begin(to, now)
    assert found.opening(found.zones(to, now), now) == now


def test_a_number_outside_the_hours_raises_outside_hours() -> None:
    """A number outside the hours raises OutsideHours, a NotSent that survives pickling."""
    found = hours("09:00-20:00")
    found.check("12125550100", at("2026-12-01T09:00", NEW_YORK))
    with pytest.raises(OutsideHours, match="it is not between 09:00-20:00 where") as caught:
        found.check("12125550100", at("2026-12-01T21:00", NEW_YORK))
    assert isinstance(caught.value, NotSent)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert (type(again), again.args) == (OutsideHours, caught.value.args)


def test_the_zones_of_numbers_are_those_of_the_tables() -> None:
    """Without a `zones_of` function, the extra `numbers` gives the zones of a number."""
    found = SendingHours.read("09:00-20:00")
    assert found.zones("13105550100", utc_now()) == (LOS_ANGELES,)


@pytest.mark.parametrize(
    ("given", "zone", "shown"),
    [
        ("9:05-20:00", None, "09:05-20:00 where the recipients are"),
        ("20:00-24:00", BERLIN, "20:00-24:00 where the recipients are, or else in Europe/Berlin"),
    ],
)
def test_hours_are_written_as_they_are_read(given: str, zone: str | None, shown: str) -> None:
    """Hours that are written as text and read again are equal."""
    read = SendingHours.read(given, zone)
    assert str(read) == shown
    assert SendingHours.read(read.between, read.zone) == read
    assert copy.copy(read) == read


@pytest.mark.parametrize(
    "given",
    [
        *("", "9-20", "09:00", "09:00-25:00", "24:00-09:00", "09:60-10:00", "09:00-10:60"),
        *("09:00-24:01", "09:00--20:00", "09:00 - 20:00", "9am-8pm", "\u0669:00-20:00"),
    ],
)
def test_a_text_that_is_no_hours_is_refused(given: str) -> None:
    """A text that is no hours is refused with an example of the right form."""
    with pytest.raises(
        ConfigurationError, match=r"between: .* says no hours, as 09:00-20:00 does"
    ):
        SendingHours.read(given)


@pytest.mark.parametrize("given", ["09:00-09:00", "00:00-00:00", "09:00-9:00"])
def test_hours_that_end_when_they_begin_are_refused(given: str) -> None:
    """Hours that begin and end at one time are refused, since they could mean all day or never."""
    with pytest.raises(ConfigurationError, match="begins and ends at one time: the whole day is"):
        SendingHours.read(given)


@pytest.mark.parametrize("zone", ["", "Eastern", "America", "../UTC", "America/New York"])
def test_a_text_that_is_no_time_zone_is_refused(zone: str) -> None:
    """A text that is no time zone is refused with an example of one."""
    with pytest.raises(ConfigurationError, match=r"is no time zone .* America/New_York is one"):
        SendingHours.read("09:00-20:00", zone)


def test_a_machine_without_a_table_of_zones_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a table of time zones gets an error that says to install tzdata."""

    def none(name: str) -> zoneinfo.ZoneInfo:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(module, "ZoneInfo", none)
    monkeypatch.setattr(module, "available_timezones", set)
    with pytest.raises(ConfigurationError, match="no table of time zones: pip install tzdata"):
        SendingHours.read("09:00-20:00", "Antarctica/Troll")


def test_utc_now_has_a_time_zone() -> None:
    """`utc_now` returns a time with the zone UTC."""
    assert utc_now().tzinfo is UTC
