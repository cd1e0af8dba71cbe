"""The hours of a campaign: kept with it, and those that the messages of a chunk wait for.

Rules:

* Messages that are outside of their hours are not begun, and keep no other waiting: their
  chunk is due again when the first of them may be sent.
* A load that names no hours leaves those that there are.  The whole day is as good as none.
* Other hours hold from then on: whoever has a chunk is fenced off, as it would go on with those
  before.  Nobody takes it before that worker's lease has ended.
* It is the clock of the worker's machine that says what time it is.
* Whose time zone is not known would wait for ever: who loads them, or sets the hours, is told.
  Where a worker's tables know fewer than theirs, the worker tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Final

from ..errors import CampaignError, ConfigurationError
from ..ledger.postgres.campaign_messages import numbers_to_send
from ..messages import SMS
from ..postgres.schema import Connection
from ..runtime.extras import MissingExtra
from ..sending.hours import ANY_TIME, Clock, SendingHours

_UNKNOWN: Final = 3600.0  # seconds until what has no hours is looked at again

_SET: Final = "UPDATE skycore.campaigns SET hours = %s, zone = %s WHERE id = %s"
# All chunks, so that one which is being finished is waited for.
_LOOK_AGAIN: Final = """
UPDATE skycore.chunks SET epoch = epoch + 1, state = 'waiting', worker = NULL, put_off = 0,
    due = clock_timestamp()
WHERE campaign = %s AND state <> 'done'
"""
_OF_CAMPAIGN: Final = "SELECT hours, zone FROM skycore.campaigns WHERE id = %s"


def set_hours(connection: Connection, campaign: int, hours: SendingHours) -> None:
    """Keep the hours of a campaign, and have its chunks looked at again where they are others."""
    kept = (None, None) if hours.is_whole_day else (hours.between, hours.zone)
    if connection.execute(_OF_CAMPAIGN, (campaign,)).fetchone() != kept:
        connection.execute(_LOOK_AGAIN, (campaign,))
        connection.execute(_SET, (*kept, campaign))


def check_zones(
    connection: Connection, campaign: int, hours: SendingHours, *, until: int, at: datetime
) -> None:
    """Raise CampaignError where one that is to be sent, in chunks up to a number, has no zone."""
    if hours.is_whole_day or hours.zone is not None:
        return
    # Closed before the transaction ends, which its cursor belongs to.
    with closing(numbers_to_send(connection, campaign, until=until)) as numbers:
        for key, to in numbers:
            check_zone(SMS(to=to, text="", key=key), hours, at)


def hours_of(connection: Connection, campaign: int) -> SendingHours:
    """Return the hours of a campaign.

    Raises ConfigurationError where this machine lacks what they need.
    """
    between, zone = connection.execute(_OF_CAMPAIGN, (campaign,)).fetchone() or (None, None)
    return read_hours(between, zone)


def read_hours(between: str | None, zone: str | None) -> SendingHours:
    """Return hours as they are kept, None being any time.

    Raises ConfigurationError where this machine lacks what they need.
    """
    if between is None:
        return ANY_TIME
    try:
        return SendingHours.read(between, zone)
    except MissingExtra as error:
        raise ConfigurationError(f"a campaign has hours, and {error}") from error


def check_zone(message: SMS, hours: SendingHours, at: datetime) -> None:
    """Raise CampaignError where it is not known in which time zone a message's number is."""
    if not hours.zones(message.to, at):
        raise CampaignError(
            f"the key {(message.key or '')[:80]!r}: the time zone of its number is not known, and"
            " the campaign has hours: nothing was loaded; name the one that counts for such"
            f" numbers, as --between {hours.between} --tz America/New_York"
        )


class WaitingMessages:
    """The messages of a chunk that wait for their hours, by their keys; `clock` says the time."""

    def __init__(self, hours: SendingHours, clock: Clock) -> None:
        self._hours = hours
        self._clock = clock
        self._numbers: dict[str, str] = {}

    @property
    def are_any(self) -> bool:
        """Whether any message waits."""
        return bool(self._numbers)

    def keys(self) -> list[str]:
        """Return the keys of those that wait, and whose time zone is known."""
        return [key for key, zones in self._zones() if zones]

    def without_zone(self) -> int:
        """Return how many have a number whose time zone is not known: they are not sent."""
        return sum(not zones for _, zones in self._zones())

    def ready(self, messages: Iterator[SMS]) -> Iterator[SMS]:
        """Yield the messages that may begin now; the others wait from then on."""
        for message in messages:
            if self._hours.may_begin(message.to, self._clock()):
                yield message
            else:
                self.add(message)

    def check(self, message: SMS) -> None:
        """Raise OutsideHours where a message may not begin now."""
        self._hours.check(message.to, self._clock())

    def add(self, message: SMS) -> None:
        """Have a message wait."""
        self._numbers[message.key or ""] = message.to

    def seconds(self) -> float:
        """Return for how long the first of them has to wait."""
        now = self._clock()
        openings = (
            self._hours.opening(some, now) for some in {zones for _, zones in self._zones()}
        )
        waits = [(at - now).total_seconds() for at in openings if at is not None]
        return min(waits, default=_UNKNOWN)

    def _zones(self) -> list[tuple[str, tuple[str, ...]]]:
        now = self._clock()
        return [(key, self._hours.zones(to, now)) for key, to in self._numbers.items()]
