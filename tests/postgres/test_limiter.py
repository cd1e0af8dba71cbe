"""A rate shared through PostgreSQL: in order, for all, and no start without the database.

Strategy: where order and permits are tested, the database's clock and ours stand still
(`frozen_rates`), and a sleeper moves them. What two limiters, or a database that goes away, do to
each other is seen in real time, by what must come or must not, never by how long it takes.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import psycopg
import pytest

from benchmarks import postgres
from benchmarks.pace import most_in_a_second
from skycore_async import (
    SMS,
    Accepted,
    ConfigurationError,
    Limiter,
    PostgresLimiter,
    SkycoreClient,
    Throttled,
)
from skycore_async.limits.shared_rate import SharedRate
from tests.support.frozen_rates import FrozenDatabase, FrozenRates, Time, full
from tests.support.stub_transport import Answer, StubTransport, accepted

pytestmark = pytest.mark.anyio


@pytest.fixture
def rates(dsn: str) -> Iterator[FrozenRates]:
    """Share rates in a database whose clock stands still."""
    shared = FrozenRates(dsn)
    yield shared
    shared.close()


class Sleepers:
    """A sleep that moves the time, unless it is held."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self.held = False
        self.is_asleep = False

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        while self.held:
            self.is_asleep = True
            await anyio.lowlevel.checkpoint()
        self._time.now += seconds + 1e-5  # the database's clock has microseconds


@asynccontextmanager
async def standing_still(
    dsn: str, rates: FrozenRates, rate: float, burst: int = 1
) -> AsyncIterator[tuple[PostgresLimiter, Sleepers]]:
    """Open a limiter whose clock and database clock are that of `rates`."""
    sleepers = Sleepers(rates.time)
    limiter = PostgresLimiter(dsn, "promo", rate, burst, clock=rates.time, sleep=sleepers.sleep)
    database = FrozenDatabase(dsn, rates.time)
    limiter._shared_rate = SharedRate(database, "promo", rate=rate, burst=burst, clock=rates.time)
    async with limiter:
        yield limiter, sleepers


async def until(holds: Callable[[], bool]) -> None:
    """Let other tasks run until the condition holds."""
    with anyio.fail_after(20):
        while not holds():  # noqa: ASYNC110 - what holds has no event
            await anyio.sleep(0.001)


async def come(limiter: PostgresLimiter, count: int) -> None:
    """Start `count` waiters."""
    await until(lambda: limiter._waiting >= count)


async def test_a_client_takes_a_shared_rate_where_it_takes_a_rate(dsn: str) -> None:
    """A client accepts a PostgresLimiter as `rate`."""
    transport = StubTransport(accepted)
    messages = [SMS(to=f"1555123488{n}", text="Hello") for n in range(10)]
    async with PostgresLimiter(dsn, "promo", 1000, burst=3) as limiter:
        same: Limiter = limiter
        client = SkycoreClient(api_key="a key", from_="60856", transport=transport, rate=same)
        async with client, client.send_many(messages) as outcomes:
            assert all([isinstance(outcome, Accepted) async for outcome in outcomes])
    assert len(transport.sent) == 10


async def test_a_throttled_message_is_told_by_the_client(dsn: str) -> None:
    """A throttle answer pauses and halves the shared rate, and the message goes out later."""
    script: list[Answer] = [Throttled("too fast", retry_after=0.01), accepted("15551234888")]
    transport = StubTransport(lambda _to: script.pop(0))
    async with PostgresLimiter(dsn, "promo", 1000) as limiter:
        client = SkycoreClient(api_key="a key", from_="60856", transport=transport, rate=limiter)
        async with client:
            await client.send_sms(to="15551234888", text="Hello")
    assert halvings(dsn) == 1


def halvings(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT halvings FROM skycore.shared_rates").fetchone()
    return -1 if row is None else int(row[0])


@pytest.mark.slow
async def test_two_that_share_a_name_keep_one_rate(dsn: str) -> None:
    """Two limiters of one name together keep the rate, and each gets a share."""
    starts: list[tuple[float, PostgresLimiter]] = []

    async def send(limiter: PostgresLimiter) -> None:
        while len(starts) < 400:
            starts.append((await limiter.wait(), limiter))

    async with (
        PostgresLimiter(dsn, "promo", 300, 5) as one,
        PostgresLimiter(dsn, "promo", 300, 5) as two,
        anyio.create_task_group() as group,
    ):
        for limiter in (one, two):
            for _ in range(10):
                group.start_soon(send, limiter)
    assert most_in_a_second(sorted(start for start, _ in starts)) <= 300 + 5
    assert {limiter for _, limiter in starts} == {one, two}


async def test_waiters_start_in_the_order_of_their_coming(dsn: str, rates: FrozenRates) -> None:
    """Waiters start first come, first served, one every 1 / rate seconds."""
    async with standing_still(dsn, rates, 10) as (limiter, sleepers):
        first = await limiter.wait()
        sleepers.held = True
        starts: dict[int, float] = {}

        async def send(number: int) -> None:
            starts[number] = await limiter.wait()

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(send, number)
                await come(limiter, number + 1)
            assert limiter.start_now() is None
            sleepers.held = False
        assert list(starts) == [0, 1, 2, 3, 4]
        due = [first + number * full(10) for number in range(1, 6)]
        assert list(starts.values()) == pytest.approx(due, abs=0.002)


async def test_a_permit_that_is_due_and_nobody_waits_for_is_given_at_once(
    dsn: str, rates: FrozenRates
) -> None:
    """`start_now` takes a due permit that a cancelled waiter left, once."""
    async with standing_still(dsn, rates, 10) as (limiter, sleepers):
        assert limiter.start_now() is None
        await limiter.wait()
        sleepers.held = True
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(limiter.wait)
                await until(lambda: bool(limiter._permits._held) and sleepers.is_asleep)
                assert limiter.start_now() is None
                rates.time.now += full(10) + 1e-3
                assert limiter.start_now() is None
                scope.cancel()
        rates.time.now -= 0.05
        assert limiter.start_now() is None
        rates.time.now += 0.05
        assert limiter.start_now() == rates.time.now
        assert limiter.start_now() is None


@pytest.mark.parametrize("victim", [0, 1], ids=["at the head", "in the queue"])
@pytest.mark.parametrize("native", [False, True], ids=["scope", "native"])
async def test_a_cancelled_waiter_leaves_its_permit_to_the_next(
    victim: int, native: bool, anyio_backend: str, dsn: str, rates: FrozenRates
) -> None:
    """A cancelled waiter's permit goes to the next one."""
    if native and anyio_backend != "asyncio":
        pytest.skip("trio has cancel scopes alone")
    starts: dict[int, float] = {}
    tasks: list[asyncio.Task[None]] = []
    scope = anyio.CancelScope()
    first = math.nan

    async def wait(number: int) -> None:
        starts[number] = await limiter.wait()

    async def send(number: int) -> None:
        if number != victim:
            await wait(number)
        elif native:
            tasks.append(asyncio.create_task(wait(number)))
        else:
            with scope:
                await wait(number)

    async with standing_still(dsn, rates, 10) as (limiter, sleepers):
        await limiter.wait()
        sleepers.held = True
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(send, number)
                await come(limiter, number + 1)
            await until(lambda: bool(limiter._permits._held))
            first = limiter._permits._held[0]
            scope.cancel()
            for task in tasks:
                task.cancel()
            await until(lambda: limiter._waiting < 3)
            sleepers.held = False
        assert list(starts) == [number for number in range(3) if number != victim]
        assert min(starts.values()) == pytest.approx(first, abs=0.002)


async def test_a_permit_of_a_cancelled_waiter_goes_to_the_next(dsn: str) -> None:
    """A permit whose waiter was cancelled during the request goes to the next one."""
    async with PostgresLimiter(dsn, "promo", 1) as limiter:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(limiter.wait)
                await until(lambda: limiter._is_asking or bool(limiter._permits._held))
                scope.cancel()
        with anyio.fail_after(20):
            await limiter.wait()


async def test_a_throttle_answer_to_one_is_heard_by_the_other(dsn: str) -> None:
    """A throttle answer pauses all limiters of the name."""
    async with PostgresLimiter(dsn, "promo", 1000) as other:
        async with PostgresLimiter(dsn, "promo", 1000) as limiter:
            limiter.slow_down(started=await limiter.wait(), retry_after=600)
            await until(lambda: not limiter._is_asking)
            assert halvings(dsn) == 1
            with anyio.move_on_after(0.05):
                await limiter.wait()
                pytest.fail("it started while it was paused")
        with anyio.move_on_after(0.05):
            await other.wait()
            pytest.fail("the other started while it was paused")
        other.slow_down(started=-math.inf, retry_after=1)
    assert halvings(dsn) == 1


async def test_slow_down_without_an_open_limiter_does_nothing(dsn: str) -> None:
    """`slow_down` before opening or after closing does nothing."""
    limiter = PostgresLimiter(dsn, "promo", 1000)
    limiter.slow_down(started=0.0)
    async with limiter:
        pass
    limiter.slow_down(started=0.0)


@pytest.mark.slow
async def test_nothing_starts_while_the_database_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No message starts while the database is away; both changes are logged once."""
    with postgres.running() as server:
        async with PostgresLimiter(server.dsn(), "promo", 1000) as limiter:
            await limiter.wait()
            await anyio.to_thread.run_sync(server.stop, "immediate")
            with anyio.move_on_after(0.5):
                while True:
                    await limiter.wait()
                    assert not caplog.messages, "it started after the database was gone"
            with anyio.fail_after(20):
                async with anyio.create_task_group() as group:
                    group.start_soon(limiter.wait)
                    await anyio.to_thread.run_sync(server.start)
    levels = [record.levelno for record in caplog.records if record.name == "skycore_async"]
    assert levels == [logging.WARNING, logging.WARNING]
    assert "nothing starts until it answers again" in caplog.messages[0]
    assert caplog.messages[1].endswith("answers again")


async def test_a_limiter_is_opened_and_closed_in_order(dsn: str) -> None:
    """A limiter that is not open, or closed, raises an error."""
    limiter = PostgresLimiter(dsn, "promo", 1000)
    with pytest.raises(ConfigurationError, match="is not open: use `async with`"):
        await limiter.wait()
    await limiter.aclose()
    await limiter.open()
    await limiter.open()
    await limiter.wait()
    await limiter.aclose()
    await limiter.aclose()
    with pytest.raises(RuntimeError, match="this limiter is closed"):
        await limiter.wait()
    with pytest.raises(RuntimeError, match="this limiter is closed"):
        await limiter.open()


async def test_closing_raises_for_all_waiters(dsn: str, rates: FrozenRates) -> None:
    """Closing a limiter raises RuntimeError for all who wait."""
    async with standing_still(dsn, rates, 10) as (limiter, sleepers):
        limiter.slow_down(started=0.0, retry_after=60)
        sleepers.held = True

        async def send() -> None:
            with pytest.raises(RuntimeError, match="closed"), anyio.fail_after(20):
                await limiter.wait()

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            group.start_soon(send)
            await until(lambda: limiter._waiting == 2 and not limiter._is_asking)
            await limiter.aclose()
            sleepers.held = False


async def test_a_handler_that_waits_in_a_thread_takes_none_from_the_limiter(dsn: str) -> None:
    """A limiter grants starts when all threads of the program wait for one."""
    threads = anyio.to_thread.current_default_thread_limiter()
    async with PostgresLimiter(dsn, "promo", 1000) as limiter:

        async def wait() -> None:
            with anyio.fail_after(5):
                await limiter.wait()

        before, threads.total_tokens = threads.total_tokens, 1
        try:
            await anyio.to_thread.run_sync(anyio.from_thread.run, wait)
        finally:
            threads.total_tokens = before


def test_a_limiter_belongs_to_one_event_loop(dsn: str) -> None:
    """A limiter used in a second event loop raises RuntimeError."""
    limiter = PostgresLimiter(dsn, "promo", 1000)

    async def wait() -> None:
        await limiter.wait()

    async def run() -> None:
        async with limiter:
            await limiter.wait()
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await anyio.to_thread.run_sync(anyio.run, wait)

    anyio.run(run)


@pytest.mark.parametrize(
    ("name", "rate", "burst", "wrong"),
    [
        ("", 1, 1, "name: '' names no rate"),
        ("a\0b", 1, 1, "name: "),
        ("promo", 0, 1, "rate: 0 is not above 0"),
        ("promo", math.inf, 1, "rate: inf"),
        ("promo", math.nan, 1, "rate: nan"),
        ("promo", 1, 0, "burst: 0 is less than 1"),
    ],
)
def test_a_bad_name_rate_or_burst_is_refused(
    name: str, rate: float, burst: int, wrong: str
) -> None:
    """A bad name, rate or burst is refused."""
    with pytest.raises(ConfigurationError, match=wrong):
        PostgresLimiter("postgresql:///orders", name, rate, burst)


async def test_where_the_database_cannot_be_reached_opening_says_so(tmp_path: object) -> None:
    """An unreachable database is named at the opening, without its password."""
    limiter = PostgresLimiter(f"postgresql://me:s3cret@/orders?host={tmp_path}", "promo", 10)
    with pytest.raises(ConfigurationError, match=r"database orders at .* cannot be") as caught:
        await limiter.open()
    assert "s3cret" not in f"{caught.value} {limiter!r}"
    assert "'promo'" in repr(limiter)


async def test_without_the_tables_opening_says_how_to_make_them(
    postgres_server: postgres.Server,
) -> None:
    """A database without tables is refused with the command that makes them."""
    limiter = PostgresLimiter(postgres_server.dsn("template1"), "promo", 10)
    with pytest.raises(ConfigurationError, match="skycore cluster migrate"):
        await limiter.open()
