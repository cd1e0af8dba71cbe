"""The row of a shared rate: one schedule for all, on a clock that stands still.

Strategy: `frozen_rates` runs the statements as they are, at a time that only the test moves.
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
from skycore_async.limits import shared_rate as shared_rate_module
from skycore_async.limits.local import RECOVERY_TIME, SLOWEST
from skycore_async.limits.permits import LATE, PermitRequest, Permits
from skycore_async.limits.shared_rate import FARTHEST, FEWEST_AHEAD, HORIZON, MARGIN, SharedRate
from skycore_async.postgres.connection import Database
from tests.support.frozen_rates import FrozenDatabase, FrozenRates, full, moments_of


@pytest.fixture
def rates(dsn: str) -> Iterator[FrozenRates]:
    """Share rates in a database whose clock stands still."""
    shared = FrozenRates(dsn)
    yield shared
    shared.close()


def test_the_margin_holds_the_lateness() -> None:
    """The margin of the rate makes up for permits that start late."""
    assert (1 - MARGIN) * (1 + LATE) <= 1


@pytest.mark.parametrize(
    ("rate", "late"), [(1000, 0.0105), (100, 0.015), (1, 0.515), (1.99, 0.0126)]
)
def test_a_slow_rate_leaves_more_time_to_be_late(
    rates: FrozenRates, rate: float, late: float
) -> None:
    """A slow rate allows permits to start later, within the rate."""
    given = rates.shared_rate(rate).ask(PermitRequest(count=1)).late
    assert given == pytest.approx(late, rel=0.01)
    within = (rate * (1 - MARGIN)) * (1 + given)  # permits that can begin in one second
    assert within < int(rate) + 1


@pytest.mark.parametrize("burst", [1, 3])
def test_permits_follow_the_schedule_and_a_burst_comes_at_once(
    rates: FrozenRates, burst: int
) -> None:
    """After idling `burst` permits are due at once, and then one every 1 / rate seconds."""
    shared_rate = rates.shared_rate(2, burst)
    for _ in range(2):
        seen = [moment for _ in range(burst + 2) for moment in rates.moments(shared_rate)]
        assert seen == pytest.approx([0.0] * burst + [full(2), 2 * full(2)], abs=1e-5)
        rates.time.now += 60


def test_one_answer_gives_what_falls_into_a_short_time(rates: FrozenRates) -> None:
    """One answer grants the burst and what falls into a short time, or fewer if asked."""
    shared_rate = rates.shared_rate(1000, 30)
    assert len(rates.moments(shared_rate, 500)) == 29 + int(HORIZON * 990)
    assert len(rates.moments(shared_rate, 500)) == int(HORIZON * 990)
    assert len(rates.moments(shared_rate, 7)) == 7
    assert len(rates.moments(rates.shared_rate(1000, name="far"), 500, delay=0.1)) == int(
        0.12 * 990
    )
    assert len(rates.moments(rates.shared_rate(1, name="slow"), 500)) == 1


def test_who_is_far_away_gets_permits_that_can_still_be_used(rates: FrozenRates) -> None:
    """Permits are due only after the answer can have arrived."""
    shared_rate = rates.shared_rate(1000)
    assert rates.moments(shared_rate, 3, delay=0.25) == pytest.approx(
        [0.25 + n * full(1000) for n in range(3)], abs=1e-5
    )


def test_nobody_reserves_far_ahead(rates: FrozenRates) -> None:
    """Permits are granted only a limited time ahead; beyond it the answer says when to ask."""
    shared_rate = rates.shared_rate(1)
    seen = [moment for _ in range(30) for moment in rates.moments(shared_rate)]
    assert len(seen) == FEWEST_AHEAD
    refused = shared_rate.ask(PermitRequest(count=1))
    assert refused.count == 0
    assert refused.wait == pytest.approx(FEWEST_AHEAD * full(1) - FEWEST_AHEAD, abs=1e-5)
    rates.time.now += refused.wait + 1e-5
    assert rates.moments(shared_rate) == pytest.approx([FEWEST_AHEAD])


def test_a_pause_stops_all_who_share_the_rate(rates: FrozenRates) -> None:
    """A throttle answer to one pauses all who share the rate."""
    shared_rate = rates.shared_rate(100)
    assert rates.throttle(shared_rate, 7.0, 0).pause == pytest.approx(7.0)
    other = rates.shared_rate(100)
    heard = other.ask(PermitRequest(count=5))
    assert (heard.count, heard.halvings) == (0, 1)
    assert heard.pause == pytest.approx(7.0)
    assert rates.throttle(other, 2.0, 0).pause == pytest.approx(7.0)  # it is never cut short
    rates.time.now += 7.0
    assert other.ask(PermitRequest(count=5)).count == 1


def test_a_pause_that_is_told_late_is_over_by_then(rates: FrozenRates) -> None:
    """A pause reported late is over, but still halves the rate."""
    shared_rate = rates.shared_rate(100)
    assert rates.throttle(shared_rate, -5.0, 0).pause == 0
    assert shared_rate.ask(PermitRequest(count=1)).gap == pytest.approx(2 * full(100))


def test_the_rate_is_halved_once_for_what_nobody_had_heard_of(rates: FrozenRates) -> None:
    """The rate is halved once for throttle answers from before a halving."""
    shared_rate = rates.shared_rate(320)
    gaps: list[float] = []
    for known, halve in [
        (0, True),
        (0, True),
        (1, False),
        (1, True),
        *[(n, True) for n in range(2, 8)],
    ]:
        rates.throttle(shared_rate, 1.0, known, halve=halve)
        rates.time.now += 1.0
        gaps.append(full(320) / shared_rate.ask(PermitRequest(count=1)).gap)
    # Each pause ends before the first step of the recovery.
    assert gaps == pytest.approx([1 / n for n in (2, 2, 2, 4, 8, 16)] + [SLOWEST] * 4)


def test_the_rate_recovers_in_steps_and_fully(rates: FrozenRates) -> None:
    """The rate recovers by an eighth with every quiet second."""
    shared_rate = rates.shared_rate(64)
    rates.throttle(shared_rate, 1.0, 0)
    rates.time.now += 1.0
    seen = []
    for _ in range(6):
        seen.append(64 * full(64) / shared_rate.ask(PermitRequest(count=1)).gap)
        rates.time.now += RECOVERY_TIME
    assert seen == pytest.approx([32, 40, 48, 56, 64, 64])


def test_an_answer_to_an_old_message_takes_back_no_recovery(rates: FrozenRates) -> None:
    """A late throttle answer pauses, and does not undo the recovery."""
    shared_rate = rates.shared_rate(64)
    rates.throttle(shared_rate, 1.0, 0)
    rates.time.now += 1.0 + 2 * RECOVERY_TIME
    rates.throttle(shared_rate, 1.0, 0)
    rates.time.now += 1.0
    assert full(64) / shared_rate.ask(PermitRequest(count=1)).gap == pytest.approx(48 / 64)


def test_nobody_sleeps_through_the_recovery(rates: FrozenRates) -> None:
    """A permit due at a low rate comes sooner once the rate has recovered."""
    shared_rate = rates.shared_rate(4)
    for known in range(5):
        rates.throttle(shared_rate, 1.0, known)
        rates.time.now += 1.0
    asked, last = rates.time.now, 0.0
    while rates.time.now < asked + 12:
        grant = shared_rate.ask(PermitRequest(count=1))
        last = max([last, *moments_of(grant)])
        rates.time.now += max(grant.wait, 0.001)
    assert last - asked < 12 + FEWEST_AHEAD / 4 + 1
    rates.time.now = last
    assert shared_rate.ask(PermitRequest(count=1)).gap == pytest.approx(full(4))
    assert rates.moments(shared_rate)[0] <= 2 * full(4) + 1e-5


def test_a_clock_that_is_set_back_stops_nobody(rates: FrozenRates) -> None:
    """Permits go on at once if the database's clock is set back."""
    shared_rate = rates.shared_rate(100)
    rates.moments(shared_rate)
    rates.time.now -= 3600
    grant = shared_rate.ask(PermitRequest(count=1))
    rates.time.now += grant.wait + 1e-5
    assert rates.moments(shared_rate)[0] < FARTHEST + 0.1


@pytest.mark.parametrize("looks", [0, 1], ids=["at once", "seen to pause before"])
def test_a_clock_that_is_set_back_makes_no_pause_longer(rates: FrozenRates, looks: int) -> None:
    """A clock set back during a pause restarts that pause, no more."""
    shared_rate = rates.shared_rate(10)
    rates.throttle(shared_rate, 2.0, 0)
    for _ in range(looks):
        rates.time.now += 1.0
        assert shared_rate.ask(PermitRequest(count=1)).pause == pytest.approx(1.0)
    rates.time.now -= 3600
    assert shared_rate.open().pause == pytest.approx(2.0)
    assert shared_rate.ask(PermitRequest(count=1)).pause == pytest.approx(2.0)
    rates.time.now += 1.0
    assert shared_rate.ask(PermitRequest(count=1)).pause == pytest.approx(1.0)
    assert rates.throttle(shared_rate, 0.5, 1, halve=False).pause == pytest.approx(1.0)
    rates.time.now += 1.0
    grant = shared_rate.ask(PermitRequest(count=1))
    assert (grant.pause, grant.count) == (0, 1)
    assert grant.gap == pytest.approx(2 * full(10))
    rates.time.now += RECOVERY_TIME * 4
    assert shared_rate.ask(PermitRequest(count=1)).gap == pytest.approx(full(10))


def test_the_rate_that_was_opened_last_holds_for_all(rates: FrozenRates, dsn: str) -> None:
    """The rate opened last counts for all who share the name."""
    old = SharedRate(FrozenDatabase(dsn, rates.time), "promo", rate=10, burst=1, clock=rates.time)
    old.open()
    rates.shared_rate(500)
    old.close()
    assert old.ask(PermitRequest(count=1)).gap == pytest.approx(full(500))
    old.close()


def test_a_row_that_was_removed_is_made_again(rates: FrozenRates, dsn: str) -> None:
    """A removed row is made again."""
    shared_rate = rates.shared_rate(10)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM skycore.shared_rates")
    assert rates.moments(shared_rate) == pytest.approx([0.0], abs=1e-5)


def test_a_row_that_cannot_be_made_is_no_permit(
    rates: FrozenRates, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is granted if the row is removed as fast as it is made."""
    shared_rate = rates.shared_rate(10)
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM skycore.shared_rates")
    monkeypatch.setattr(shared_rate_module, "_MAKE", "SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="again and again"):
        shared_rate.ask(PermitRequest(count=1))


def test_rates_of_other_names_are_apart(rates: FrozenRates) -> None:
    """Rates of different names are independent."""
    rates.throttle(rates.shared_rate(10), 60.0, 0)
    assert rates.moments(rates.shared_rate(10, name="alerts")) == pytest.approx([0.0], abs=1e-5)


def test_connections_that_ask_at_once_get_different_permits(dsn: str) -> None:
    """Concurrent requests get different permits."""
    given: list[float] = []

    def process() -> None:
        shared_rate = SharedRate(Database(dsn), "promo", rate=10_000, burst=1, clock=lambda: 0.0)
        shared_rate.open()
        for _ in range(100):
            given.extend(moments_of(shared_rate.ask(PermitRequest(count=3))))
        shared_rate.close()

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
            # Seconds that pass before it looks at its permits, and that an answer takes.
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
    rates: FrozenRates,
    rate: float,
    burst: int,
    steps: list[tuple[int, float, float]],
    throttled: int | None,
) -> None:
    """No second has more starts than rate and burst, in random runs."""
    shared_rate = rates.shared_rate(rate, burst, name=f"{rate} {burst} {rates.time.now}")
    processes = [Permits() for _ in range(3)]
    for each in processes:  # which know from the first how far the clocks are apart
        each.granted(rates.throttle(shared_rate, 0.0, 0, halve=False), rates.time.now)
    starts: list[float] = []
    for number, (process, late, took) in enumerate(itertools.islice(itertools.cycle(steps), 150)):
        permits = processes[process]
        rates.time.now += late
        while permits.start(rates.time.now):
            starts.append(rates.time.now)
        if number == throttled:
            permits.slow_down(rates.time.now, started=rates.time.now, retry_after=0.05)
        if asked := permits.ask(rates.time.now, 50):
            grant = shared_rate.ask(asked)
            rates.time.now += took
            permits.granted(attrs.evolve(grant, received=rates.time.now), rates.time.now)
    assert most_in_a_second(starts) <= rate + burst
