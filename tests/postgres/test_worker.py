"""Workers that share a campaign, with the simulator's bill as the oracle.

Some run in this process, and some in their own, where they are killed and stopped.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
import attrs
import psycopg
import pytest

from benchmarks.postgres import Server
from skycore_async import (
    SMS,
    ConfigurationError,
    LedgerError,
    NotSent,
    PostgresLedger,
    RateLimiter,
)
from skycore_async.campaigns import queue
from skycore_async.campaigns.campaigns import change, load
from skycore_async.campaigns.chunks import are_left, due, finish, take
from skycore_async.campaigns.counters import WorkerCounters
from skycore_async.campaigns.outage import LIMIT, REPORT_EVERY
from skycore_async.campaigns.progress import progress
from skycore_async.campaigns.retrying_connection import RetryingConnection
from skycore_async.ledger.commands import WITHDRAWN, Finish
from skycore_async.ledger.model import Attempt
from skycore_async.postgres.connection import Database
from skycore_async.postgres.schema import Connection
from skycore_async.simulator import Answer, Behaviour, Simulator
from tests.support.campaign_tables import only
from tests.support.cluster_worker import IN_FLIGHT, TIMING, work, workers
from tests.support.standby import taking_no_writes
from tests.support.stub_transport import StubTransport, accepted, refused

pytestmark = pytest.mark.anyio
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

OUTAGE = Behaviour(answer=Answer.BAD_GATEWAY, postbacks=())
QUICK = attrs.evolve(TIMING, lease=0.1, sweep=0.05)
NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone, as the queue does."""
    return "asyncio"


class CountingLimiter(RateLimiter):
    """A limiter that counts the starts granted and not yet answered."""

    def __init__(self, stub: StubTransport) -> None:
        super().__init__(None)
        self.taken = self.most = 0
        self._stub = stub

    def start_now(self) -> float | None:
        self.taken += 1
        self.most = max(self.most, self.taken - len(self._stub.sent) + self._stub.under_way)
        return super().start_now()


class Slow(StubTransport):
    """A transport that takes a while for each answer."""

    def __init__(self) -> None:
        super().__init__()
        self.held = _Moment()


class _Moment(anyio.Event):
    """A value for which a short wait is enough."""

    def __new__(cls) -> _Moment:
        return object.__new__(cls)

    async def wait(self) -> None:
        await anyio.sleep(0.02)


def some(count: int, *, first: int = 0, name: str = "promo") -> Iterator[SMS]:
    return (
        SMS(to=f"1555{n:07}", text=f"Hello {n}", from_="60856", key=f"{name}:{n}")
        for n in range(first, first + count)
    )


def until(is_so: Callable[[], bool], within: float = 30) -> None:
    """Wait for a condition that comes by itself."""
    end = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


async def soon(is_so: Callable[[], bool], within: float = 30) -> None:
    """Wait for a condition while other tasks run."""
    with anyio.fail_after(within):
        while not is_so():  # noqa: ASYNC110 - it is about another process, or the clock
            await anyio.sleep(0.01)


async def test_a_worker_drains_a_campaign(connection: Connection, dsn: str) -> None:
    """A worker sends each message once, and the campaign is done."""
    load(connection, "promo", some(120), size=25)
    with Simulator(behaviours={}) as skycore:
        worker = await work(dsn, skycore.url)
        assert Counter(m.text for m in skycore.messages) == Counter(m.text for m in some(120))
    assert (worker.counters.accepted, worker.counters.chunks) == (120, 5)
    found = only(connection)
    assert (found.state, found.states, found.done) == ("done", {"accepted": 120}, 5)


async def test_a_campaign_that_starts_later_is_sent_then(connection: Connection, dsn: str) -> None:
    """Workers wait for a campaign's start, even one that ends when all is done."""
    starts_at = datetime.now(UTC) + timedelta(seconds=0.7)
    load(connection, "promo", some(20), starts_at=starts_at)
    await work(dsn, NOWHERE, transport=StubTransport())
    (first,) = connection.execute("SELECT min(started_at) FROM skycore.messages").fetchone() or (
        0,
    )
    assert first >= starts_at.timestamp()
    assert only(connection).states == {"accepted": 20}


async def test_both_slots_have_no_more_in_flight_than_one(
    connection: Connection, dsn: str
) -> None:
    """Two chunks of a worker share its messages in flight."""
    load(connection, "promo", some(200), size=50)
    stub = Slow()
    limiter = CountingLimiter(stub)
    await work(dsn, NOWHERE, transport=stub, rate=limiter)
    assert limiter.most <= IN_FLIGHT  # no start is kept for later
    assert len(set(stub.sent)) == len(stub.sent) == 200
    assert IN_FLIGHT // 2 < stub.most <= IN_FLIGHT


async def test_a_refused_account_halts_the_campaign_for_all(
    connection: Connection, dsn: str
) -> None:
    """A refused account halts the campaign for all workers, until it is resumed."""
    load(connection, "promo", some(400), size=20)
    account = {"code": ""}
    stub = StubTransport(lambda to: refused(account["code"]) if account["code"] else accepted(to))
    other = StubTransport(stub.answer)

    async def refuse_soon() -> None:
        await soon(lambda: len(stub.sent) > 30)
        account["code"] = "E713"

    async with anyio.create_task_group() as group:
        group.start_soon(refuse_soon)
        group.start_soon(partial(work, dsn, NOWHERE, transport=stub))
        group.start_soon(partial(work, dsn, NOWHERE, transport=other))
    found = only(connection)
    assert (found.state, found.held) == ("halted", 0)
    assert found.reason is not None
    assert found.reason.startswith("the account was refused: E713")
    assert found.states["accepted"] + found.to_send == 400
    assert found.to_send > 0
    account["code"] = ""
    change(connection, "resume", "promo")
    await work(dsn, NOWHERE, transport=stub)
    assert only(connection).states == {"accepted": 400}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("E111", "the short code '60856' was refused: E111"),
        ("E714", "the campaign reference None was refused: E714"),
        ("E101", "the request was refused: E101"),
    ],
)
async def test_what_would_refuse_others_halts_the_campaign(
    connection: Connection, dsn: str, code: str, said: str
) -> None:
    """A refused sender, campaign or request halts the campaign; loaded anew, it is sent."""
    load(connection, "promo", some(100), size=25)
    stub = StubTransport(lambda _: refused(code))
    await work(dsn, NOWHERE, transport=stub)
    found = only(connection)
    assert (found.state, found.to_send) == ("halted", 100)
    assert {*found.states} == {"not_sent"}
    assert found.reason is not None
    assert found.reason.startswith(said)
    assert len(stub.sent) <= IN_FLIGHT
    mended = [attrs.evolve(each, from_="60857", campaign_ref="1") for each in some(100)]
    assert load(connection, "promo", mended).mended == 100
    change(connection, "resume", "promo")
    await work(dsn, NOWHERE, transport=StubTransport())
    assert only(connection).states == {"accepted": 100}


@pytest.mark.slow
async def test_an_outage_halts_the_campaign_over_all_workers(
    connection: Connection, dsn: str
) -> None:
    """Doubts in a row halt the campaign for all workers, until it is resumed."""
    load(connection, "promo", some(1000), size=100)
    with Simulator(behaviours={}) as skycore:
        skycore.script(*[OUTAGE] * 1000)
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(work, dsn, skycore.url)
        found = only(connection)
        assert (found.state, found.held) == ("halted", 0)
        assert found.reason is not None
        assert found.reason.startswith("2")
        assert "messages in a row may have been sent or not" in found.reason
        in_doubt = found.states["in_doubt"]
        # What each worker had in flight, and kept to itself, when the last of them was counted.
        assert LIMIT <= in_doubt <= LIMIT + 2 * (IN_FLIGHT + REPORT_EVERY) + 2 * IN_FLIGHT
        assert found.to_send == 1000 - in_doubt
    with Simulator(behaviours={}) as skycore:
        change(connection, "resume", "promo")
        await work(dsn, skycore.url)
        assert skycore.billed == 1000 - in_doubt
    assert only(connection).states == {"accepted": 1000 - in_doubt, "in_doubt": in_doubt}


@pytest.mark.slow
async def test_doubts_with_answers_between_them_halt_nothing(
    connection: Connection, dsn: str
) -> None:
    """Doubts with answers between them do not halt the campaign."""
    load(connection, "promo", some(900), size=100)
    count = itertools.count()
    transport = StubTransport(lambda to: accepted(to) if next(count) % 3 == 0 else b"<html>")
    await work(dsn, NOWHERE, transport=transport)
    assert only(connection).states == {"accepted": 300, "in_doubt": 600}
    assert only(connection).state == "done"


@pytest.mark.parametrize("answer", [refused("E713"), b"<html>"])
async def test_a_campaign_that_is_halted_again_is_announced_again(
    connection: Connection, dsn: str, answer: bytes
) -> None:
    """A second halt after a resume is announced again."""
    load(connection, "promo", some(500), size=50)
    said: list[str] = []

    def announce(line: str) -> None:
        if "is halted" in line:
            said.append(line)
            if len(said) == 1:
                change(connection, "resume", "promo")

    transport = StubTransport(lambda _: answer)
    timing = attrs.evolve(TIMING, retry=0.01, longest=0.01)
    await work(dsn, NOWHERE, transport=transport, announce=announce, timing=timing)
    assert len(said) == 2
    assert only(connection).state == "halted"


async def test_doubts_in_a_paused_campaign_are_no_halt(connection: Connection, dsn: str) -> None:
    """Doubts in a paused campaign are not announced as a halt."""
    load(connection, "promo", some(100))
    said: list[str] = []
    stub = Slow()

    def answer(to: str) -> bytes:
        if len(stub.sent) == IN_FLIGHT:
            change(connection, "pause", "promo")
        return b"<html>"

    stub.answer = answer
    worker = await work(dsn, NOWHERE, transport=stub, announce=said.append)
    assert (only(connection).state, worker.counters.halted) == ("paused", {})
    assert not [line for line in said if "halted" in line]


async def test_two_slots_announce_one_halt_once(connection: Connection, dsn: str) -> None:
    """Both slots of a worker announce one halt once."""
    load(connection, "promo", some(200), size=50)
    said: list[str] = []
    stub = Slow()
    stub.answer = lambda _: refused("E713")
    await work(dsn, NOWHERE, transport=stub, announce=said.append)
    assert len(said) == 1
    assert len(stub.sent) > 1


@pytest.mark.parametrize(
    "lost", ["skycore.chunks", "skycore.messages", "skycore_queue.procrastinate_jobs"]
)
async def test_rights_that_are_revoked_end_a_worker_with_a_reason(
    connection: Connection, dsn: str, lost: str
) -> None:
    """A worker whose rights are revoked ends with advice, and others finish."""
    load(connection, "promo", some(300), size=100)
    connection.execute("CREATE ROLE clerk LOGIN")
    for schema in ("skycore", "skycore_queue"):
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO clerk".encode())
        for kind in ("TABLES", "SEQUENCES"):
            connection.execute(f"GRANT ALL ON ALL {kind} IN SCHEMA {schema} TO clerk".encode())
    stub = StubTransport()
    revoked: list[str] = []

    def answer(to: str) -> bytes:
        if len(stub.sent) >= 40 and not revoked:  # several may be sent before one is answered
            connection.execute(f"REVOKE ALL ON {lost} FROM clerk".encode())
            revoked.append(lost)
        return accepted(to)

    stub.answer = answer
    try:
        worker = await work(dsn.replace("postgres:", "clerk:"), NOWHERE, transport=stub)
    finally:
        connection.execute("DROP OWNED BY clerk; DROP ROLE clerk")
    table = lost.partition(".")[2]
    assert f"permission denied for table {table}; give this user" in str(worker.error)
    await work(dsn, NOWHERE, transport=stub)
    states = only(connection).states
    assert sum(states.values()) == 300
    assert states["accepted"] + states.get("in_doubt", 0) == 300
    assert states.get("in_doubt", 0) <= 2 * IN_FLIGHT
    assert len(stub.sent) == len(set(stub.sent))
    assert len(stub.sent) >= states["accepted"]


@pytest.mark.slow
@pytest.mark.parametrize("word", ["pause", "cancel"])
async def test_pause_and_cancel_stop_all_workers(
    connection: Connection, dsn: str, word: str
) -> None:
    """A paused or cancelled campaign sends only what was in flight."""
    load(connection, "promo", some(400), size=200)
    stub = StubTransport()
    asked: list[int] = []

    def answer(to: str) -> bytes:
        if len(stub.sent) >= 40 and not asked:
            asked.append(len(stub.sent))
            change(connection, word, "promo")
        return accepted(to)

    stub.answer = answer
    await work(dsn, NOWHERE, transport=stub)
    found = only(connection)
    assert (len(stub.sent), found.held) == (found.states["accepted"], 0)
    # Those whose intents were being written, and those written with them.
    assert len(stub.sent) <= asked[0] + 2 * IN_FLIGHT
    if word == "pause":
        change(connection, "resume", "promo")
        await work(dsn, NOWHERE, transport=stub)
        assert only(connection).states == {"accepted": 400}
        assert len(stub.sent) == 400


async def test_a_chunk_that_was_taken_over_is_left(connection: Connection, dsn: str) -> None:
    """A worker whose chunk was taken over begins none of its messages."""
    load(connection, "promo", some(400), size=400)
    stub = StubTransport()
    taken: list[int] = []

    def answer(to: str) -> bytes:
        if len(stub.sent) >= 40 and not taken:
            taken.append(len(stub.sent))
            connection.execute("UPDATE skycore.chunks SET epoch = epoch + 1, state = 'done'")
        return accepted(to)

    stub.answer = answer
    worker = await work(dsn, NOWHERE, transport=stub)
    assert taken[0] <= len(stub.sent) <= taken[0] + 2 * IN_FLIGHT
    assert worker.counters.chunks == 0


async def test_who_hears_that_its_chunk_was_taken_does_not_even_try(
    connection: Connection, dsn: str
) -> None:
    """A worker that learns at the renewal of a takeover stops before any intent."""
    load(connection, "promo", some(40))
    stub = StubTransport()
    stub.held = answers = anyio.Event()
    ended: list[WorkerCounters] = []

    async def take_over() -> None:
        await soon(lambda: stub.under_way > 0)
        connection.execute("UPDATE skycore.chunks SET epoch = epoch + 1, state = 'done'")
        await anyio.sleep(10 * QUICK.lease)
        answers.set()

    async with anyio.create_task_group() as group:
        group.start_soon(take_over)
        done = await work(dsn, NOWHERE, transport=stub, timing=QUICK)
        ended.append(done.counters)
    (counters,) = ended
    assert 0 < len(stub.sent) <= IN_FLIGHT
    assert (counters.chunks, counters.not_sent) == (0, 0)


class Faltering(RetryingConnection):
    """A connection on which some steps fail the first time."""

    def __init__(self, dsn: str, *names: str) -> None:
        super().__init__(Database(dsn))
        self._failing = set(names)

    async def run(self, step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if step.__name__ in self._failing:
            self._failing.remove(step.__name__)
            raise LedgerError(f"no {step.__name__} now")
        return await super().run(step, *args, **kwargs)


async def test_what_a_worker_cannot_do_now_it_does_later(
    connection: Connection, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker's step that fails is repeated, and no message is lost."""
    load(connection, "promo", some(60), size=20)
    count = itertools.count()
    stub = Slow()
    stub.answer = lambda to: accepted(to) if next(count) % 3 else b"<html>"
    faltering = Faltering(dsn, "due", "take", "renew", "report_doubts", "finish", "are_left")
    await work(dsn, NOWHERE, transport=stub, connection=faltering, timing=QUICK)
    states = only(connection).states
    assert (only(connection).state, states["accepted"] + states["in_doubt"]) == ("done", 60)
    assert len(stub.sent) == len(set(stub.sent)) == 60
    for name in ("due", "take", "report_doubts", "finish"):
        assert f"no {name} now" in caplog.text


async def test_who_drains_sends_what_it_has_yet_to_take_back(
    connection: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that drains sends a message whose unclear intent is undone."""
    load(connection, "promo", some(1))
    (id_,) = due(connection, 1)
    chunk = take(connection, id_, worker="another", lease=30)
    assert chunk is not None
    (key,) = chunk.keys
    connection.execute(
        "INSERT INTO skycore.messages"
        " (key, content, recipient, state, started_at, interrupted_at, session, attempt)"
        " VALUES (%s, '', '1', 'in_doubt', 0, 1, 1, 1)",
        (key,),
    )
    assert finish(connection, chunk, left_out={}, pause=0) == 0
    begin, attempt = PostgresLedger._begin, Attempt(session=1, number=1)
    back = Finish(key=key, submission=WITHDRAWN, attempt=attempt)

    async def begin_with_something_unwritten(ledger: PostgresLedger, owner: Any) -> None:
        await begin(ledger, owner)
        ledger._unwritten[attempt] = back

    monkeypatch.setattr(PostgresLedger, "_begin", begin_with_something_unwritten)
    stub = StubTransport()
    await work(dsn, NOWHERE, transport=stub)
    assert (only(connection).state, only(connection).states) == ("done", {"accepted": 1})
    assert len(stub.sent) == 1


async def test_a_chunk_that_is_taken_while_its_worker_is_stopped_is_given_back(
    connection: Connection, dsn: str
) -> None:
    """A chunk taken as its worker stops is given back untouched."""
    load(connection, "promo", some(20))

    class Stopping(RetryingConnection):
        async def run(self, step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            found = await super().run(step, *args, **kwargs)
            if step is take:
                os.kill(os.getpid(), signal.SIGTERM)  # which the worker hears as a stop
                await anyio.sleep(0.05)
            return found

    stub = StubTransport()
    await work(dsn, NOWHERE, transport=stub, connection=Stopping(Database(dsn)), drain=False)
    assert (stub.sent, only(connection).held, only(connection).waiting) == ([], 0, 1)
    await work(dsn, NOWHERE, transport=stub)
    assert only(connection).states == {"accepted": 20}


@pytest.mark.slow
async def test_what_was_not_sent_is_sent_later(connection: Connection, dsn: str) -> None:
    """Messages that cannot be sent are sent once each when there is a way again."""
    load(connection, "promo", some(60), size=20)
    lost = StubTransport(lambda _: NotSent("no way"))

    async def come_back() -> None:
        await soon(lambda: len(lost.sent) > 100)
        lost.answer = accepted

    async with anyio.create_task_group() as group:
        group.start_soon(come_back)
        await work(dsn, NOWHERE, transport=lost, max_attempts=1)
    assert only(connection).states == {"accepted": 60}
    assert Counter(lost.sent).keys() == {m.to for m in some(60)}


@pytest.mark.slow
async def test_what_was_sent_counts_once_however_often_its_chunk_is_looked_at(
    connection: Connection, dsn: str
) -> None:
    """A message counts once however often its chunk is taken."""
    load(connection, "promo", some(3), size=3)
    late = next(some(1)).to
    stub = StubTransport(
        lambda to: NotSent("no way") if to == late and stub.sent.count(late) < 3 else accepted(to)
    )
    worker = await work(dsn, NOWHERE, transport=stub, max_attempts=1)
    assert (worker.counters.accepted, worker.counters.chunks) == (3, 1)
    assert len(stub.sent) == 2 + 3


@pytest.mark.slow
async def test_who_gets_nothing_through_stops_trying(connection: Connection, dsn: str) -> None:
    """A worker that gets nothing through gives its chunk back early."""
    load(connection, "promo", some(400), size=400)
    lost = StubTransport(lambda _: NotSent("no way"))

    async def come_back() -> None:
        await soon(lambda: bool(lost.sent) and only(connection).waiting == 1)
        assert 100 <= len(lost.sent) <= 100 + 2 * IN_FLIGHT
        lost.answer = accepted

    async with anyio.create_task_group() as group:
        group.start_soon(come_back)
        await work(dsn, NOWHERE, transport=lost, max_attempts=1)
    assert only(connection).states == {"accepted": 400}


@pytest.mark.slow
async def test_a_worker_whose_messages_all_end_in_doubt_stops_trying(
    connection: Connection, dsn: str
) -> None:
    """A worker whose messages all end in doubt stops after the limit."""
    load(connection, "promo", some(400), size=400)
    lost = StubTransport(lambda _: b"<html>")

    async def come_back() -> None:
        await soon(lambda: bool(lost.sent) and only(connection).waiting == 1)
        assert 100 <= len(lost.sent) <= 100 + 2 * IN_FLIGHT
        lost.answer = accepted

    async with anyio.create_task_group() as group:
        group.start_soon(come_back)
        await work(dsn, NOWHERE, transport=lost)
    states = only(connection).states
    assert states["in_doubt"] + states["accepted"] == len(lost.sent) == len(set(lost.sent)) == 400
    assert 100 <= states["in_doubt"] <= 100 + 2 * IN_FLIGHT


@pytest.mark.slow
async def test_a_chunk_that_takes_long_is_kept(connection: Connection, dsn: str) -> None:
    """A lease is renewed while its chunk is worked on."""
    load(connection, "promo", some(300), size=150)
    timing = attrs.evolve(TIMING, lease=0.4)
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(partial(work, dsn, NOWHERE, transport=Slow(), timing=timing))
    assert connection.execute("SELECT DISTINCT epoch FROM skycore.chunks").fetchall() == [(1,)]
    assert only(connection).states == {"accepted": 300}


async def test_what_is_refused_is_done_with(connection: Connection, dsn: str) -> None:
    """Rejected, opted-out and in-doubt messages let their chunk be done."""
    load(connection, "promo", some(10))
    connection.execute("INSERT INTO skycore.opt_outs VALUES ('15550000003', true, 1)")
    answers = {"15550000001": refused("E110"), "15550000002": b"<html>"}
    stub = StubTransport(lambda to: answers.get(to, accepted(to)))
    worker = await work(dsn, NOWHERE, transport=stub)
    found = only(connection)
    assert (found.state, found.to_send) == ("done", 0)
    assert found.states == {"accepted": 7, "rejected": 1, "in_doubt": 1}
    assert (
        found.left_out
        == worker.counters.refused - Counter({"E110": 1})
        == {"RecipientOptedOut": 1}
    )


@pytest.mark.parametrize("answer", [b"<html>", accepted("15550000000")])
async def test_a_key_that_went_out_with_other_content_says_how_far_it_got(
    connection: Connection, dsn: str, answer: bytes
) -> None:
    """A key sent with other content by another campaign is left out with its state."""
    load(connection, "promo", some(1))
    await work(dsn, NOWHERE, transport=StubTransport(lambda _: answer))
    load(connection, "other", [attrs.evolve(each, text="Goodbye") for each in some(2)])
    stub = StubTransport()
    worker = await work(dsn, NOWHERE, transport=stub)
    state = "in_doubt" if answer == b"<html>" else "accepted"
    assert stub.sent == ["15550000001"]
    assert worker.counters.refused == {f"KeyConflict: the other message is {state}": 1}
    assert worker.counters.in_doubt == (state == "in_doubt")
    assert progress(connection)[1].left_out == worker.counters.refused
    load(connection, "other", [attrs.evolve(each, text="Goodbye") for each in some(5)])
    assert progress(connection)[1].to_send == 3  # and what was left out is in the ledger, too


@pytest.mark.slow
async def test_a_database_that_is_lost_is_waited_for(postgres_server: Server, dsn: str) -> None:
    """A restart of the database loses no message and sends none twice."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        queue.migrate(connection)
        load(connection, "promo", some(400), size=40)
    with Simulator(behaviours={}) as skycore:

        async def restart() -> None:
            await soon(lambda: skycore.billed > 100)
            await anyio.to_thread.run_sync(postgres_server.restart)

        async with anyio.create_task_group() as group:
            group.start_soon(restart)
            await work(dsn, skycore.url)
        billed = Counter(m.to for m in skycore.messages)
    assert max(billed.values()) == 1
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = only(connection)
    assert found.state == "done"
    assert sum(found.states.values()) == 400
    assert found.states["accepted"] <= len(billed)
    assert len(billed) + found.states.get("in_doubt", 0) >= 400


@pytest.mark.slow
@needs_signals
async def test_a_worker_that_ends_without_its_database_knows_what_that_leaves_in_doubt(
    postgres_server: Server, connection: Connection, dsn: str
) -> None:
    """A worker that ends without its database counts the outcomes it could not record."""
    load(connection, "promo", some(4))
    slow = {f"{n:04}": Behaviour(delay=0.5) for n in range(4)}
    with Simulator(behaviours=slow, time_scale=1) as skycore:

        async def stop() -> None:
            await soon(lambda: skycore.billed == 4)
            await anyio.to_thread.run_sync(postgres_server.stop)
            os.kill(os.getpid(), signal.SIGTERM)  # which the worker hears as a stop

        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            worker = await work(dsn, skycore.url, patience=0)
            await anyio.to_thread.run_sync(postgres_server.start)
            assert (worker.counters.accepted, worker.unwritten) == (4, 4)


async def test_a_connection_waits_for_its_database(postgres_server: Server, dsn: str) -> None:
    """A step waits for its database, and both changes are reported once."""
    told: list[str | None] = []
    connection = RetryingConnection(Database(dsn), on_trouble=told.append)
    assert not await connection.run(are_left)
    await anyio.to_thread.run_sync(postgres_server.stop)

    async def come_back() -> None:
        await soon(lambda: bool(told))
        await anyio.to_thread.run_sync(postgres_server.start)

    async with anyio.create_task_group() as group:
        group.start_soon(come_back)
        assert not await connection.run(are_left)
    assert [told[0] is not None and "PostgreSQL database" in told[0], *told[1:]] == [True, None]
    await connection.aclose()


async def test_a_worker_that_meets_a_standby_in_a_failover_goes_on_with_the_primary(
    connection: Connection, dsn: str
) -> None:
    """A worker goes on with the primary after a failover."""
    load(connection, "promo", some(200), size=20)
    with Simulator(behaviours={}) as skycore:

        async def fail_over() -> None:
            await soon(lambda: skycore.billed > 50)
            with taking_no_writes(connection):
                await anyio.sleep(0.5)

        async with anyio.create_task_group() as group:
            group.start_soon(fail_over)
            await work(dsn, skycore.url)
        billed = Counter(m.to for m in skycore.messages)
    assert (len(billed), max(billed.values())) == (200, 1)
    assert only(connection).states == {"accepted": 200}


async def test_trouble_is_told_once_however_often_it_is_met(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeated failures of the database are reported once."""
    monkeypatch.setattr("skycore_async.campaigns.retrying_connection._FIRST_PAUSE", 0)
    told: list[str | None] = []
    connection = RetryingConnection(Database(dsn), on_trouble=told.append)
    failures = iter([psycopg.OperationalError("gone"), psycopg.OperationalError("gone")])

    def step(_: Connection) -> str:
        if (failure := next(failures, None)) is not None:
            raise failure
        return "done"

    assert await connection.run(step) == "done"
    assert (len(told), told[-1]) == (2, None)
    await connection.aclose()


async def test_a_step_whose_transaction_the_server_ended_is_taken_again(dsn: str) -> None:
    """A step whose transaction the server ended is repeated."""
    connection, waits = RetryingConnection(Database(dsn)), iter([0.4])

    def step(connection: Connection) -> str:
        with connection.transaction():
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 100")
            time.sleep(next(waits, 0))
            connection.execute("SELECT 1")
        return "done"

    assert await connection.run(step) == "done"
    await connection.aclose()


async def test_a_database_that_was_migrated_while_it_was_away_takes_no_step(
    connection: Connection, dsn: str
) -> None:
    """A worker ends if the database was migrated meanwhile."""
    retrying = RetryingConnection(Database(dsn))
    assert not await retrying.run(are_left)
    connection.execute("UPDATE skycore.version SET version = version + 1")
    cut = "SELECT pg_terminate_backend(pg_backend_pid()) WHERE %s"
    times = itertools.count()

    def step(lost: Connection) -> None:
        lost.execute(cut, (next(times) == 0,))

    try:
        with pytest.raises(ConfigurationError, match="made by a newer skycore-async"):
            await retrying.run(step)
    finally:
        connection.execute("UPDATE skycore.version SET version = version - 1")
    assert not await retrying.run(are_left)
    await retrying.aclose()


async def test_a_step_that_is_wrong_is_no_trouble_of_the_database(dsn: str) -> None:
    """A step's own error is raised and not retried.

    Missing tables are an error that advises to migrate or, after a restore, to cancel.
    """
    connection = RetryingConnection(Database(dsn))
    with pytest.raises(psycopg.errors.DivisionByZero):
        await connection.run(lambda it: it.execute("SELECT 1 / 0"))
    with pytest.raises(ConfigurationError, match=r"`skycore cluster migrate.*cancel its"):
        await connection.run(
            lambda connection: connection.execute("SELECT nothing FROM skycore.x")
        )
    await connection.aclose()


async def test_who_is_told_to_end_waits_for_no_database(postgres_server: Server, dsn: str) -> None:
    """A worker that is stopping does not wait for a lost database."""
    connection = RetryingConnection(Database(dsn))
    await anyio.to_thread.run_sync(postgres_server.stop)

    async def ask() -> None:
        with pytest.raises(LedgerError, match="PostgreSQL database postgres"):
            await connection.run(are_left)

    try:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                connection.stop_retrying()
    finally:
        await anyio.to_thread.run_sync(postgres_server.start)
        await connection.aclose()


# Processes of their own.


@pytest.mark.slow
@needs_signals
def test_killed_workers_lose_nobody_and_send_nobody_twice(
    connection: Connection, dsn: str
) -> None:
    """Killed workers lose no message, send none twice, and leave bounded doubt."""
    load(connection, "promo", some(300), size=30)
    with Simulator(behaviours={}) as skycore, workers(2, dsn, skycore.url) as (one, two):
        until(lambda: skycore.billed >= 60)
        one.kill()
        until(lambda: skycore.billed >= 130)
        two.kill()
        with workers(1, dsn, skycore.url) as (last,):
            assert last.wait() == 0
        billed = Counter(m.to for m in skycore.messages)
    _check(connection, billed, kills=2)


def _check(connection: Connection, billed: Counter[str], *, kills: int) -> None:
    found = only(connection)
    doubtful = {
        to
        for (to,) in connection.execute(
            "SELECT recipient FROM skycore.messages WHERE state = 'in_doubt'"
        )
    }
    assert (found.state, sum(found.states.values())) == ("done", 300)
    assert max(billed.values()) == 1
    assert {m.to for m in some(300)} <= billed.keys() | doubtful
    assert len(doubtful) <= kills * IN_FLIGHT


@pytest.mark.slow
@needs_signals
def test_a_zombie_that_wakes_sends_nothing_more(connection: Connection, dsn: str) -> None:
    """A worker that wakes beyond its lease begins no message."""
    load(connection, "promo", some(300), size=100)
    with Simulator(behaviours={}) as skycore, workers(1, dsn, skycore.url) as (zombie,):
        until(lambda: skycore.billed >= 50)
        zombie.send(signal.SIGSTOP)
        with workers(1, dsn, skycore.url) as (other,):
            assert other.wait() == 0
        before = skycore.billed
        zombie.send(signal.SIGCONT)
        assert zombie.wait() == 0
        billed = Counter(m.to for m in skycore.messages)
        assert billed.total() - before <= IN_FLIGHT
    _check(connection, billed, kills=1)


@pytest.mark.slow
@needs_signals
def test_a_worker_that_is_asked_to_end_gives_its_chunks_back(
    connection: Connection, dsn: str
) -> None:
    """SIGTERM leaves neither doubt nor lease, and another worker goes on."""
    load(connection, "promo", some(300), size=150)
    with Simulator(behaviours={}) as skycore, workers(1, dsn, skycore.url) as (first,):
        until(lambda: skycore.billed >= 50)
        first.send(signal.SIGTERM)
        assert first.wait() == 0
        found = only(connection)
        assert (found.held, found.states) == (0, {"accepted": skycore.billed})
        assert skycore.billed < 300
        with workers(1, dsn, skycore.url) as (second,):
            assert second.wait() == 0
        assert Counter(m.to for m in skycore.messages) == Counter(m.to for m in some(300))
