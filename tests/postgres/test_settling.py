"""Settling doubts by reports in a shared database: one process at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import anyio.lowlevel
import attrs
import psycopg
import pytest

from skycore_async import LedgerError, LedgerInUse, MessageState, OpenReason, PostgresLedger
from skycore_async.ledger.model import Submission
from skycore_async.ledger.postgres.settling_lock import SettlingLock
from skycore_async.ledger.texts import digest_of
from skycore_async.messages import ReportedMessage, ReportSection
from skycore_async.sending.settling import ReportSettling
from tests.support.ledger_cases import DOUBT, NOON, TO, Clock, accepted, intent

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def ledger(dsn: str) -> AsyncIterator[PostgresLedger]:
    """Open a ledger with a doubt between two accepted messages."""
    clock = Clock()
    async with PostgresLedger(dsn, clock=clock) as opened:
        for n, key in enumerate(("before", "k", "after")):
            clock.now = NOON + n
            began = attrs.evolve(
                intent(key, to=f"1555123488{n}"),
                started_at=NOON + n,
                text_digest=digest_of("not looked at"),
            )
            assert await opened.begin(began) is None
            clock.now = NOON + n + 0.5
            await opened.finish(key, DOUBT if key == "k" else accepted(key))
        clock.now = NOON + 5000
        yield opened


async def rows(*keys: str) -> AsyncIterator[ReportedMessage]:
    """Yield a report's rows: one to each number, and those of the accepted messages."""
    for key in ("15551234880", *keys, "15551234882"):
        yield ReportedMessage(
            history_id=key,
            to=key,
            text="not looked at",
            section=ReportSection.SENDING_LIST,
            acknowledged_at=datetime.fromtimestamp(NOON, UTC),
        )


async def settled(ledger: Any, *numbers: str, now: float = NOON + 5000) -> dict[str, str]:
    """Settle by a report that lists a message to each of these numbers."""
    async with ReportSettling(ledger, trust_absence=True, clock=lambda: now) as settling:
        await settling.read(rows(*numbers), since=NOON - 1000, until=now, made_at=now)
        found = await settling.end()
    told = dict.fromkeys(found.sent, "sent") | dict.fromkeys(found.not_sent, "not sent")
    return {**told, **{each.key: each.reason for each in found.open}}


async def test_one_process_at_a_time_settles(ledger: PostgresLedger, dsn: str) -> None:
    """A second process is refused until the first has ended or died."""
    async with PostgresLedger(dsn) as another:
        async with ledger.settling():
            with pytest.raises(LedgerInUse, match="by another process"):
                await settled(another)
        assert await settled(another) == {"k": "not sent"}
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        async with ledger.settling():
            pass


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_who_is_cancelled_natively_holds_nobody_up(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settling that is cancelled while it takes the lock releases the lock."""
    is_begun, may_go_on = threading.Event(), threading.Event()
    take = SettlingLock._take

    def held(lock: SettlingLock) -> None:
        is_begun.set()
        assert may_go_on.wait(20)
        take(lock)

    monkeypatch.setattr(SettlingLock, "_take", held)
    task = asyncio.ensure_future(settled(ledger))
    while not is_begun.is_set():
        await anyio.lowlevel.checkpoint()
    task.cancel()
    await anyio.lowlevel.checkpoint()
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await settled(ledger) == {"k": "not sent"}


async def test_a_database_that_is_gone_is_said_to_be(ledger: PostgresLedger) -> None:
    """A lost database is a LedgerError."""
    ledger._database = type(ledger._database)("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(LedgerError, match="none"):
        await settled(ledger)


async def test_what_was_not_sent_is_for_the_workers_again(
    ledger: PostgresLedger, dsn: str
) -> None:
    """A doubt settled as not sent makes its campaign's chunk due."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO skycore.campaigns (name, state) VALUES ('promo', 'running')"
        )
        connection.execute(
            "INSERT INTO skycore.chunks (campaign, number, keys, messages, state)"
            " SELECT id, number, keys, messages, 'done' FROM skycore.campaigns,"
            " (VALUES (1, ARRAY['k', 'x'], ARRAY['{}', '{}']), (2, ARRAY['y'], ARRAY['{}']))"
            " AS given (number, keys, messages)"
        )
        assert await settled(ledger) == {"k": "not sent"}
        found = connection.execute("SELECT state FROM skycore.chunks ORDER BY number").fetchall()
        assert found == [("waiting",), ("done",)]
    assert await ledger.begin(intent("k", to="15551234881")) is None


async def test_each_attempt_of_a_message_is_told_of(ledger: PostgresLedger, dsn: str) -> None:
    """A message sent twice is not sent if neither attempt is listed."""
    digest = digest_of("not looked at")
    again = attrs.evolve(intent("k", to="15551234881"), started_at=NOON + 3, text_digest=digest)
    assert await ledger.begin(again, resend_in_doubt=True) is None
    await ledger.finish("k", DOUBT)
    assert await settled(ledger, now=NOON + 10_000) == {"k": "not sent"}
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT state FROM skycore.attempts").fetchall() == [
            ("not_sent",)
        ]


async def test_who_may_still_be_alive_is_waited_for(ledger: PostgresLedger, dsn: str) -> None:
    """A doubt of a live session stays open."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "UPDATE skycore.messages SET ended_at = NULL, interrupted_at = ended_at"
            " WHERE key = 'k'"
        )
        assert await settled(ledger) == {"k": OpenReason.UNDER_WAY}
        connection.execute("UPDATE skycore.sessions SET alive_until = clock_timestamp()")
        assert await settled(ledger) == {"k": "not sent"}


async def test_a_late_outcome_counts_after_a_report(ledger: PostgresLedger, dsn: str) -> None:
    """A late outcome replaces what a report said."""
    given = intent("late", to=TO)
    assert await ledger.begin(given) is None
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "UPDATE skycore.messages SET state = 'not_sent', settled_by = 'report'"
            " WHERE key = 'late'"
        )
    await ledger.finish("late", accepted("T9"))
    delivery = await ledger.delivery(key="late")
    assert delivery is not None
    assert (delivery.state, delivery.settled_by) == (MessageState.ACCEPTED, None)


@pytest.mark.parametrize("late", ["accepted", "refused", "in doubt once more"])
async def test_an_outcome_that_comes_while_it_settles_stands(
    ledger: PostgresLedger, dsn: str, late: str
) -> None:
    """An outcome recorded during settling is not overwritten."""
    given = attrs.evolve(intent("late", to=TO), text_digest=b"text")
    assert await ledger.begin(given) is None
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE skycore.messages SET state = 'in_doubt' WHERE key = 'late'")
        connection.execute("UPDATE skycore.sessions SET alive_until = clock_timestamp()")
    settling = ReportSettling(ledger, after=0, trust_absence=True, clock=lambda: NOON + 5000)
    async with settling:
        if late == "in doubt once more":
            async with PostgresLedger(dsn, clock=lambda: NOON + 5000) as another:
                await another.begin(given, resend_in_doubt=True)
        else:
            told = (
                accepted("T9")
                if late == "accepted"
                else Submission(state=MessageState.REJECTED, code="E110")
            )
            await ledger.finish("late", told)
        await settling.read(rows(), since=NOON - 1000, until=NOON + 5000, made_at=NOON + 5000)
        found = await settling.end()
    assert [(each.key, each.reason) for each in found.open] == [("late", OpenReason.CHANGED)]
    delivery = await ledger.delivery(key="late")
    assert delivery is not None
    expected = {"accepted": "accepted", "refused": "rejected", "in doubt once more": "in_doubt"}
    assert (delivery.state, delivery.settled_by) == (expected[late], None)


async def test_who_is_known_to_have_been_sent_by_the_end_has_the_row(
    ledger: PostgresLedger, dsn: str
) -> None:
    """A row may belong to a message whose late outcome comes during settling."""
    for n, key in enumerate(("first", "late")):
        digest = digest_of("not looked at")
        began = attrs.evolve(intent(key, to=TO), started_at=NOON + n, text_digest=digest)
        assert await ledger.begin(began) is None
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "UPDATE skycore.messages SET state = 'in_doubt', interrupted_at = started_at + 9"
            " WHERE key IN ('first', 'late')"
        )
        connection.execute("UPDATE skycore.sessions SET alive_until = clock_timestamp()")
    async with ReportSettling(ledger, clock=lambda: NOON + 5000) as settling:
        await settling.read(rows(TO), since=NOON - 1000, until=NOON + 5000, made_at=NOON + 5000)
        await ledger.finish("late", accepted("T9"))
        found = await settling.end()
    assert found.sent == ()
    assert {each.key: each.reason for each in found.open if each.key != "k"} == {
        "first": OpenReason.ALIKE,
        "late": OpenReason.CHANGED,
    }


async def test_who_settles_again_at_once_waits_for_nobody(ledger: PostgresLedger) -> None:
    """Settling can be repeated at once."""
    for _ in range(60):
        async with ledger.settling():
            pass
