"""The row of a shared pace: a schedule that all keep together, on a clock that stands still.

Strategy: `frozen_paces` has the statements run as they are, at a time that passes
only where a test lets it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import attrs
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmarks.pace import most_in_a_second
from skycore_async.limits import shared_rate as paces_module
from skycore_async.limits.local import RECOVERY_TIME, SLOWEST
from skycore_async.limits.permits import LATE, PermitRequest, Permits
from skycore_async.limits.shared_rate import FARTHEST, HORIZON, MARGIN, PLACES, SharedRate
from skycore_async.postgres.connection import Database
from tests.support.frozen_paces import FrozenDatabase, Paces, full, moments_of


@pytest.fixture
def paces(dsn: str) -> Iterator[Paces]:
    """Share paces in a database whose clock stands still."""
    shared = Paces(dsn)
    yield shared
    shared.close()


def test_the_margin_holds_the_lateness() -> None:
    """As many as come late into a second are fewer by the margin."""
    assert (1 - MARGIN) * (1 + LATE) <= 1


@pytest.mark.parametrize(
    ("rate", "late"), [(1000, 0.0105), (100, 0.015), (1, 0.515), (1.99, 0.0126)]
)
def test_a_slow_pace_leaves_more_time_to_be_late(paces: Paces, rate: float, late: float) -> None:
    """Where a second has part of a place left, half of that is for those who are late."""
    given = paces.pace(rate).ask(PermitRequest(count=1)).late
    assert given == pytest.approx(late, rel=0.01)
    within = (rate * (1 - MARGIN)) * (1 + given)  # turns that can begin in one second
    assert within < int(rate) + 1


@pytest.mark.parametrize("burst", [1, 3])
def test_turns_follow_the_schedule_and_a_burst_comes_at_once(paces: Paces, burst: int) -> None:
    """After idling `burst` are due at once, and then one every 1 / rate seconds, and 1 % more."""
    pace = paces.pace(2, burst)
    for _ in range(2):
        seen = [moment for _ in range(burst + 2) for moment in paces.moments(pace)]
        assert seen == pytest.approx([0.0] * burst + [full(2), 2 * full(2)], abs=1e-5)
        paces.time.now += 60


def test_one_answer_gives_what_falls_into_a_short_time(paces: Paces) -> None:
    """Who wants many gets a few, and the burst with them; who wants few gets no more."""
    pace = paces.pace(1000, 30)
    assert len(paces.moments(pace, 500)) == 29 + int(HORIZON * 990)
    assert len(paces.moments(pace, 500)) == int(HORIZON * 990)
    assert len(paces.moments(pace, 7)) == 7
    assert len(paces.moments(paces.pace(1000, name="far"), 500, delay=0.1)) == int(0.12 * 990)
    assert len(paces.moments(paces.pace(1, name="slow"), 500)) == 1


def test_who_is_far_away_gets_turns_that_can_still_be_used(paces: Paces) -> None:
    """No turn is due before the answer can have arrived."""
    pace = paces.pace(1000)
    assert paces.moments(pace, 3, delay=0.25) == pytest.approx(
        [0.25 + n * full(1000) for n in range(3)], abs=1e-5
    )


def test_nobody_reserves_far_ahead(paces: Paces) -> None:
    """Beyond a time, or a number of turns where it is slow, one is told when to ask again."""
    pace = paces.pace(1)
    seen = [moment for _ in range(30) for moment in paces.moments(pace)]
    assert len(seen) == PLACES
    refused = pace.ask(PermitRequest(count=1))
    assert refused.count == 0
    assert refused.wait == pytest.approx(PLACES * full(1) - PLACES, abs=1e-5)
    paces.time.now += refused.wait + 1e-5
    assert paces.moments(pace) == pytest.approx([PLACES])


def test_a_pause_stops_all_who_share_the_pace(paces: Paces) -> None:
    """A throttle answer to one: nobody gets a turn until its pause is over."""
    pace = paces.pace(100)
    assert paces.throttle(pace, 7.0, 0).pause == pytest.approx(7.0)
    other = paces.pace(100)
    heard = other.ask(PermitRequest(count=5))
    assert (heard.count, heard.halvings) == (0, 1)
    assert heard.pause == pytest.approx(7.0)
    assert paces.throttle(other, 2.0, 0).pause == pytest.approx(7.0)  # it is never cut short
    paces.time.now += 7.0
    assert other.ask(PermitRequest(count=5)).count == 1


def test_a_pause_that_is_told_late_is_over_by_then(paces: Paces) -> None:
    """It counts from when it was heard of; the rate is halved all the same."""
    pace = paces.pace(100)
    assert paces.throttle(pace, -5.0, 0).pause == 0
    assert pace.ask(PermitRequest(count=1)).gap == pytest.approx(2 * full(100))


def test_the_rate_is_halved_once_for_what_nobody_had_heard_of(paces: Paces) -> None:
    """Who tells of a message from before a halving, or was told not to halve, only pauses."""
    pace = paces.pace(320)
    gaps: list[float] = []
    for known, halve in [
        (0, True),
        (0, True),
        (1, False),
        (1, True),
        *[(n, True) for n in range(2, 8)],
    ]:
        paces.throttle(pace, 1.0, known, halve=halve)
        paces.time.now += 1.0
        gaps.append(full(320) / pace.ask(PermitRequest(count=1)).gap)
    # Each pause ends before the first step of the recovery.
    assert gaps == pytest.approx([1 / n for n in (2, 2, 2, 4, 8, 16)] + [SLOWEST] * 4)


def test_the_rate_recovers_in_steps_and_fully(paces: Paces) -> None:
    """An eighth of the rate comes back with every quiet second, until it is whole."""
    pace = paces.pace(64)
    paces.throttle(pace, 1.0, 0)
    paces.time.now += 1.0
    seen = []
    for _ in range(6):
        seen.append(64 * full(64) / pace.ask(PermitRequest(count=1)).gap)
        paces.time.now += RECOVERY_TIME
    assert seen == pytest.approx([32, 40, 48, 56, 64, 64])


def test_an_answer_to_an_old_message_takes_back_no_recovery(paces: Paces) -> None:
    """A late answer pauses, and the recovery goes on from where it was."""
    pace = paces.pace(64)
    paces.throttle(pace, 1.0, 0)
    paces.time.now += 1.0 + 2 * RECOVERY_TIME
    paces.throttle(pace, 1.0, 0)
    paces.time.now += 1.0
    assert full(64) / pace.ask(PermitRequest(count=1)).gap == pytest.approx(48 / 64)


def test_nobody_sleeps_through_the_recovery(paces: Paces) -> None:
    """What was due at a very low rate comes sooner once the rate is whole again."""
    pace = paces.pace(4)
    for known in range(5):
        paces.throttle(pace, 1.0, known)
        paces.time.now += 1.0
    asked, last = paces.time.now, 0.0
    while paces.time.now < asked + 12:
        grant = pace.ask(PermitRequest(count=1))
        last = max([last, *moments_of(grant)])
        paces.time.now += max(grant.wait, 0.001)
    assert last - asked < 12 + PLACES / 4 + 1
    paces.time.now = last
    assert pace.ask(PermitRequest(count=1)).gap == pytest.approx(full(4))
    assert paces.moments(pace)[0] <= 2 * full(4) + 1e-5


def test_a_clock_that_is_set_back_stops_nobody(paces: Paces) -> None:
    """Where the clock of the database is set back by an hour, turns go on at once."""
    pace = paces.pace(100)
    paces.moments(pace)
    paces.time.now -= 3600
    grant = pace.ask(PermitRequest(count=1))
    paces.time.now += grant.wait + 1e-5
    assert paces.moments(pace)[0] < FARTHEST + 0.1


def test_the_rate_that_was_opened_last_holds_for_all(paces: Paces, dsn: str) -> None:
    """A new rate can be rolled out; who connects again brings back no old one."""
    old = SharedRate(FrozenDatabase(dsn, paces.time), "promo", rate=10, burst=1, clock=paces.time)
    old.open()
    paces.pace(500)
    old.close()
    assert old.ask(PermitRequest(count=1)).gap == pytest.approx(full(500))
    old.close()


def test_a_row_that_was_removed_is_made_again(paces: Paces, dsn: str) -> None:
    """Removing the row of a pace in use stops nobody."""
    pace = paces.pace(10)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM skycore.shared_rates")
    assert paces.moments(pace) == pytest.approx([0.0], abs=1e-5)


def test_a_row_that_cannot_be_made_is_no_turn(
    paces: Paces, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody removes it as fast as it is made, nothing is granted."""
    pace = paces.pace(10)
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM skycore.shared_rates")
    monkeypatch.setattr(paces_module, "_MAKE", "SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="again and again"):
        pace.ask(PermitRequest(count=1))


def test_paces_of_other_names_are_apart(paces: Paces) -> None:
    """One name is slowed, another is not."""
    paces.throttle(paces.pace(10), 60.0, 0)
    assert paces.moments(paces.pace(10, name="alerts")) == pytest.approx([0.0], abs=1e-5)


def test_connections_that_ask_at_once_get_different_turns(dsn: str) -> None:
    """Each statement waits for the one before it, and goes on from where that ended."""
    given: list[float] = []

    def process() -> None:
        pace = SharedRate(Database(dsn), "promo", rate=10_000, burst=1, clock=lambda: 0.0)
        pace.open()
        for _ in range(100):
            given.extend(moments_of(pace.ask(PermitRequest(count=3))))
        pace.close()

    threads = [threading.Thread(target=process) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given.sort()
    gaps = [after - before for before, after in itertools.pairwise(given)]
    assert len(given) == 4 * 100 * 3
    assert min(gaps) > full(10_000) * 0.9


@pytest.mark.slow
@given(
    rate=st.floats(0.5, 500),
    burst=st.integers(1, 10),
    steps=st.lists(
        st.tuples(
            st.integers(0, 2),  # the process
            # Seconds that pass before it looks at its turns, and that an answer takes.
            st.floats(0, LATE) | st.floats(0, 0.02) | st.sampled_from([0.0, 0.0, LATE, 0.5]),
            st.just(0.0) | st.floats(0, 0.02),
        ),
        min_size=1,
        max_size=12,
    ),
    throttled=st.none() | st.integers(0, 150),
)
@example(rate=1.9, burst=1, steps=[(0, 0.009, 0.0), (0, 0.5, 0.0)], throttled=None)
@example(rate=0.5, burst=3, steps=[(0, 0.0, 0.0), (0, 0.009, 0.0)], throttled=1)
@example(rate=100, burst=1, steps=[(0, LATE * 0.99, 0.0)], throttled=None)  # none is lost
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_second_sees_more_than_rate_and_burst(
    paces: Paces,
    rate: float,
    burst: int,
    steps: list[tuple[int, float, float]],
    throttled: int | None,
) -> None:
    """However processes come by turns, wake late, are slow or throttled, no second is too full."""
    pace = paces.pace(rate, burst, name=f"{rate} {burst} {paces.time.now}")
    processes = [Permits() for _ in range(3)]
    for each in processes:  # which know from the first how far the clocks are apart
        each.granted(paces.throttle(pace, 0.0, 0, halve=False), paces.time.now)
    starts: list[float] = []
    for number, (process, late, took) in enumerate(itertools.islice(itertools.cycle(steps), 150)):
        turns = processes[process]
        paces.time.now += late
        while turns.start(paces.time.now):
            starts.append(paces.time.now)
        if number == throttled:
            turns.slow_down(paces.time.now, started=paces.time.now, retry_after=0.05)
        if asked := turns.ask(paces.time.now, 50):
            grant = pace.ask(asked)
            paces.time.now += took
            turns.granted(attrs.evolve(grant, received=paces.time.now), paces.time.now)
    assert most_in_a_second(starts) <= rate + burst
