"""When postbacks are posted: the provider's rules, on a clock that the tests move."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import attrs
import pytest

from skycore_async.simulator.behaviours import DELIVERED, SENT
from skycore_async.simulator.outbox import Outbox, Parcel
from skycore_async.simulator.postbacks import Postback

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIRST = Postback(
    event=SENT, to="1", tracking_id="a", history_id=1, id=1, created=NOON, timestamp=NOON
)
SECOND = attrs.evolve(FIRST, event=DELIVERED, id=2)


def due(outbox: Outbox, now: float) -> Parcel:
    assert outbox.wait(now) == 0
    parcel = outbox.take(now)
    assert parcel is not None
    return parcel


def test_an_empty_outbox_has_nothing_due() -> None:
    """With nothing pending there is nothing to take, and nothing to wait for."""
    outbox = Outbox(time_scale=1)
    assert outbox.take(0) is None
    assert outbox.wait(0) == math.inf
    assert outbox.pending == 0


def test_a_messages_postbacks_follow_one_another() -> None:
    """A message's second postback is due a pause after the first was posted."""
    outbox = Outbox(time_scale=1)
    outbox.add((FIRST, SECOND), 100)
    assert outbox.pending == 2
    assert outbox.wait(100) == 1
    assert outbox.take(100.9) is None
    first = due(outbox, 101)
    assert first.postbacks == (FIRST,)
    assert outbox.wait(101) == math.inf
    outbox.settle(first, 200, 105)
    assert outbox.wait(105) == 1
    second = due(outbox, 106)
    assert (second.postbacks, second.attempt) == ((SECOND,), 1)
    outbox.settle(second, 200, 106)
    assert outbox.pending == 0
    assert outbox.wait(106) == math.inf


@pytest.mark.parametrize("status", [None, 201, 204, 302, 404, 500])
def test_whatever_is_not_200_is_repeated_five_times(status: int | None) -> None:
    """A postback not answered with 200 is repeated five times, every five minutes."""
    outbox = Outbox(time_scale=1)
    outbox.add((FIRST,), 0)
    now, attempts = 1.0, list[int]()
    while outbox.pending:
        parcel = due(outbox, now)
        assert parcel.postbacks == (FIRST,)
        attempts.append(parcel.attempt)
        outbox.settle(parcel, status, now)
        if outbox.pending:
            assert outbox.wait(now) == 300
        now += 300
    assert attempts == [1, 2, 3, 4, 5, 6]
    assert outbox.wait(now) == math.inf


def test_a_repetition_answered_with_200_is_the_last() -> None:
    """A postback that is answered with 200 at the second attempt is not repeated again."""
    outbox = Outbox(time_scale=1)
    outbox.add((FIRST,), 0)
    outbox.settle(due(outbox, 1), 500, 1)
    assert outbox.pending == 1
    outbox.settle(due(outbox, 301), 200, 301)
    assert outbox.pending == 0


def test_a_repetition_holds_up_nothing() -> None:
    """A receipt does not wait for a sent notification that is being repeated."""
    outbox = Outbox(time_scale=1)
    outbox.add((FIRST, SECOND), 0)
    outbox.settle(due(outbox, 1), 500, 1)
    assert due(outbox, 2).postbacks == (SECOND,)
    again = due(outbox, 301)
    assert (again.postbacks, again.attempt, again.following) == ((FIRST,), 2, ())


def test_intervals_are_scaled() -> None:
    """The pause and the repetition are both multiplied by the scale."""
    outbox = Outbox(time_scale=0.5)
    outbox.add((FIRST,), 0)
    assert outbox.wait(0) == 0.5
    outbox.settle(due(outbox, 0.5), 500, 0.5)
    assert outbox.wait(0.5) == 150


def test_postbacks_due_together_go_in_order_of_arrival() -> None:
    """Postbacks that are due at the same time go in the order of arrival."""
    outbox = Outbox(time_scale=0)
    outbox.add((FIRST,), 0)
    outbox.add((SECOND,), 0)
    assert [due(outbox, 0).postbacks, due(outbox, 0).postbacks] == [(FIRST,), (SECOND,)]


@pytest.mark.parametrize("status", [200, 500])
def test_on_posted_comes_once_after_the_last_postback(status: int) -> None:
    """`on_posted` comes once, after the last postback's first attempt."""
    outbox, calls = Outbox(time_scale=0), list[str]()
    outbox.add((FIRST, SECOND), 0, on_posted=lambda: calls.append("posted"))
    outbox.settle(due(outbox, 0), 200, 0)
    assert calls == []
    outbox.settle(due(outbox, 0), status, 0)
    assert calls == ["posted"]
    if outbox.pending:
        outbox.settle(due(outbox, 0), status, 0)
    assert calls == ["posted"]


def test_a_bundle_has_all_postbacks_of_a_minute() -> None:
    """With bundling, all postbacks of a minute go together, in order."""
    outbox, calls = Outbox(time_scale=1, bundling=True), list[str]()
    outbox.add((FIRST, SECOND), 0, on_posted=lambda: calls.append("a"))
    outbox.add((SECOND,), 30, on_posted=lambda: calls.append("b"))
    assert outbox.wait(0) == 60
    assert outbox.take(59) is None
    parcel = due(outbox, 60)
    assert parcel.postbacks == (FIRST, SECOND, SECOND)
    assert outbox.take(60) is None
    outbox.settle(parcel, 500, 61)
    assert calls == ["a", "b"]
    assert outbox.pending == 3
    again = due(outbox, 361)
    assert (again.postbacks, again.attempt) == (parcel.postbacks, 2)
    outbox.settle(again, 200, 361)
    assert (outbox.pending, calls) == (0, ["a", "b"])
    outbox.add((FIRST,), 400)
    assert outbox.wait(400) == 60


def test_a_bundle_has_at_most_300() -> None:
    """Postbacks beyond 300 go at once in the next bundle."""
    outbox = Outbox(time_scale=1, bundling=True)
    for _ in range(350):
        outbox.add((FIRST, SECOND), 0)
    sizes = [len(due(outbox, 60).postbacks) for _ in range(3)]
    assert sizes == [300, 300, 100]
    assert outbox.take(60) is None


@pytest.mark.parametrize("bundling", [False, True])
def test_clearing_forgets_everything(bundling: bool) -> None:
    """After clearing, nothing is pending or due."""
    outbox = Outbox(time_scale=1, bundling=bundling)
    outbox.add((FIRST, SECOND), 0)
    outbox.clear()
    assert (outbox.pending, outbox.take(1000), outbox.wait(0)) == (0, None, math.inf)
