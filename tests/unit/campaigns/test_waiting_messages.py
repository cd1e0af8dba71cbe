"""Messages of a chunk that wait for their hours, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from skycore_async import SMS, ConfigurationError
from skycore_async.campaigns.hours import WaitingMessages, read_hours
from skycore_async.runtime.extras import MissingExtra
from skycore_async.sending.hours import OutsideHours, SendingHours

MORNING = datetime(2026, 12, 1, 14, tzinfo=UTC)  # nine in New York, six in Los Angeles
NEW_YORK, LOS_ANGELES, NOWHERE = (
    SMS(to=to, text="Hello", key=to) for to in ("12125550100", "13105550100", "15551234888")
)


def test_whose_hours_are_not_now_waits() -> None:
    """A message outside its hours waits, and the wait ends with the first one's hours."""
    waiting = WaitingMessages(SendingHours.read("09:00-20:00"), lambda: MORNING)
    assert list(waiting.ready(iter([LOS_ANGELES, NEW_YORK]))) == [NEW_YORK]
    assert (waiting.keys(), waiting.seconds()) == ([LOS_ANGELES.key], 3 * 3600)
    waiting.check(NEW_YORK)
    with pytest.raises(OutsideHours):
        waiting.check(LOS_ANGELES)


def test_waiting_messages_are_checked_when_the_first_may_begin() -> None:
    """At night all messages wait until the first of them may begin."""
    night = MORNING - timedelta(hours=5)
    waiting = WaitingMessages(SendingHours.read("09:00-20:00"), lambda: night)
    assert list(waiting.ready(iter([LOS_ANGELES, NEW_YORK]))) == []
    assert waiting.seconds() == 5 * 3600


def test_a_message_without_zone_is_checked_hourly() -> None:
    """A message without time zone waits without end, and is checked hourly."""
    waiting = WaitingMessages(SendingHours.read("09:00-20:00"), lambda: MORNING)
    assert list(waiting.ready(iter([NOWHERE]))) == []
    assert waiting.seconds() == 3600
    assert (waiting.are_any, waiting.keys(), waiting.without_zone()) == (True, [], 1)


def test_without_hours_none_waits() -> None:
    """Without hours no message waits."""
    waiting = WaitingMessages(read_hours(None, None), lambda: MORNING)
    assert list(waiting.ready(iter([NOWHERE]))) == [NOWHERE]
    waiting.check(NOWHERE)
    assert (waiting.are_any, waiting.without_zone()) == (False, 0)


def test_a_machine_that_cannot_tell_the_hours_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without `phonenumbers` gets a ConfigurationError for a campaign with hours."""

    def read(_between: str, _zone: str | None) -> SendingHours:
        raise MissingExtra("phonenumbers is not installed: pip install 'skycore-async[numbers]'")

    monkeypatch.setattr(SendingHours, "read", read)
    assert read_hours(None, None).is_whole_day
    with pytest.raises(ConfigurationError, match="a campaign has hours, and phonenumbers is not"):
        read_hours("09:00-20:00", None)
