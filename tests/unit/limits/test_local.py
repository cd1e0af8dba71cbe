"""Rate limits: never too fast in any second, never slower than it must be, and in order.

Strategy: time is injected, and passes only where a test or a waiter's sleep
lets it.  What must hold for every pattern of arrivals, late wake-ups, stalls
and throttle answers is a property; the rest are examples.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from functools import partial
from itertools import chain, cycle, repeat
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skycore_async import ConfigurationError
from skycore_async.limits import local
from skycore_async.limits.base import Limiter
from skycore_async.limits.local import PAUSE, RECOVERY_TIME, SLOWEST, RateLimiter


class Time:
    """A clock that only sleepers move, who wake late as told. While `held`, sleepers sleep on."""

    def __init__(self, lateness: Iterator[float] | None = None) -> None:
        self.now = 1000.0
        self.held = False
        self._lateness = lateness or repeat(0.0)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        while self.held:
            await anyio.lowlevel.checkpoint()
        self.now += seconds + next(self._lateness)


def limited(time: Time, rate: float | None, burst: int = 1) -> RateLimiter:
    return RateLimiter(rate, burst, clock=time, sleep=time.sleep)


def at_once(limiter: RateLimiter) -> int:
    """Count how many start before one is refused."""
    return next(count for count in range(10_000) if limiter.start_now() is None)


def starts_within(limiter: RateLimiter, time: Time, seconds: float) -> int:
    """Count how many start if somebody always asks as soon as told."""
    end, count = time.now + seconds, 0
    while time.now < end:
        pause = limiter.reserve()
        count += not pause
        time.now += pause
    return count


def most_in_a_second(starts: list[float]) -> int:
    """Return the most starts in any window of one second."""
    most = first = 0
    for last, start in enumerate(starts):
        while starts[first] + 1.0 <= start:
            first += 1
        most = max(most, last - first + 1)
    return most


async def settle() -> None:
    """Let every task run as far as it can without time."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


def test_a_rate_limiter_is_a_limiter() -> None:
    """RateLimiter satisfies the Limiter protocol."""
    limiter: Limiter = RateLimiter(None)
    assert limiter.start_now() is not None


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_a_rate_must_be_a_number_above_0(rate: float) -> None:
    """A rate that is not a finite number above 0 is refused."""
    with pytest.raises(ConfigurationError, match="rate"):
        RateLimiter(rate)


def test_a_burst_must_let_something_start() -> None:
    """A burst below 1 is refused."""
    with pytest.raises(ConfigurationError, match="burst"):
        RateLimiter(1, 0)


@pytest.mark.parametrize(
    ("rate", "burst", "text"),
    [
        ("20", 1, "rate: a number is needed, not str"),
        (20, 1.5, "burst: a whole number is needed, not float"),
    ],
)
def test_a_rate_of_a_wrong_type_is_refused(rate: Any, burst: Any, text: str) -> None:
    """A rate or burst of a wrong type is refused by name."""
    with pytest.raises(ConfigurationError, match=text):
        RateLimiter(rate, burst)


@pytest.mark.parametrize(
    ("rate", "burst", "starts"),
    [
        (2, 1, [0.0, 0.5, 1.0, 1.5, 2.0]),
        (2, 3, [0.0, 0.0, 0.0, 0.5, 1.0]),
        (0.5, 1, [0.0, 2.0, 4.0, 6.0, 8.0]),
        (None, 1, [0.0, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_starts_follow_the_schedule(rate: float | None, burst: int, starts: list[float]) -> None:
    """`burst` starts are at once, then one every 1 / rate seconds; without rate all at once."""
    time = Time()
    limiter = limited(time, rate, burst)
    seen: list[float] = []
    while len(seen) < len(starts):
        pause = limiter.reserve()
        time.now += pause
        if not pause:
            seen.append(time.now - 1000)
    assert seen == starts


@pytest.mark.parametrize("burst", [1, 5])
@pytest.mark.anyio
async def test_idling_saves_no_more_than_the_burst(burst: int) -> None:
    """After idling `burst` start at once and no more."""
    time = Time()
    limiter = limited(time, 500, burst)
    assert starts_within(limiter, time, 1) > 400
    time.now += 60
    assert at_once(limiter) == burst
    time.now += 60
    starts: list[float] = []

    async def send() -> None:
        starts.append(await limiter.wait())

    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(send)
    assert starts.count(starts[0]) == burst


def test_a_refusal_spends_nothing() -> None:
    """`start_now` in vain changes no later answer."""
    time = Time()
    asked, left_alone = limited(time, 500, 2), limited(time, 500, 2)
    for pause in [0.0, 0.0001, 0.0015, 0.0004, 60.0, 0.0, 0.001, 0.0005]:
        time.now += pause
        assert at_once(asked) == at_once(left_alone)
        for _ in range(5):
            assert asked.start_now() is None


@pytest.mark.slow
@given(
    rate=st.floats(0.5, 300),
    burst=st.integers(1, 20),
    asking=st.lists(
        st.tuples(st.floats(0, 0.01) | st.floats(0, 2), st.integers(1, 400)), max_size=20
    ),
)
def test_no_second_sees_more_than_rate_and_burst(
    rate: float, burst: int, asking: list[tuple[float, int]]
) -> None:
    """No window of a second has more starts than rate and burst."""
    time = Time()
    limiter = limited(time, rate, burst)
    starts: list[float] = []
    for late, times in asking:
        for _ in range(times):
            pause = limiter.reserve()
            if pause:
                time.now += pause + late
            else:
                starts.append(time.now)
    assert most_in_a_second(starts) <= rate + burst


@pytest.mark.slow
@given(
    rate=st.floats(0.5, 100),
    burst=st.integers(1, 20),
    lateness=st.lists(st.just(0.0) | st.floats(0, 0.03) | st.floats(0, 2), min_size=1),
    arrivals=st.lists(st.tuples(st.floats(0, 2), st.integers(0, 200)), max_size=3),
    throttles=st.sets(st.integers(0, 60), max_size=3),
)
@example(
    rate=100, burst=1, lateness=[5.0, *[0.0] * 199], arrivals=[(0.0, 150)], throttles=set()
)  # one stall, and then enough waiters to fill the second after it
def test_waiters_who_catch_up_fill_no_second_too_much(
    rate: float,
    burst: int,
    lateness: list[float],
    arrivals: list[tuple[float, int]],
    throttles: set[int],
) -> None:
    """Late wake-ups, stalls and throttling never exceed rate and burst in a second."""
    time = Time(cycle(lateness))
    starts: list[float] = []

    async def send(limiter: RateLimiter) -> None:
        starts.append(await limiter.wait())
        if len(starts) in throttles:
            limiter.slow_down(started=starts[-1])
        time.now += lateness[len(starts) % len(lateness)] / 10

    async def run() -> None:
        limiter = limited(time, rate, burst)
        for idle, waiters in arrivals:
            time.now += idle
            async with anyio.create_task_group() as group:
                for _ in range(waiters):
                    group.start_soon(send, limiter)

    anyio.run(run)
    assert len(starts) == sum(waiters for _, waiters in arrivals)
    assert most_in_a_second(starts) <= rate + burst


@pytest.mark.slow
@pytest.mark.anyio
async def test_late_wake_ups_do_not_slow_the_whole() -> None:
    """Wake-ups up to 2 ms late keep a rate of 500 within 1 %."""
    time = Time(cycle([0.002, 0.0003, 0.0011, 0.0019, 0.0, 0.0007]))
    limiter = limited(time, 500)
    starts: list[float] = []

    async def send() -> None:
        while time.now < 1010:
            starts.append(await limiter.wait())

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(send)
    in_time = [start for start in starts if start < 1010]
    assert len(in_time) == pytest.approx(5000, rel=0.01)
    assert most_in_a_second(starts) <= 501


@pytest.mark.anyio
async def test_a_stall_is_made_up_for_only_a_little() -> None:
    """After a stall waiters catch up 20 ms of the schedule at most."""
    time = Time(chain([10.0], repeat(0.0)))
    limiter = limited(time, 500)
    starts: list[float] = []

    async def send() -> None:
        starts.append(await limiter.wait())

    async with anyio.create_task_group() as group:
        for _ in range(1200):
            group.start_soon(send)
    assert starts[1] > 1010
    assert starts.count(starts[1]) == 11  # 20 ms at 500/s, and its own start
    assert most_in_a_second(starts) == 500


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [
        (None, PAUSE),
        (0.0, 0.0),
        (2.5, 2.5),
        (120.0, 120.0),
        (-1.0, PAUSE),
        (math.nan, PAUSE),
        (math.inf, PAUSE),
        (-math.inf, PAUSE),
    ],
)
def test_a_throttle_answer_pauses_everyone(retry_after: float | None, pause: float) -> None:
    """A throttle answer pauses all for its Retry-After, or else a second."""
    time = Time()
    limiter = limited(time, None)
    started = limiter.start_now() or 0.0
    limiter.slow_down(started=started, retry_after=retry_after)
    assert limiter.reserve() == pytest.approx(pause or 1.0)  # the one of this second was sent
    time.now += max(pause, 1.0)
    assert limiter.reserve() == 0


def test_a_shorter_retry_after_does_not_end_a_longer_pause() -> None:
    """Of several pauses the longest counts."""
    time = Time()
    limiter = limited(time, 10)
    limiter.slow_down(started=time.now, retry_after=5)
    limiter.slow_down(started=time.now, retry_after=1)
    assert limiter.reserve() == 5


@pytest.mark.anyio
async def test_a_pause_reaches_who_waits_already_and_ends_without_a_rush() -> None:
    """A pause also stops waiters, and is not made up for."""
    time = Time()
    limiter = limited(time, 100)
    started = limiter.start_now() or 0.0
    time.held = True
    starts: list[float] = []

    async def send() -> None:
        starts.append(await limiter.wait())

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(send)
        await settle()
        limiter.slow_down(started=started, retry_after=3)
        time.held = False
    assert starts == pytest.approx([1003, 1003.02, 1003.04])


def test_messages_under_way_together_halve_the_rate_once() -> None:
    """Throttle answers to messages under way together halve the rate once."""
    time = Time()
    limiter = limited(time, 16, 4)
    started = limiter.start_now() or 0.0
    time.now += 0.1
    for _ in range(100):
        limiter.slow_down(started=started)
    limiter.slow_down(started=time.now)
    time.now += PAUSE
    assert starts_within(limiter, time, 0.99) == 4 + 7  # the burst, and one every 1/8 second


def test_the_rate_is_halved_again_for_a_later_message_but_never_below_the_slowest() -> None:
    """A throttled message from after a halving halves again, down to a minimum."""
    time = Time()
    limiter = limited(time, 320)
    shares = []
    for _ in range(8):
        limiter.slow_down(started=time.now)
        time.now += PAUSE
        assert limiter.reserve() == 0
        shares.append(1 / limiter.reserve() / 320)
    assert shares == pytest.approx([1 / 2, 1 / 4, 1 / 8, 1 / 16, *[SLOWEST] * 4])


def test_the_rate_recovers_in_steps_and_fully() -> None:
    """An eighth of the rate comes back with every quiet second, until it is whole."""
    time = Time()
    limiter = limited(time, 64)
    limiter.slow_down(started=time.now)
    time.now += PAUSE
    seen = []
    for _ in range(6):
        limiter.reserve()
        seen.append(1 / limiter.reserve())
        time.now += RECOVERY_TIME
    assert seen == pytest.approx([32, 40, 48, 56, 64, 64])


def test_an_answer_to_an_old_message_takes_back_no_recovery() -> None:
    """A late throttle answer pauses, and does not undo the recovery."""
    time = Time()
    limiter = limited(time, 64)
    limiter.slow_down(started=time.now)
    time.now += PAUSE + 2 * RECOVERY_TIME
    limiter.slow_down(started=900)
    time.now += PAUSE
    assert limiter.reserve() == 0
    assert 1 / limiter.reserve() == pytest.approx(48)


def test_nobody_sleeps_through_the_recovery() -> None:
    """A start due at a low rate comes sooner once the rate has recovered."""
    time = Time()
    limiter = limited(time, 0.5)
    for _ in range(5):
        limiter.slow_down(started=time.now)
        time.now += PAUSE
    assert limiter.reserve() == 0
    asked = time.now
    while pause := limiter.reserve():
        time.now += pause
    assert time.now - asked < 10  # at the lowest rate it would be 64 seconds


def test_a_rate_is_learnt_where_there_is_none() -> None:
    """Without a rate a throttle answer sets half of the current one, which recovers."""
    time = Time()
    limiter = limited(time, None)
    for _ in range(160):
        limiter.start_now()
        time.now += 0.01
    limiter.slow_down(started=time.now)
    time.now += PAUSE
    assert starts_within(limiter, time, 0.99) == pytest.approx(50, abs=1)
    assert starts_within(limiter, time, 1) == pytest.approx(62, abs=2)
    time.now += 8 * RECOVERY_TIME
    assert limiter.reserve() == 0
    assert [limiter.reserve() for _ in range(1000)] == [0.0] * 1000
    limiter.slow_down(started=time.now)
    time.now += PAUSE
    assert limiter.reserve() == 0
    assert 1 / limiter.reserve() == pytest.approx(500, rel=0.01)


@pytest.mark.anyio
async def test_first_come_first_served_and_start_now_never_overtakes() -> None:
    """Waiters start in order, and `start_now` overtakes none."""
    time = Time()
    limiter = limited(time, 10)
    limiter.start_now()
    time.held = True
    order: list[int] = []

    async def send(number: int) -> None:
        await limiter.wait()
        order.append(number)

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(send, number)
            await settle()
        time.now += 60
        assert limiter.start_now() is None
        time.held = False
    assert order == [0, 1, 2, 3, 4]
    time.now += 60
    assert limiter.start_now() == time.now


@pytest.mark.anyio
async def test_each_event_loop_has_its_own_waiters(anyio_backend: str) -> None:
    """Each event loop has its own queue of waiters."""
    time = Time()
    limiter = limited(time, 10)
    assert limiter.start_now() == 1000.0
    time.held = True
    starts: list[float] = []

    async def wait() -> None:
        starts.append(await limiter.wait())

    async def wait_elsewhere() -> None:
        with anyio.fail_after(20):  # where it would wait for ever
            await wait()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await settle()
        time.now += 0.1
        run = partial(anyio.run, wait_elsewhere, backend=anyio_backend)
        await anyio.to_thread.run_sync(run)
        assert starts == [1000.1]
        assert limiter.start_now() is None  # as somebody waits here
        time.now += 0.1
        time.held = False
    assert starts == pytest.approx([1000.1, 1000.3])
    time.now += 1
    assert limiter.start_now() == time.now


def test_a_forked_process_waits_for_no_thread_of_its_parents() -> None:
    """A forked child does not wait for a lock that a parent's thread held."""
    limiter = RateLimiter(None)
    limiter._guard.acquire()
    thread = threading.Thread(target=local._in_child)
    thread.start()
    thread.join()
    found: list[float | None] = []
    thread = threading.Thread(target=lambda: found.append(limiter.start_now()), daemon=True)
    thread.start()
    thread.join(20)  # where it would wait for ever
    assert found != []


@pytest.mark.parametrize("victim", [0, 1], ids=["at the head", "in the queue"])
@pytest.mark.parametrize("native", [False, True], ids=["scope", "native"])
@pytest.mark.anyio
async def test_a_cancelled_waiter_costs_the_others_nothing(
    victim: int, native: bool, anyio_backend: str
) -> None:
    """A cancelled waiter takes no start and delays no other."""
    if native and anyio_backend != "asyncio":
        pytest.skip("trio has cancel scopes alone")
    time = Time()
    limiter = limited(time, 10)
    limiter.start_now()
    time.held = True
    starts: dict[int, float] = {}
    tasks: dict[int, asyncio.Task[object] | None] = {}
    scope = anyio.CancelScope()

    async def wait(number: int) -> None:
        starts[number] = await limiter.wait()

    async def send(number: int) -> None:
        if native and number == victim:
            tasks[number] = asyncio.create_task(wait(number))
        elif number == victim:
            with scope:
                await wait(number)
        else:
            await wait(number)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(send, number)
            await settle()
        scope.cancel()
        for task in tasks.values():
            if task is not None:
                task.cancel()
        await settle()
        time.held = False
    left = [number for number in range(4) if number != victim]
    assert list(starts) == left
    assert list(starts.values()) == pytest.approx([1000.1, 1000.2, 1000.3])
    time.now += 1
    assert limiter.start_now() == time.now


@pytest.mark.anyio
async def test_waiters_that_left_leave_nothing_to_catch_up() -> None:
    """The schedule is not made up for after the last waiter has left."""
    time = Time()
    limiter = limited(time, 500)
    limiter.start_now()
    time.held = True
    with anyio.move_on_after(0):
        await limiter.wait()
    time.now += 60
    assert at_once(limiter) == 1


@pytest.mark.anyio
async def test_a_rate_limiter_is_made_outside_and_shared_by_clients_of_one_event_loop(
    anyio_backend: str,
) -> None:
    """A limiter made outside an event loop limits all its clients together."""
    time = Time()
    limiter = await anyio.to_thread.run_sync(limited, time, 10)
    starts: list[float] = []

    async def client() -> None:
        for _ in range(5):
            starts.append(await limiter.wait())  # noqa: PERF401 - the two take permits

    async with anyio.create_task_group() as group:
        group.start_soon(client)
        group.start_soon(client)
    assert starts == pytest.approx([1000 + n / 10 for n in range(10)])
