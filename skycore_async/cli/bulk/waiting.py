"""What a run waits for: its start, and the hours of recipients.

Strategy: a row outside its recipient's hours is put off, which keeps its line number together with
those of the same time zones.  A run takes the rows first whose hours have begun, and waits only
when no other row is left to send.

Rules:

* The hours of one recipient keep no other recipient waiting.
* This machine's clock says what time it is.  It is read again and again while a run waits, as a
  machine may sleep for a part of the night.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import anyio
import attrs

from ...messages import SMS
from ...sending.hours import ANY_TIME, Clock, SendingHours, utc_now
from ..ui.output import number_of
from ..ui.times import time_of

_LOOK_EVERY: Final = 30.0  # seconds between looks at the clock


@attrs.frozen(kw_only=True)
class NextHours:
    """When the next hours begin, for how many recipients, and in which time zones."""

    at: datetime
    count: int
    zones: Sequence[str]

    @property
    def words(self) -> str:
        """Say until when a run waits, and for whom."""
        clocks = {
            zone: self.at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for zone in self.zones
        }
        last = min(self.zones, key=clocks.__getitem__)  # where the hours have just begun
        others = len(self.zones) - 1
        more = f" and {number_of(others, 'other zone')}" if others else ""
        return (
            f"waiting until {clocks[last]:%H:%M} for {number_of(self.count, 'recipient')} in"
            f" {last}{more} ({time_of(self.at)})"
        )


class PutOff:
    """The rows that wait for the hours of their recipients, by line number."""

    def __init__(self, hours: SendingHours = ANY_TIME, clock: Clock = utc_now) -> None:
        self._hours = hours
        self._is_any_time = hours.is_whole_day  # kept, as each row asks for it
        self._clock = clock
        self._lines: dict[tuple[str, ...], array[int]] = {}
        self.count = 0

    def may_begin(self, to: str) -> bool:
        """Return whether a number may be sent to now."""
        return self._is_any_time or self._hours.may_begin(to, self._clock())

    def check(self, message: SMS) -> None:
        """Raise OutsideHours where a message may not begin now."""
        self._hours.check(message.to, self._clock())

    def add(self, line: int, to: str) -> bool:
        """Put off the row on a line; return False where its number has no known time zone."""
        zones = self._hours.zones(to, self._clock())
        if not zones:
            return False
        self._lines.setdefault(zones, array("q")).append(line)
        self.count += 1
        return True

    def take_open(self, most: int) -> list[int]:
        """Return at most so many lines of rows whose hours have begun, and forget them."""
        now = self._clock()
        for zones, lines in self._lines.items():
            if lines and self._hours.are_open(zones, now):
                taken = lines[:most].tolist()
                del lines[:most]
                self.count -= len(taken)
                return taken
        return []

    def opening(self) -> NextHours | None:
        """Return the next hours that begin; None where no row waits."""
        now = self._clock()
        found = {
            zones: at
            for zones, lines in self._lines.items()
            if lines and (at := self._hours.opening(zones, now)) is not None
        }
        if not found:
            return None
        first = min(found.values())
        those = [zones for zones, at in found.items() if at == first]
        return NextHours(
            at=first,
            count=sum(len(self._lines[zones]) for zones in those),
            zones=list(dict.fromkeys(zone for zones in those for zone in zones)),
        )


@asynccontextmanager
async def running(task: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run a task while this is open."""
    async with anyio.create_task_group() as group:
        group.start_soon(task)
        yield
        group.cancel_scope.cancel()


async def wait_until(time: datetime, clock: Clock) -> None:
    """Wait until it is that time."""
    while (left := (time - clock()).total_seconds()) > 0:  # noqa: ASYNC110 - it is a clock
        await anyio.sleep(min(left, _LOOK_EVERY))
