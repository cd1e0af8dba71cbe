"""A ledger in memory has a capacity, and forgets old messages that may be forgotten."""

from __future__ import annotations

import gc
import sqlite3
from contextlib import suppress
from typing import Any

import anyio
import anyio.to_thread
import pytest

from skycore_async import ConfigurationError, MemoryLedger, parse_postback
from skycore_async.errors import LedgerError
from skycore_async.ledger.bloom_filter import BloomFilter
from skycore_async.ledger.model import MessageState, Submission
from skycore_async.notifications import Notification
from tests.support.ledger_cases import (
    DELIVERED,
    DOUBT,
    REJECTED,
    SENT,
    Clock,
    accepted,
    intent,
    notice,
)

pytestmark = pytest.mark.anyio

S = MessageState


async def keys(ledger: MemoryLedger, state: MessageState | None = None) -> list[str]:
    return [each.key async for each in ledger.deliveries(state)]


async def send(ledger: MemoryLedger, key: str, submission: Submission | None) -> None:
    assert await ledger.begin(intent(key)) is None
    if submission is not None:
        await ledger.finish(key, submission)


@pytest.mark.parametrize("capacity", [1, 2, 10, 250])
async def test_a_ledger_never_holds_more_than_its_capacity(capacity: int) -> None:
    """A memory ledger holds at most its capacity, and forgets the oldest messages first."""
    async with MemoryLedger(capacity=capacity, clock=Clock()) as ledger:
        held = 0
        for number in range(3 * capacity):
            await send(ledger, f"k{number}", REJECTED)
            held = (await ledger.summary()).total
            assert min(number + 1, capacity - capacity // 100) <= held <= capacity
        assert await keys(ledger) == [f"k{n}" for n in range(3 * capacity - held, 3 * capacity)]


async def test_messages_under_way_or_in_doubt_are_never_forgotten() -> None:
    """Messages under way or in doubt are never forgotten; messages with an outcome are."""
    async with MemoryLedger(capacity=10, clock=Clock()) as ledger:
        await send(ledger, "under way", None)
        await send(ledger, "in doubt", DOUBT)
        for number in range(30):
            await send(ledger, f"k{number}", accepted(f"T{number}"))
        assert await keys(ledger) == ["under way", "in doubt", *(f"k{n}" for n in range(22, 30))]
        assert await ledger.delivery("T0") is None
        assert await ledger.begin(intent("in doubt")) == DOUBT


async def test_full_of_doubt_is_an_error_until_something_is_settled() -> None:
    """A memory ledger full of doubts begins no new message until a doubt has ended."""
    async with MemoryLedger(capacity=3, clock=Clock()) as ledger:
        for key in "abc":
            await send(ledger, key, DOUBT)
        for _ in range(5):
            with pytest.raises(LedgerError, match=r"holds 3 messages .* use SQLiteLedger"):
                await ledger.begin(intent("d"))
        assert await keys(ledger) == ["a", "b", "c"]
        assert await ledger.begin(intent("a")) == DOUBT
        assert await ledger.begin(intent("a"), resend_in_doubt=True) is None
        await ledger.finish("a", accepted())
        assert await ledger.begin(intent("d")) is None
        assert await keys(ledger) == ["b", "c", "d"]


async def test_beginning_many_at_once_does_not_overfill_it() -> None:
    """Concurrent begins do not exceed the capacity."""
    async with MemoryLedger(capacity=5, clock=Clock()) as ledger:
        refused: list[str] = []

        async def begin(key: str) -> None:
            try:
                await ledger.begin(intent(key))
            except LedgerError:
                refused.append(key)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(begin, f"k{number}")
        assert len(refused) == 15
        assert (await ledger.summary()).states == {S.SENDING: 5}


async def test_notifications_are_bounded_too() -> None:
    """A memory ledger keeps four notifications per message, and drops unplaced ones first."""
    async with MemoryLedger(capacity=5, clock=Clock()) as ledger:
        await send(ledger, "k", accepted())
        await ledger.record(notice(DELIVERED, after=1))
        for number in range(30):
            await ledger.record(*(notice(SENT, f"U{number}-{part}") for part in range(3)))
            assert (await ledger.summary()).unplaced <= 19
        last = [each async for each in ledger.unplaced()][-1]
        assert last == notice(SENT, "U29-2")
        await ledger.record(notice(SENT, after=2))
        delivery = await ledger.delivery("T")
        assert delivery is not None
        assert (delivery.state, len(delivery.events)) == (S.DELIVERED, 2)


async def test_notifications_are_bounded_also_when_it_is_full_of_doubt() -> None:
    """Unplaced notifications are limited also in a ledger that is full of doubts."""
    async with MemoryLedger(capacity=1, clock=Clock()) as ledger:
        await send(ledger, "k", DOUBT)
        for number in range(20):
            await ledger.record(notice(SENT, f"U{number}", to="15550000000"))
        assert (await ledger.summary()).unplaced == 4


async def test_a_message_that_is_forgotten_takes_its_notifications_with_it() -> None:
    """A forgotten message's notifications are dropped, and later ones are unplaced."""
    async with MemoryLedger(capacity=1, clock=Clock()) as ledger:
        await send(ledger, "a", accepted())
        await ledger.record(notice(DELIVERED))
        await send(ledger, "b", REJECTED)
        assert (await ledger.summary()).unplaced == 0
        await ledger.record(notice(DELIVERED))
        assert (await ledger.summary()).unplaced == 1


@pytest.mark.parametrize("doubt_first", [False, True])
async def test_the_receipt_of_a_forgotten_message_settles_no_doubt(doubt_first: bool) -> None:
    """The receipt of a forgotten message settles no doubt, in either spelling of its id."""
    async with MemoryLedger(capacity=2, clock=Clock()) as ledger:
        if doubt_first:
            await send(ledger, "in doubt", DOUBT)
        await send(ledger, "forgotten", accepted("SMS_1"))
        for number in range(2):
            await send(ledger, f"k{number}", REJECTED)
        assert await ledger.delivery(key="forgotten") is None
        if not doubt_first:
            await send(ledger, "in doubt", DOUBT)
        await ledger.record(notice(DELIVERED, "SMS_1"), notice(SENT, "U01TXzE="))
        assert await keys(ledger, S.IN_DOUBT) == ["in doubt"]
        assert (await ledger.summary()).unplaced == 2
        await ledger.record(notice(DELIVERED, "SMS_2"))
        assert await keys(ledger, S.DELIVERED) == ["in doubt"]


async def test_a_first_attempts_receipt_of_a_forgotten_message_settles_no_doubt() -> None:
    """The receipt of a forgotten message's first attempt settles no doubt of its number."""
    async with MemoryLedger(capacity=2, clock=Clock()) as ledger:
        await send(ledger, "forgotten", DOUBT)
        assert await ledger.begin(intent("forgotten"), resend_in_doubt=True) is None
        await ledger.finish("forgotten", accepted("SMS_2"))
        for number in range(2):
            await send(ledger, f"k{number}", REJECTED)
        await send(ledger, "in doubt", DOUBT)
        await ledger.record(notice(DELIVERED, "SMS_1"))
        assert await ledger.delivery(key="forgotten") is None
        assert await keys(ledger, S.IN_DOUBT) == ["in doubt"]
        assert await ledger.begin(intent("other", to="15559876543")) is None
        await ledger.finish("other", DOUBT)
        await ledger.record(notice(DELIVERED, "SMS_3", to="15559876543"))
        assert await keys(ledger, S.DELIVERED) == ["other"]


@pytest.mark.parametrize("size", [1, 16, 1 << 20])
def test_the_bloom_filter_knows_all_that_was_added(size: int) -> None:
    """The Bloom filter knows all ids that were added, and few others unless it is full."""
    forgotten = BloomFilter(size=size)
    assert "SMS_0" not in forgotten
    for number in range(2000):
        forgotten.add(f"SMS_{number}")
    assert all(f"SMS_{number}" in forgotten for number in range(2000))
    others = sum(f"SMS_{number}" in forgotten for number in range(2000, 4000))
    assert others == 2000 if size <= 16 else others < 3


@pytest.mark.parametrize("capacity", [0, "5", None, float("nan")])
def test_a_capacity_of_nothing_is_refused(capacity: Any) -> None:
    """A capacity that is no positive int is refused."""
    with pytest.raises(ConfigurationError, match=f"capacity: {capacity!r} is no int above 0"):
        MemoryLedger(capacity=capacity)


async def test_a_ledger_in_memory_is_of_one_event_loop_at_a_time(anyio_backend: str) -> None:
    """A memory ledger in use by one event loop raises RuntimeError in another one."""
    ledger = MemoryLedger()

    def elsewhere() -> None:
        anyio.run(ledger.opt_out, "15551234888", backend=anyio_backend)

    await anyio.to_thread.run_sync(elsewhere)
    assert await ledger.is_opted_out("15551234888")
    with pytest.raises(RuntimeError, match="this ledger belongs to another event loop"):
        await anyio.to_thread.run_sync(elsewhere)
    assert (await ledger.summary()).opted_out == 1


@pytest.mark.slow
async def test_a_ledger_in_memory_is_used_while_it_is_open() -> None:
    """A closed memory ledger raises RuntimeError; one that is never closed gives no warning."""
    ledger = MemoryLedger()
    await send(ledger, "k", accepted())
    await ledger.aclose()
    await ledger.aclose()
    with pytest.raises(RuntimeError, match="this ledger is closed"):
        await ledger.summary()
    MemoryLedger()
    gc.collect()


# Commands that come together.


async def begun_together(ledger: MemoryLedger, count: int) -> list[str]:
    """Begin `count` messages at once, and return the keys of those that were begun."""
    begun: list[str] = []

    async def begin(key: str) -> None:
        with suppress(LedgerError):
            assert await ledger.begin(intent(key)) is None
            begun.append(key)

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(begin, f"k{number}")
    return begun


async def test_concurrent_commands_share_a_transaction() -> None:
    """Concurrent commands run in one transaction."""
    statements: list[str] = []
    async with MemoryLedger(clock=Clock()) as ledger:
        ledger._connection.set_trace_callback(statements.append)
        assert len(await begun_together(ledger, 20)) == 20
        assert statements.count("BEGIN") == 1
        assert (await ledger.summary()).total == 20


async def test_where_there_is_no_room_for_all_that_came_together_there_is_for_some() -> None:
    """Of concurrent begins as many succeed as there is room for."""
    async with MemoryLedger(capacity=3, clock=Clock()) as ledger:
        begun = await begun_together(ledger, 5)
        assert len(begun) == 3
        assert sorted(await keys(ledger)) == sorted(begun)


async def test_a_caller_cancelled_before_the_begin_leaves_no_row() -> None:
    """A caller cancelled before the message was begun leaves no row."""
    async with MemoryLedger(clock=Clock()) as ledger:
        with anyio.CancelScope() as caller:
            caller.cancel()
            await ledger.begin(intent("a"))
        assert await keys(ledger) == []
        assert await ledger.begin(intent("a")) is None


async def test_a_message_of_a_cancelled_caller_is_taken_back() -> None:
    """A message begun for a caller who was then cancelled becomes not sent."""
    async with MemoryLedger(clock=Clock()) as ledger:
        scopes = {key: anyio.CancelScope() for key in "ab"}
        begun: list[str] = []

        async def begin(key: str, other: str) -> None:
            with scopes[key]:
                assert await ledger.begin(intent(key)) is None
                begun.append(key)
                scopes[other].cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(begin, "a", "b")
            group.start_soon(begin, "b", "a")
        (key,) = begun
        (left,) = {"a", "b"} - {key}
        assert await keys(ledger, S.SENDING) == [key]
        assert await keys(ledger, S.NOT_SENT) == [left]
        assert await ledger.begin(intent(left)) is None


async def test_a_question_of_who_is_cancelled_takes_nothing_back() -> None:
    """A cancelled query undoes nothing."""
    async with MemoryLedger(clock=Clock()) as ledger:
        await ledger.begin(intent("a"))
        scopes = [anyio.CancelScope(), anyio.CancelScope()]
        answered: list[int] = []

        async def ask(own: int) -> None:
            with scopes[own]:
                answered.append((await ledger.summary()).total)
                scopes[1 - own].cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(ask, 0)
            group.start_soon(ask, 1)
        assert answered == [1]
        assert await keys(ledger, S.SENDING) == ["a"]


async def test_a_broken_off_group_raises_for_all_its_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A group that is broken off raises for all its callers, and the ledger goes on."""

    class Broken(BaseException):
        pass

    def break_off(_group: object) -> None:
        raise Broken

    said: list[type[BaseException]] = []

    async def begin(key: str) -> None:
        try:
            await ledger.begin(intent(key))
        except (Broken, LedgerError) as error:
            said.append(type(error))

    async with MemoryLedger(clock=Clock()) as ledger:
        with monkeypatch.context() as broken:
            broken.setattr(ledger._executor, "run", break_off)
            async with anyio.create_task_group() as group:
                for key in "ab":
                    group.start_soon(begin, key)
        assert said == [Broken, LedgerError]
        assert await keys(ledger) == []
        assert await ledger.begin(intent("a")) is None


async def test_where_memory_ends_its_error_says_so_and_nothing_is_half_written() -> None:
    """A group for which there is no room raises that error, and leaves nothing of it behind."""
    ledger = MemoryLedger()
    connection = ledger._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    texts = [text_from(f"1555000{n}", "hello " * 200) for n in range(1000, 1040)]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await ledger.record(text_from("15550009999", "STOP"), *texts)
    assert not [each async for each in ledger.opt_outs()]
    connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    await ledger.record(*texts)
    assert len([each async for each in ledger.inbound()]) == len(texts)
    await ledger.aclose()


def text_from(number: str, text: str) -> Notification:
    (found,) = parse_postback(
        f"<POSTBACK><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><FROM>{number}</FROM>"
        f"<TO>60856</TO><TEXT>{text}</TEXT></POSTBACK>"
    )
    return found
