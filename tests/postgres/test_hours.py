"""Campaigns with sending hours: stored, obeyed by workers, and no message lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
import attrs
import psycopg
import pytest

from skycore_async import SMS, CampaignError, NotSent, SkycoreError
from skycore_async.campaigns import chunks as chunks_module
from skycore_async.campaigns.announced_waits import AnnouncedWaits, waits
from skycore_async.campaigns.campaigns import change, halt, load
from skycore_async.campaigns.chunks import due, finish, take
from skycore_async.campaigns.progress import CampaignProgress
from skycore_async.errors import ConfigurationError
from skycore_async.ledger.postgres.session import WHY_HALTED
from skycore_async.postgres.schema import Connection
from skycore_async.sending.hours import SendingHours
from tests.support.campaign_tables import now, only
from tests.support.cluster_worker import IN_FLIGHT, TIMING, work
from tests.support.stub_transport import StubTransport, accepted, refused

HOURS = SendingHours.read("09:00-20:00")
MORNING = datetime(2026, 12, 1, 14, tzinfo=UTC)  # nine in New York, six in Los Angeles
EVENING = datetime(2026, 12, 2, 1, tzinfo=UTC)  # eight in New York
NOWHERE = "http://127.0.0.1:9/"
DAY = SendingHours.read("00:00-24:00")


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone, as the queue does."""
    return "asyncio"


@attrs.define
class Clock:
    now: datetime = MORNING

    def __call__(self) -> datetime:
        return self.now


def to_(*areas: str, each: int = 1) -> Iterator[SMS]:
    """Return messages to numbers of these area codes, in turn."""
    for n in range(100, 100 + each):
        for area in areas:
            number = f"1{area}555{n:04}"
            yield SMS(to=number, text="Hello", from_="60856", key=f"promo:{number}")


async def waiting(connection: Connection) -> CampaignProgress:
    """Wait until all that is left of the campaign waits, and return its progress."""
    with anyio.move_on_after(20):
        while only(connection).state != "waiting":  # noqa: ASYNC110 - it is about the database
            await anyio.sleep(0.02)
    return only(connection)


def look_again(connection: Connection) -> None:
    """Make all chunks due now."""
    connection.execute("UPDATE skycore.chunks SET due = now()")


@pytest.mark.anyio
async def test_workers_send_to_each_within_hours_of_their_own(
    connection: Connection, dsn: str
) -> None:
    """Workers send to each number within its own hours; the campaign waits for the rest."""
    load(connection, "promo", to_("212", "310", each=4), hours=HOURS, size=3)
    stub, clock = StubTransport(), Clock()
    found, sent, then = only(connection), stub.sent, now(connection)
    async with anyio.create_task_group() as group:
        group.start_soon(partial(work, dsn, NOWHERE, transport=stub, clock=clock))
        found, sent, then = await waiting(connection), sorted(stub.sent), now(connection)
        clock.now += timedelta(hours=3)
        look_again(connection)
    assert sent == [m.to for m in to_("212", each=4)]
    assert (found.state, found.put_off, found.to_send, found.held) == ("waiting", 4, 4, 0)
    assert (found.hours, found.zone) == ("09:00-20:00", None)
    assert found.opens_at is not None
    assert timedelta(hours=2.9) < found.opens_at - then <= timedelta(hours=3)
    found = only(connection)
    assert (found.state, found.states, found.put_off) == ("done", {"accepted": 8}, 0)
    assert len(stub.sent) == len({*stub.sent}) == 8


@pytest.mark.anyio
@pytest.mark.parametrize(("rate", "most"), [(None, 5 + IN_FLIGHT), (20, 7)])
async def test_who_can_only_start_after_the_hours_waits_until_the_next_day(
    connection: Connection, dsn: str, rate: int | None, most: int
) -> None:
    """A message that waited for its rate beyond the hours waits for the next day."""
    load(connection, "promo", to_("212", each=30), hours=HOURS)
    stub = StubTransport()
    clock = Clock()

    def time() -> datetime:
        if clock.now is MORNING:
            return EVENING - timedelta(minutes=1) if len(stub.sent) < 5 else EVENING
        return clock.now

    found, sent = only(connection), 0
    async with anyio.create_task_group() as group:
        group.start_soon(partial(work, dsn, NOWHERE, transport=stub, clock=time, rate=rate))
        found, sent = await waiting(connection), len(stub.sent)
        clock.now = EVENING + timedelta(hours=13)
        look_again(connection)
    assert 5 <= sent <= most
    assert found.put_off == found.to_send == 30 - sent
    assert only(connection).states == {"accepted": 30}
    assert len(stub.sent) == len({*stub.sent}) == 30


@pytest.mark.anyio
async def test_an_unsent_message_does_not_wait_for_the_hours_of_others(
    connection: Connection, dsn: str
) -> None:
    """A message not sent is tried after the usual pause, whatever others of its chunk wait for."""
    load(connection, "promo", to_("212", "310"), hours=HOURS)
    tries: list[str] = []

    def answer(to: str) -> bytes | SkycoreError:
        tries.append(to)
        return NotSent("no way") if len(tries) < 3 else accepted(to)

    stub, clock = StubTransport(answer), Clock()
    before: list[str] = []
    async with anyio.create_task_group() as group:
        group.start_soon(partial(work, dsn, NOWHERE, transport=stub, clock=clock, max_attempts=1))
        await waiting(connection)
        before = [*tries]
        clock.now += timedelta(hours=3)
        look_again(connection)
    assert before == ["12125550100"] * 3
    assert only(connection).states == {"accepted": 2}


@pytest.mark.anyio
async def test_a_worker_that_cannot_tell_the_hours_ends_and_sends_nothing(
    connection: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker without `phonenumbers` ends with an error, and leaves the chunk."""
    load(connection, "promo", to_("212"), hours=HOURS)

    def lacking(*_: object) -> None:
        raise ConfigurationError("a campaign has hours, and phonenumbers is not installed")

    monkeypatch.setattr(chunks_module, "hours_of", lacking)
    stub = StubTransport()
    worker = await work(dsn, NOWHERE, transport=stub, clock=Clock())
    assert "phonenumbers is not installed" in str(worker.error)
    assert (stub.sent, only(connection).held) == ([], 0)


def test_hours_are_those_of_the_last_load_that_named_some(connection: Connection) -> None:
    """A load that names hours replaces them, one without keeps them, the whole day lifts them."""
    in_berlin = SendingHours.read("10:00-12:00", "Europe/Berlin")
    found = []
    for hours in (HOURS, None, in_berlin, DAY):
        load(connection, "promo", to_("212"), hours=hours)
        found.append((only(connection).hours, only(connection).zone))
    assert found == [
        ("09:00-20:00", None),
        ("09:00-20:00", None),
        ("10:00-12:00", "Europe/Berlin"),
        (None, None),
    ]


def test_other_hours_have_what_waits_looked_at_again(connection: Connection) -> None:
    """Changed hours make waiting chunks due at once; unchanged hours do not."""
    load(connection, "promo", to_("310"), hours=HOURS)
    keys = [message.key or "" for message in to_("310")]
    (first,) = due(connection, 1)
    chunk = take(connection, first, worker="one", lease=30)
    assert chunk is not None
    load(connection, "promo", [], hours=HOURS)
    assert finish(connection, chunk, left_out={}, pause=3600, put_off=keys) == 1
    assert (due(connection, 9), only(connection).state) == ({}, "waiting")
    load(connection, "promo", [], hours=HOURS)
    assert only(connection).state == "waiting"
    load(connection, "promo", [], hours=SendingHours.read("05:00-20:00"))
    assert only(connection).state == "running"
    assert len(due(connection, 9)) == 1


@pytest.mark.anyio
async def test_other_hours_hold_for_what_a_worker_has_begun(
    connection: Connection, dsn: str
) -> None:
    """A worker begins no more messages of a chunk that it took under other hours."""
    load(connection, "promo", to_("212", each=40), hours=HOURS)
    clock, stub = Clock(), StubTransport()
    stub.held = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(partial(work, dsn, NOWHERE, transport=stub, clock=clock))
        while not stub.sent:  # noqa: ASYNC110 - it is about the database
            await anyio.sleep(0.02)
        load(connection, "promo", [], hours=SendingHours.read("12:00-13:00"))
        stub.held.set()
        found = await waiting(connection)
        assert found.put_off == 40 - len(stub.sent) >= 40 - IN_FLIGHT
        load(connection, "promo", [], hours=DAY)
    assert len(stub.sent) == len({*stub.sent}) == 40
    assert only(connection).states == {"accepted": 40}


def test_a_worker_that_waits_for_a_load_takes_the_new_hours(
    connection: Connection, dsn: str
) -> None:
    """A worker that waits for a load to commit takes the chunk with the new hours."""
    load(connection, "promo", to_("310"), hours=HOURS)
    (first,) = due(connection, 1)
    taken = []

    def take_it() -> None:
        with psycopg.connect(dsn, autocommit=True) as other:
            taken.append(take(other, first, worker="one", lease=30))

    thread = threading.Thread(target=take_it)
    with psycopg.connect(dsn) as busy:
        busy.execute("SELECT 1")  # so that the load is not committed yet
        load(busy, "promo", [], hours=DAY)
        thread.start()
        while not connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            """Look again."""
        busy.commit()
    thread.join()
    assert taken[0] is not None
    assert taken[0].hours == DAY


def test_finished_messages_do_not_count_as_waiting(connection: Connection) -> None:
    """Only messages that are still to be sent count as waiting for their hours."""
    load(connection, "promo", to_("310", each=2), hours=HOURS)
    (first,) = due(connection, 1)
    chunk = take(connection, first, worker="one", lease=30)
    assert chunk is not None
    one, two = chunk.keys
    assert finish(connection, chunk, left_out={one: "Refused"}, pause=60, put_off=[one, two]) == 1
    assert (only(connection).put_off, only(connection).to_send) == (1, 1)


@pytest.mark.parametrize("is_given", [True, False])
def test_a_number_without_a_time_zone_is_not_loaded(
    connection: Connection, is_given: bool
) -> None:
    """A number without time zone is refused with advice, unless a zone is given."""
    load(connection, "promo", to_("212"), hours=None if is_given else HOURS)
    with pytest.raises(CampaignError, match=r"time zone of its number is not known.*--tz America"):
        load(connection, "promo", to_("212", "555"), hours=HOURS if is_given else None)
    assert (only(connection).messages, only(connection).hours) == (
        1,
        None if is_given else "09:00-20:00",
    )
    in_berlin = SendingHours.read("09:00-20:00", "Europe/Berlin")
    assert load(connection, "promo", to_("212", "555"), hours=in_berlin).new == 1


def test_hours_that_come_later_are_no_ones_whose_zone_is_not_known(
    connection: Connection,
) -> None:
    """Hours are refused while an unsent number of the campaign has no time zone."""
    load(connection, "promo", to_("212", "555"))
    with pytest.raises(CampaignError, match=r"'promo:15555550100'.*time zone.*--tz America"):
        load(connection, "promo", [], hours=HOURS)
    assert only(connection).hours is None
    load(connection, "promo", [], hours=SendingHours.read("09:00-20:00", "Europe/Berlin"))
    (first,) = due(connection, 1)
    chunk = take(connection, first, worker="one", lease=30)
    assert chunk is not None
    assert not finish(connection, chunk, left_out=dict.fromkeys(chunk.keys, "Refused"), pause=60)
    load(connection, "promo", [], hours=HOURS)
    assert (only(connection).hours, only(connection).zone) == ("09:00-20:00", None)


@pytest.mark.anyio
async def test_a_worker_says_what_it_waits_for(connection: Connection, dsn: str) -> None:
    """A worker says once that it waits for hours, and which numbers have no zone."""
    load(connection, "promo", to_("212", "310", "555"))
    connection.execute("UPDATE skycore.campaigns SET hours = '09:00-20:00'")
    lines, found = list[str](), only(connection)
    work_ = partial(work, dsn, NOWHERE, transport=StubTransport(), clock=Clock())
    timing = attrs.evolve(TIMING, look=0.01)
    async with anyio.create_task_group() as group:
        group.start_soon(partial(work_, announce=lines.append, timing=timing))
        found = await waiting(connection)
        with anyio.move_on_after(20):
            while len(lines) < 2:  # noqa: ASYNC110 - it is about the database
                await anyio.sleep(0.02)
        load(connection, "promo", [], hours=SendingHours.read("00:00-23:00", "UTC"))
    assert found.put_off == 1
    nobody, somebody = lines
    assert nobody.startswith("campaign promo: numbers have no time zone that is known here, 1 in")
    assert found.opens_at is not None
    until = f"{found.opens_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    assert somebody == (
        f"campaign promo: waiting until {until}, as the 1 that are left are sent to"
        " 09:00-20:00 where the recipients are"
    )
    assert only(connection).states == {"accepted": 3}


def test_a_wait_is_announced_once(connection: Connection) -> None:
    """A wait is announced once, and again when it changes."""
    said = AnnouncedWaits()
    for hours, new in ((1, True), (1, False), (2, True)):
        if new:
            load(connection, "promo", to_("212"), starts_at=now(connection, hours=hours))
        lines = said.new(waits(connection))
        assert [line.endswith("Z, when it starts") for line in lines] == [True] * new
    load(connection, "promo", to_("212"), starts_at=now(connection, hours=-1))
    assert waits(connection) == []


def test_campaigns_that_somebody_stopped_are_waited_for(connection: Connection) -> None:
    """Paused and halted campaigns are announced while messages are left."""
    for name in ("promo", "the notice"):
        load(connection, name, to_("212"))
    change(connection, "pause", "promo")
    halt(connection, "the notice", "E713")
    paused = "campaign promo: paused; the rest waits for `skycore cluster resume DSN promo`"
    halted = (
        "campaign the notice: halted (E713); the rest waits for"
        " `skycore cluster resume DSN 'the notice'`"
    )
    assert [wait.words for wait in waits(connection)] == [paused, halted]
    assert [wait.words for wait in waits(connection, told={"the notice", "promo"})] == [paused]
    connection.execute("UPDATE skycore.chunks SET state = 'done'")
    assert waits(connection) == []


def test_nobody_is_told_to_resume_what_was_sent_since_a_backup(connection: Connection) -> None:
    """A campaign halted after a restored backup is announced without advice to resume."""
    load(connection, "promo", to_("212"))
    halt(connection, "promo", WHY_HALTED)
    (found,) = waits(connection)
    assert found.words == f"campaign promo: halted ({WHY_HALTED})"


@pytest.mark.anyio
async def test_a_worker_that_ends_says_what_it_leaves(connection: Connection, dsn: str) -> None:
    """A worker that ends names paused campaigns that are left, and a halt once."""
    load(connection, "promo", to_("212"))
    change(connection, "pause", "promo")
    load(connection, "notice", to_("310"))
    lines = list[str]()
    stub = StubTransport(lambda _: refused("E713"))
    worker = await work(dsn, NOWHERE, transport=stub, announce=lines.append)
    assert sorted(lines) == [
        f"campaign notice is halted: {worker.counters.halted['notice']}",
        "campaign promo: paused; the rest waits for `skycore cluster resume DSN promo`",
    ]
