"""What a run waits for: its start, and the hours of the recipients whose hours are not now.

Strategy: of a row that is put off its line is kept, with those of the same zones.  A run
takes those first whose zones are within the hours by now, and waits when there is no other
row left to send.

Rules:

* Nobody's hours keep anybody else waiting.
* It is this machine's clock that says what time it is.  It is looked at every so often, as
  a machine may sleep for a part of the night.
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
    """When the hours of so many recipients begin, and in which of their zones."""

    at: datetime
    count: int
    zones: Sequence[str]

    @property
    def words(self) -> str:
        """Say what is waited for."""
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
    """The rows whose recipients' hours are not now, by their lines."""

    def __init__(self, hours: SendingHours = ANY_TIME, clock: Clock = utc_now) -> None:
        self._hours = hours
        self._is_any_time = hours.is_whole_day  # asked for each row
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
        """Put off the row on a line until the hours of its number; False where it has none."""
        zones = self._hours.zones(to, self._clock())
        if not zones:
            return False
        self._lines.setdefault(zones, array("q")).append(line)
        self.count += 1
        return True

    def take_open(self, most: int) -> list[int]:
        """Return lines of rows that need wait no more, and forget them."""
        now = self._clock()
        for zones, lines in self._lines.items():
            if lines and self._hours.are_open(zones, now):
                taken = lines[:most].tolist()
                del lines[:most]
                self.count -= len(taken)
                return taken
        return []

    def opening(self) -> NextHours | None:
        """Return when the next hours begin for whom; None where nobody waits for any."""
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
async def beside_it(task: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run a task for as long as something else is done."""
    async with anyio.create_task_group() as group:
        group.start_soon(task)
        yield
        group.cancel_scope.cancel()


async def wait_until(time: datetime, clock: Clock) -> None:
    """Wait until it is that time."""
    while (left := (time - clock()).total_seconds()) > 0:  # noqa: ASYNC110 - it is a clock
        await anyio.sleep(min(left, _LOOK_EVERY))
