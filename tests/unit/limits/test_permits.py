"""The permits of a process: used in time or lost, requested late, safely translated.

Strategy: all of it is arithmetic, so times are plain numbers.
"""

from __future__ import annotations

import attrs
import pytest

from skycore_async.limits.local import PAUSE
from skycore_async.limits.permits import AHEAD, LATE, PermitGrant, PermitRequest, Permits, Throttle

# What the database's clock shows when ours shows 0.
THERE = 5000.0


def answer(at: float, *, took: float = 0.0, halvings: int = 0, pause: float = 0.0) -> PermitGrant:
    """Return an answer without permits, made at the moment of the request."""
    return PermitGrant(now=THERE + at, sent=at, received=at + took, halvings=halvings, pause=pause)


def permits_at(*moments: float, asked: float = 0.0, took: float = 0.0) -> PermitGrant:
    """Grant a permit at each of these evenly spaced moments of our clock."""
    return PermitGrant(
        now=THERE + asked,
        sent=asked,
        received=asked + took,
        halvings=0,
        pause=0.0,
        count=len(moments),
        first=THERE + moments[0],
        gap=moments[1] - moments[0] if len(moments) > 1 else 0.0,
        soonest=THERE + asked,
    )


def holding(*moments: float) -> Permits:
    permits = Permits()
    permits.granted(permits_at(*moments) if moments else answer(0.0), 0.0)
    return permits


def test_a_permit_begins_when_it_is_due_and_once() -> None:
    """Each permit starts one message, and not before its time."""
    permits = holding(1.0, 2.0)
    assert [permits.start(now) for now in (0.99, 1.0, 1.0, 1.99, 2.0, 2.0)] == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_permit_that_is_missed_is_lost() -> None:
    """A permit can be used up to LATE, or the granted lateness, after its time."""
    assert holding(1.0).start(1.0 + LATE)
    assert not holding(1.0).start(1.001 + LATE)
    late = holding(1.0, 2.0)
    assert late.start(2.0)
    assert not late.start(2.0)
    slow = Permits()
    slow.granted(attrs.evolve(permits_at(1.0), late=0.5), 0.0)
    assert slow.start(1.5)


def test_as_many_are_asked_for_as_wait() -> None:
    """As many permits are requested as waiters lack."""
    assert Permits().ask(0.0, 0) is None
    assert Permits().ask(0.0, 7) == PermitRequest(count=7)
    permits = holding(1.0, 2.0)
    assert permits.ask(2.0, 2) is None
    assert permits.ask(2.0, 5) == PermitRequest(count=3)


def test_more_are_asked_for_shortly_before_the_last_is_due() -> None:
    """More permits are requested just before the last one is due."""
    permits = holding()
    permits.granted(permits_at(1.0, 2.0, took=0.1), 0.1)
    due = 2.0 - AHEAD - 0.1
    assert permits.ask(due - 0.001, 5) is None
    assert permits.pause(0.5, is_asking=False) == pytest.approx(0.5)
    assert permits.start(1.0)
    assert permits.pause(1.5, is_asking=False) == pytest.approx(due - 1.5)
    assert permits.pause(1.5, is_asking=True) == pytest.approx(0.5)
    assert permits.ask(due + 0.001, 5) == PermitRequest(
        count=4, delay=0.1
    )  # as long as the answer took
    assert Permits().pause(0.0, is_asking=True) is None


def test_the_delay_of_requests_follows_the_time_of_answers() -> None:
    """The delay of requests follows how long answers took."""
    permits = Permits()
    delays = []
    for took in (0.2, 0.0, 0.3, 60.0):
        permits.granted(answer(0.0, took=took), took)
        asked = permits.ask(100.0, 1)
        assert asked is not None
        delays.append(asked.delay)
    assert delays == pytest.approx([0.2, 0.18, 0.3, 0.5])


def test_a_permit_is_never_earlier_here_than_there() -> None:
    """A permit never starts earlier by our clock than by the database's."""
    permits = Permits()
    permits.granted(answer(0.0, took=0.02), 0.02)
    permits.granted(permits_at(1.0, asked=0.5, took=0.3), 0.8)
    assert not permits.start(1.019)
    assert permits.start(1.0201)


def test_a_clock_that_was_set_is_noticed() -> None:
    """A jump of the database's clock resets the translation."""
    for jump in (-100.0, 100.0):
        permits = Permits()
        permits.granted(answer(0.0), 0.0)
        there = THERE + 1.0 + jump
        grant = PermitGrant(
            now=there, sent=1.0, received=1.01, halvings=0, pause=0.0, count=1, first=there + 1.0
        )
        permits.granted(grant, 1.01)
        assert not permits.start(1.99)
        assert permits.start(2.015)


def test_nothing_is_asked_for_before_one_is_told_to() -> None:
    """An answer without permits says when to ask again."""
    permits = Permits()
    permits.granted(
        PermitGrant(now=1.0, sent=0.0, received=0.0, halvings=0, pause=0.0, wait=3.0), 0.0
    )
    assert permits.ask(2.9, 1) is None
    assert permits.pause(1.0, is_asking=False) == pytest.approx(2.0)
    assert permits.ask(3.0, 1) == PermitRequest(count=1)


@pytest.mark.parametrize("heard", ["here", "there"])
def test_a_pause_gives_up_what_was_granted_before_it(heard: str) -> None:
    """A pause discards permits that were granted before it."""
    permits = holding(1.0, 2.0)
    if heard == "here":
        permits.slow_down(0.5, started=0.0, retry_after=4.0)
        assert permits.ask(0.5, 0) == PermitRequest(
            throttle=Throttle(until=4.5, halve=True, halvings=0)
        )
    else:
        permits.granted(answer(0.5, pause=4.0), 0.5)
    permits.granted(permits_at(1.0, 2.0, asked=0.6), 0.6)
    assert not permits.start(1.0)
    assert permits.ask(4.4, 3) is None
    assert permits.pause(3.5, is_asking=False) == pytest.approx(1.0)
    assert permits.ask(4.5, 3) == PermitRequest(count=3)


@pytest.mark.parametrize("retry_after", [None, -1.0, float("inf"), float("nan")])
def test_without_a_usable_retry_after_a_pause_has_its_usual_length(
    retry_after: float | None,
) -> None:
    """Without a usable Retry-After a pause has its default length."""
    permits = Permits()
    permits.slow_down(7.0, started=6.0, retry_after=retry_after)
    asked = permits.ask(7.0, 0)
    assert asked is not None
    assert asked.throttle is not None
    assert asked.throttle.until == 7.0 + PAUSE


def test_the_rate_is_halved_once_for_those_under_way_together() -> None:
    """The rate is halved once for messages under way together."""
    permits = Permits()

    def told(now: float, started: float) -> Throttle | None:
        permits.slow_down(now, started=started, retry_after=0.0)
        asked = permits.ask(now, 0)
        return asked.throttle if asked else None

    assert told(2.0, started=1.0) == Throttle(until=2.0, halve=True, halvings=0)
    assert told(2.5, started=1.9) == Throttle(until=2.5, halve=False, halvings=0)
    permits.granted(answer(3.0, halvings=1), 3.0)  # it was halved, by us or another
    assert told(3.5, started=2.9) == Throttle(until=3.5, halve=False, halvings=1)
    assert told(3.6, started=3.1) == Throttle(until=3.6, halve=True, halvings=1)


def test_a_failure_is_followed_by_a_pause_that_grows_and_nothing_is_forgotten() -> None:
    """A failed request is followed by a growing pause, and throttling is reported later."""
    permits = Permits()
    permits.slow_down(0.0, started=-1.0, retry_after=30.0)
    pauses, now = [], 0.0
    for _ in range(7):
        asked = permits.ask(now, 1)
        assert asked is not None
        permits.failed(asked, now)
        permits.slow_down(now, started=-1.0, retry_after=1.0)
        pauses.append(permits._ask_not_before - now)
        assert permits.ask(permits._ask_not_before - 0.001, 1) is None
        now = permits._ask_not_before
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])
    assert permits.ask(now, 1) == PermitRequest(
        throttle=Throttle(until=30.0, halve=True, halvings=0)
    )
    permits.granted(answer(now), now)
    permits.failed(PermitRequest(count=1), now)
    assert permits._ask_not_before - now == pytest.approx(0.1)
