"""One process's permits of a shared rate: which is due, and when to ask for more.  No I/O.

Strategy: arithmetic on times that the caller passes, all on this process's own clock.  A
`PermitRequest` is a question to the database, and a `PermitGrant` its answer, whose moments are on
the database's clock.

Rules:

* A permit never begins earlier by this clock than by the database's.  The answer was made between
  the request and its arrival, which bounds the difference of the clocks; bounds that contradict
  each other mean that a clock was set, and are measured anew.  A permit may begin later here, by
  no more than the quickest answer took.
* A permit is lost unless it is used within `LATE`, or the time that the answer gave instead; the
  schedule allows for that.
* No process hoards: it asks for as many permits as messages wait, and for the next ones only
  shortly before the last is due.
* A throttle answer gives up all permits, until its pause is over.  It halves the rate unless any
  process halved it since the message started.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import attrs

from .local import PAUSE

LATE: Final = 0.01  # seconds after its moment in which a permit may still begin
AHEAD: Final = 0.01  # seconds before the last permit, over what an answer takes, to ask for more

_LONGEST: Final = 0.5  # seconds that an answer is thought to take
_FORGET: Final = 0.9  # of a slow answer, with every quicker one
_FIRST_RETRY: Final = 0.1  # seconds, doubled with every failure
_LAST_RETRY: Final = 2.0


@attrs.frozen(kw_only=True)
class Throttle:
    """A throttle answer to report: nobody starts before `until`, and the rate may be halved.

    The rate is halved if `halve` is set and it was halved exactly `halvings` times so far.
    """

    until: float
    halve: bool
    halvings: int


@attrs.frozen(kw_only=True)
class PermitRequest:
    """A request for permits, none before `delay` seconds from now; or a throttle to report."""

    count: int = 0
    delay: float = 0.0
    throttle: Throttle | None = None


@attrs.frozen(kw_only=True)
class PermitGrant:
    """The database's answer, made at `now` on its clock.

    It grants `count` permits, one every `gap` seconds from `first` on, but none
    before `soonest`; if it grants none, ask again after `wait` seconds.
    A permit may begin `late` seconds after its moment.  Nobody starts for `pause`
    seconds.  `halvings` is how often the rate was halved.  `sent` and `received`
    are on this process's clock.
    """

    now: float
    sent: float
    received: float
    halvings: int
    pause: float
    count: int = 0
    first: float = 0.0
    gap: float = 0.0
    soonest: float = 0.0
    wait: float = 0.0
    late: float = LATE


class Permits:
    """The permits that were granted and not used."""

    def __init__(self) -> None:
        self._held: deque[float] = deque()
        self._late = LATE
        self._offset = math.inf  # what to add to the database's time
        self._delay = 0.0
        self._ask_not_before = -math.inf
        self._retry = _FIRST_RETRY
        self._paused_until = -math.inf
        self._halvings = 0
        self._halved_at = -math.inf  # when it was last heard that the rate was halved
        self._throttle: Throttle | None = None

    def start(self, now: float) -> bool:
        """Use a permit, if one is due; permits that were not used in time are lost."""
        while self._held and self._held[0] + self._late < now:
            self._held.popleft()
        if not self._held or self._held[0] > now:
            return False
        self._held.popleft()
        return True

    def is_to_ask(self, now: float, waiting: int) -> bool:
        """Return whether to ask the database now, if so many messages wait."""
        if self._throttle is not None:
            return now >= self._ask_not_before
        return waiting > len(self._held) and now >= self._ask_at()

    def ask(self, now: float, waiting: int) -> PermitRequest | None:
        """Return what to ask for now, if so many messages wait; None for nothing."""
        if not self.is_to_ask(now, waiting):
            return None
        throttle, self._throttle = self._throttle, None
        if throttle is not None:
            return PermitRequest(throttle=throttle)
        return PermitRequest(count=waiting - len(self._held), delay=self._delay)

    def pause(self, now: float, *, is_asking: bool) -> float | None:
        """Return the seconds until a permit is due or more should be asked for.

        None if only the answer to the running request can help.
        """
        moments = [*list(self._held)[:1], *([] if is_asking else [self._ask_at()])]
        return max(0.0, min(moments) - now) if moments else None

    def granted(self, grant: PermitGrant, now: float) -> None:
        """Take an answer into account."""
        took = now - grant.sent
        self._delay = min(_LONGEST, max(took, self._delay * _FORGET))
        self._retry = _FIRST_RETRY
        self._late = grant.late
        self._keep_time(grant)
        if grant.halvings != self._halvings:
            self._halvings = grant.halvings
            self._halved_at = now
        if grant.pause > 0:
            self._stop_until(grant.received + grant.pause)
        self._ask_not_before = now + grant.wait
        if now < self._paused_until:
            return  # they were granted before the pause was known of
        for number in range(grant.count):
            moment = max(grant.soonest, grant.first + number * grant.gap)
            self._held.append(moment + self._offset)

    def failed(self, ask: PermitRequest, now: float) -> None:
        """Take into account that no answer came, and try again after a while."""
        if ask.throttle is not None:
            self._report(ask.throttle)
        self._ask_not_before = now + self._retry
        self._retry = min(self._retry * 2, _LAST_RETRY)

    def slow_down(self, now: float, *, started: float, retry_after: float | None) -> None:
        """Take into account that the API throttled a message whose permit began at `started`."""
        if retry_after is None or not 0 <= retry_after < math.inf:
            retry_after = PAUSE
        halve = started > self._halved_at
        if halve:
            self._halved_at = now
        self._stop_until(now + retry_after)
        self._report(Throttle(until=now + retry_after, halve=halve, halvings=self._halvings))

    def _report(self, throttle: Throttle) -> None:
        other = self._throttle or throttle
        self._throttle = attrs.evolve(
            throttle,
            until=max(throttle.until, other.until),
            halve=throttle.halve or other.halve,
        )

    def _stop_until(self, until: float) -> None:
        self._held.clear()
        self._paused_until = max(self._paused_until, until)

    def _ask_at(self) -> float:
        last = self._held[-1] - AHEAD - self._delay if self._held else -math.inf
        return max(last, self._ask_not_before, self._paused_until)

    def _keep_time(self, grant: PermitGrant) -> None:
        earliest, latest = grant.sent - grant.now, grant.received - grant.now
        self._offset = latest if self._offset < earliest else min(self._offset, latest)
