"""The hours of a campaign, stored with it, and the wait of a chunk's messages for them.

Rules:

* Messages outside of their hours are not begun, and do not delay others: their chunk is due again
  when the first of them may be sent.
* A load that names no hours keeps the present ones.  The whole day is the same as no hours.
* New hours hold at once: a worker that has a chunk is fenced off, since it would go on with the
  old ones.  The chunk is not taken again before that worker's lease has ended.
* The time of day is that of the worker's machine.
* A message whose number has no known time zone would wait for ever, so loading it, or setting
  hours for it, raises an error.  A worker whose tables know fewer zones announces such messages.
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

_UNKNOWN: Final = 3600.0  # seconds to wait if no message has a known time zone

_SET: Final = "UPDATE skycore.campaigns SET hours = %s, zone = %s WHERE id = %s"
# All chunks, so that this waits for a chunk that is being finished.
_LOOK_AGAIN: Final = """
UPDATE skycore.chunks SET epoch = epoch + 1, state = 'waiting', worker = NULL, put_off = 0,
    due = clock_timestamp()
WHERE campaign = %s AND state <> 'done'
"""
_OF_CAMPAIGN: Final = "SELECT hours, zone FROM skycore.campaigns WHERE id = %s"


def set_hours(connection: Connection, campaign: int, hours: SendingHours) -> None:
    """Store the hours of a campaign, and make its chunks due again if the hours changed."""
    kept = (None, None) if hours.is_whole_day else (hours.between, hours.zone)
    if connection.execute(_OF_CAMPAIGN, (campaign,)).fetchone() != kept:
        connection.execute(_LOOK_AGAIN, (campaign,))
        connection.execute(_SET, (*kept, campaign))


def check_zones(
    connection: Connection, campaign: int, hours: SendingHours, *, until: int, at: datetime
) -> None:
    """Raise CampaignError if a message to send, in chunks up to a number, has no time zone."""
    if hours.is_whole_day or hours.zone is not None:
        return
    # Closed before the transaction ends, to which its cursor belongs.
    with closing(numbers_to_send(connection, campaign, until=until)) as numbers:
        for key, to in numbers:
            check_zone(SMS(to=to, text="", key=key), hours, at)


def hours_of(connection: Connection, campaign: int) -> SendingHours:
    """Return the hours of a campaign.

    Raises ConfigurationError if this machine lacks what they need.
    """
    between, zone = connection.execute(_OF_CAMPAIGN, (campaign,)).fetchone() or (None, None)
    return read_hours(between, zone)


def read_hours(between: str | None, zone: str | None) -> SendingHours:
    """Return stored hours; None is any time.

    Raises ConfigurationError if this machine lacks what they need.
    """
    if between is None:
        return ANY_TIME
    try:
        return SendingHours.read(between, zone)
    except MissingExtra as error:
        raise ConfigurationError(f"a campaign has hours, and {error}") from error


def check_zone(message: SMS, hours: SendingHours, at: datetime) -> None:
    """Raise CampaignError if the time zone of a message's number is not known."""
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
        """Return the keys of the messages that wait and whose time zone is known."""
        return [key for key, zones in self._zones() if zones]

    def without_zone(self) -> int:
        """Return how many numbers have no known time zone: their messages are not sent."""
        return sum(not zones for _, zones in self._zones())

    def ready(self, messages: Iterator[SMS]) -> Iterator[SMS]:
        """Yield the messages that may begin now, and have the others wait."""
        for message in messages:
            if self._hours.may_begin(message.to, self._clock()):
                yield message
            else:
                self.add(message)

    def check(self, message: SMS) -> None:
        """Raise OutsideHours if a message may not begin now."""
        self._hours.check(message.to, self._clock())

    def add(self, message: SMS) -> None:
        """Have a message wait."""
        self._numbers[message.key or ""] = message.to

    def seconds(self) -> float:
        """Return the seconds until the first of them may be sent."""
        now = self._clock()
        openings = (
            self._hours.opening(some, now) for some in {zones for _, zones in self._zones()}
        )
        waits = [(at - now).total_seconds() for at in openings if at is not None]
        return min(waits, default=_UNKNOWN)

    def _zones(self) -> list[tuple[str, tuple[str, ...]]]:
        now = self._clock()
        return [(key, self._hours.zones(to, now)) for key, to in self._numbers.items()]
