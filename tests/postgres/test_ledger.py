"""A PostgreSQL ledger of many processes: what each does to the others.

What it shares with every ledger is in the contract suite. Here two ledgers share a database,
sessions die and return, and connections are cut by the server.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import attrs
import psycopg
import pytest
from anyio.to_thread import run_sync

from benchmarks.postgres import running
from skycore_async import (
    SMS,
    InvalidMessage,
    KeyConflict,
    LedgerError,
    MessageState,
    NotSent,
    PostgresLedger,
    RecipientOptedOut,
    SkycoreClient,
    parse_postback,
)
from skycore_async.campaigns.chunks import finish, take
from skycore_async.ledger.commands import (
    Begin,
    Fence,
    Finish,
    KeepAlive,
    PendingCommand,
    Record,
    SetOptOut,
)
from skycore_async.ledger.content import content_of
from skycore_async.ledger.model import Attempt, Submission
from skycore_async.ledger.postgres.fenced_ledger import FencedLedger
from skycore_async.ledger.postgres.fences import FencedExecutor, Superseded
from skycore_async.ledger.postgres.statements import (
    FINISH,
    INTERRUPT,
    LOCK_CANDIDATES,
    MAY_SETTLE,
    UNMATCHED,
    UNSETTLED,
)
from skycore_async.ledger.postgres.store import PostgresStore
from skycore_async.ledger.postgres.unwritten import UnwrittenOutcomes
from skycore_async.ledger.settlement import SETTLE_WITHIN
from skycore_async.postgres.connection import Database
from skycore_async.simulator import API_KEY, Simulator
from tests.support.ledger_cases import (
    DELIVERED,
    DOUBT,
    NOT_SENT,
    OTHER,
    SENT,
    TO,
    Clock,
    accepted,
    intent,
    notice,
    said,
    sent,
    settle,
    state_of,
)
from tests.support.standby import taking_no_writes
from tests.support.stub_transport import StubTransport
from tests.support.stub_transport import accepted as answer_to

pytestmark = pytest.mark.anyio

S = MessageState
Open = Callable[..., Any]


@pytest.fixture
async def opened(dsn: str) -> AsyncGenerator[Open]:
    """Open ledgers over one database, one for each process."""
    async with AsyncExitStack() as stack:

        async def opening(**settings: Any) -> PostgresLedger:
            ledger = PostgresLedger(dsn, **{"clock": Clock(), **settings})
            return await stack.enter_async_context(ledger)

        yield opening


@pytest.fixture
def sql(dsn: str) -> Iterator[Callable[..., list[Any]]]:
    """Run a statement beside the ledgers."""
    with psycopg.connect(dsn, autocommit=True) as connection:

        def run(statement: Any, *values: Any) -> list[Any]:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

        yield run


LATE = "UPDATE skycore.sessions SET alive_until = clock_timestamp() - interval '1 second'"


def let_time_run_out(ledger: PostgresLedger, sql: Any) -> None:
    """Let all sessions expire, and make a ledger that goes on notice it."""
    sql(LATE)
    ledger._session._kept = -math.inf


CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'skycore-async' AND pid <> pg_backend_pid()"
)


WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted"


def begin(
    key: str = "k", *, attempt: int, to: str = TO, fence: Fence | None = None
) -> PendingCommand:
    """Make the command that begins a message in session 1."""
    made = Attempt(session=1, number=attempt)
    return PendingCommand(Begin(intent=intent(key, to=to), attempt=made, fence=fence))


def finish_as(submission: Submission, *, attempt: int) -> PendingCommand:
    """Make the command that ends an attempt of session 1."""
    made = Attempt(session=1, number=attempt)
    return PendingCommand(Finish(key="k", submission=submission, attempt=made))


def executor(connection: Any) -> FencedExecutor:
    return FencedExecutor(connection, clock=Clock(), settle_within=SETTLE_WITHIN)


def planned(dsn: str, statement: Any) -> str:
    """Return how the database plans a statement on a ledger's connection."""
    with Database(dsn).connect() as connection:
        return "\n".join(line for (line,) in connection.execute(statement))


def fenced(ledger: PostgresLedger, chunk: int) -> FencedLedger:
    return FencedLedger(ledger, Fence(chunk=chunk, epoch=1), doubts_to_resend={})


async def until_one_waits(sql: Any) -> None:
    """Wait until one transaction waits for another."""
    for _ in range(1000):
        if sql(WAITING):
            return
        await anyio.sleep(0.002)


# Several at once.


async def test_a_key_is_begun_by_one_of_many(opened: Open) -> None:
    """Of many concurrent begins of a key in two processes one succeeds; all get its outcome."""
    ledgers = [await opened(), await opened()]
    answers: list[Any] = []

    async def send(ledger: PostgresLedger) -> None:
        known = await ledger.begin(intent())
        if known is None:
            answers.append(None)
            await ledger.finish("k", accepted())
        else:
            answers.append(known)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(send, ledgers[number % 2])
    assert sorted(answers, key=bool) == [None, *[accepted()] * 19]


async def test_outcomes_of_another_process_are_known_here(opened: Open) -> None:
    """Outcomes, receipts, conflicts and opt-outs of one process are known in another."""
    here, there = await opened(), await opened()
    await sent(here, "k", accepted())
    assert await there.lookup(intent()) == accepted()
    with pytest.raises(KeyConflict):
        await there.begin(intent(content=b"two"))
    await there.record(notice(DELIVERED), said("STOP"))
    assert await state_of(here, "k") is S.DELIVERED
    assert await here.is_opted_out(TO)


async def test_one_waits_for_what_another_process_hears(opened: Open) -> None:
    """A receipt recorded by another process ends `wait_for` here."""
    here, there = await opened(), await opened()
    await sent(here, "k", accepted())
    arrived: list[MessageState] = []

    async def wait() -> None:
        arrived.append((await here.wait_for("T", timeout=10)).state)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await there.record(notice(DELIVERED))
    assert arrived == [S.DELIVERED]


@pytest.mark.slow
@pytest.mark.parametrize("is_fenced", [True, False])
async def test_a_key_of_another_process_is_polled_for(
    opened: Open, sql: Any, monkeypatch: pytest.MonkeyPatch, *, is_fenced: bool
) -> None:
    """A key under way in another process is polled for, without constant queries."""
    here, there = await opened(), await opened()
    view = fenced(here, chunk(sql)) if is_fenced else here
    await there.begin(intent())
    wait, found = view._wait, list[bool]()

    async def wait_and_finish(changed: anyio.Event) -> None:
        found.append(changed.is_set())
        await wait(changed)
        await there.finish("k", accepted())

    monkeypatch.setattr(view, "_wait", wait_and_finish)
    assert await view.begin(intent(), timeout=10) == accepted()
    assert found == [False]


async def test_a_postback_that_two_receive_at_once_is_stored_once(opened: Open) -> None:
    """A bundle recorded by several processes at once is stored once."""
    ledgers = [await opened() for _ in range(4)]
    await sent(ledgers[0], "k", accepted())
    bundle = [notice(SENT), notice(DELIVERED, after=5), notice(DELIVERED, "U", to=OTHER)]
    async with anyio.create_task_group() as group:
        for number in range(20):
            some = bundle if number % 2 else bundle[::-1]
            group.start_soon(ledgers[number % 4].record, *some)
    delivery = await ledgers[0].delivery("T")
    assert delivery is not None
    assert (delivery.state, delivery.events) == (S.DELIVERED, (bundle[0], bundle[1]))
    assert [each async for each in ledgers[0].unplaced()] == [bundle[2]]


async def test_a_receipt_and_its_answer_at_once_find_each_other(opened: Open) -> None:
    """A receipt and its message's outcome, recorded concurrently, end up together."""
    here, there = await opened(), await opened()
    keys = [f"k{number}" for number in range(40)]
    for key in keys:
        await here.begin(intent(key))
    async with anyio.create_task_group() as group:
        for key in keys:
            group.start_soon(here.finish, key, accepted(f"T-{key}"))
            group.start_soon(there.record, notice(DELIVERED, f"T-{key}"))
    assert {delivery.state async for delivery in here.deliveries()} == {S.DELIVERED}
    assert (await here.summary()).unplaced == 0


async def test_a_doubt_and_its_receipt_at_once_settle(opened: Open) -> None:
    """A doubt and its receipt, recorded concurrently, settle."""
    here, there = await opened(), await opened()
    numbers = [f"1555000{number:04}" for number in range(40)]
    for number in numbers:
        await here.begin(intent(number, to=number))
    async with anyio.create_task_group() as group:
        for number in numbers:
            group.start_soon(here.finish, number, DOUBT)
            group.start_soon(there.record, notice(DELIVERED, f"T{number}", to=number))
    assert {delivery.state async for delivery in here.deliveries()} == {S.DELIVERED}


async def test_a_doubt_waits_for_an_uncommitted_receipt_of_its_number(dsn: str, sql: Any) -> None:
    """A doubt waits for an uncommitted receipt of its number, and is settled by it."""
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as two:
        first, second = executor(one), executor(two)
        sql("INSERT INTO skycore.sessions VALUES (1, 'infinity', 1)")
        first.run([begin(attempt=1)])
        one.commit()
        first.run([PendingCommand(Record(notifications=(notice(DELIVERED),)))])

        def finish() -> None:
            second.run([finish_as(DOUBT, attempt=1)])
            two.commit()

        async with anyio.create_task_group() as group:
            group.start_soon(run_sync, finish)
            await until_one_waits(sql)
            one.commit()
    assert sql("SELECT state, settled_by FROM skycore.messages") == [("delivered", "postback")]


async def test_a_refused_intent_stays_refused_after_a_late_opt_in(dsn: str, sql: Any) -> None:
    """An intent refused for an opt-out stays refused if the number opts in meanwhile."""
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as two:
        first, second = executor(one), executor(two)
        second.run([PendingCommand(SetOptOut(number=TO, out=True))])
        two.commit()
        second.run([begin("other", attempt=1, to=OTHER)])
        refused = begin(attempt=2)

        def write() -> None:
            # It has seen that the number is out when it waits for the other's intent.
            first.run([refused, begin("other", attempt=3, to=OTHER)])
            one.commit()

        async with anyio.create_task_group() as group:
            group.start_soon(run_sync, write)
            await until_one_waits(sql)
            sql("UPDATE skycore.opt_outs SET out = false")
            two.commit()
    assert isinstance(refused.error, RecipientOptedOut)
    assert sql("SELECT key FROM skycore.messages") == [("other",)]


async def test_two_who_write_opt_outs_wait_for_each_other_in_one_order(dsn: str, sql: Any) -> None:
    """Groups write opt-outs in one order, so that they cannot deadlock."""
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as two:
        first, second = executor(one), executor(two)
        second.run([PendingCommand(SetOptOut(number="15550000001", out=True))])

        def write() -> None:
            numbers = ("15550000002", "15550000001")
            first.run([PendingCommand(SetOptOut(number=number, out=True)) for number in numbers])
            one.commit()

        async with anyio.create_task_group() as group:
            group.start_soon(run_sync, write)
            await until_one_waits(sql)
            second.run([PendingCommand(SetOptOut(number="15550000002", out=False))])
            two.commit()
    assert sql("SELECT number, out FROM skycore.opt_outs ORDER BY number") == [
        ("15550000001", True),
        ("15550000002", True),
    ]


@pytest.mark.parametrize("key_state", ["accepted", "not_sent"])
async def test_a_digest_of_the_first_version_still_tells_other_content(
    opened: Open, sql: Any, key_state: str
) -> None:
    """A row of version 1 is known by its own digest, which tells other content."""
    message = SMS(to=TO, text="Hello", from_="60856")
    shown = blake2b(repr(tuple(attrs.asdict(message).values())[:7]).encode(), digest_size=16)
    given = attrs.evolve(intent(content=content_of(message)), message=message)
    other = attrs.evolve(given, message=attrs.evolve(message, text="Goodbye"))
    ledger = await opened()
    assert await ledger.begin(given) is None
    await ledger.finish("k", accepted() if key_state == "accepted" else NOT_SENT)
    sql("UPDATE skycore.messages SET content = %s", shown.digest())
    for ask in (ledger.lookup, ledger.begin):
        if key_state == "accepted":
            with pytest.raises(KeyConflict):
                await ask(other)
        assert await ask(given) == (accepted() if key_state == "accepted" else None)


@pytest.mark.parametrize("by_dsn", [False, True])
async def test_every_text_is_kept_whatever_is_spoken_by_default(
    dsn: str, monkeypatch: pytest.MonkeyPatch, by_dsn: bool
) -> None:
    """A STOP in curly quotes is stored whatever client encoding is the default."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    stop = (
        f"<POSTBACK><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><FROM>{TO}</FROM><TO>60856</TO>"
        "<TEXT>\u201cSTOP\u201d</TEXT></POSTBACK>"
    )
    async with PostgresLedger(f"{dsn}&client_encoding=LATIN1" if by_dsn else dsn) as ledger:
        await ledger.record(*parse_postback(stop))
        assert await ledger.is_opted_out(TO)


async def test_a_key_that_no_index_takes_is_refused_with_its_reason(opened: Open) -> None:
    """A key too long for the index is InvalidMessage; others of its group are begun."""
    ledger = await opened()
    key = "".join(f"{number:x}-" for number in range(1500))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ledger.begin, intent("k"))
        with pytest.raises(InvalidMessage, match="key: it is too long for the database"):
            await ledger.begin(intent(key))
    assert await state_of(ledger, "k") is S.SENDING
    assert await ledger.lookup(intent(key)) is None


async def test_opening_settles_a_doubt_by_a_stored_receipt(opened: Open, sql: Any) -> None:
    """Opening a ledger settles a doubt whose receipt is already stored."""
    ledger = await opened()
    await ledger.begin(intent())
    await ledger.record(notice(DELIVERED))
    sql("UPDATE skycore.messages SET state = 'in_doubt'")
    await opened()
    assert await state_of(ledger, "k") is S.DELIVERED


async def test_an_outcome_is_that_of_its_attempt(dsn: str, sql: Any) -> None:
    """An outcome of another attempt of the session is not recorded."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        store = executor(connection)
        store.run([begin(attempt=2)])
        store.run([finish_as(accepted(), attempt=1)])
        assert sql("SELECT state FROM skycore.messages") == [("sending",)]
        store.run([finish_as(accepted(), attempt=2)])
        assert sql("SELECT state FROM skycore.messages") == [("accepted",)]


@pytest.mark.parametrize("count_of_messages", [3, 5000])
def test_the_message_of_an_outcome_is_found_by_its_key(
    dsn: str, sql: Any, count_of_messages: int
) -> None:
    """Recording an outcome uses the index of keys, whatever the table's size."""
    sql(
        "INSERT INTO skycore.messages"
        " (key, content, recipient, state, started_at, session, attempt)"
        " SELECT n::text, '', n::text,"
        " CASE WHEN mod(n, 50) = 0 THEN 'in_doubt' ELSE 'accepted' END, 1, 1, n"
        " FROM generate_series(1, %s) AS given (n)",
        count_of_messages,
    )
    sql("ANALYZE skycore.messages")
    numbers = count(1)
    statement = re.sub("%[bs]", lambda _: f"${next(numbers)}", FINISH)
    plan = planned(dsn, f"EXPLAIN (GENERIC_PLAN) {statement}")
    # Through a bitmap where tests before have left the index much larger than its table is now.
    assert re.search("Index Scan (using|on) messages_key_key", plan)
    assert "Seq Scan" not in plan


async def test_outcomes_and_receipts_leave_the_indexes_alone(opened: Open, sql: Any) -> None:
    """Outcomes and receipts update rows in place, without index writes."""
    counted = (
        "SELECT pg_stat_get_tuples_updated(messages), pg_stat_get_tuples_hot_updated(messages)"
        " FROM (SELECT 'skycore.messages'::regclass) AS given (messages)"
    )
    ((updated, alone),) = sql(counted)
    ledger = await opened()
    for number in range(20):
        await ledger.begin(intent(f"k{number}"))
        await ledger.finish(f"k{number}", accepted(f"T{number}"))
        await ledger.record(notice(DELIVERED, f"T{number}"))
    await ledger.aclose()  # then the server has counted
    with anyio.fail_after(10):
        while sql(counted)[0][0] < updated + 40:  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.01)
    assert sql(counted) == [(updated + 40, alone + 40)]


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (LOCK_CANDIDATES.replace("%s", "'04888'"), "candidates"),
        (LOCK_CANDIDATES.replace("%s", "'04888'"), "messages_by_attempt"),
        (MAY_SETTLE.replace("%s", "'04888'"), "candidates"),
        (INTERRUPT.replace("%s", "1", 1).replace("%s", "'{1, 2}'"), "messages_by_attempt"),
        (UNSETTLED, "candidates"),
        (UNMATCHED.replace("%s", "'04888'"), "unmatched"),
    ],
)
def test_statements_that_settle_doubts_use_indexes(
    dsn: str, sql: Any, statement: str, index: str
) -> None:
    """The statements that settle doubts use indexes, and scan no table."""
    sql(
        "INSERT INTO skycore.messages"
        " (key, content, recipient, state, started_at, session, attempt, doubted)"
        " SELECT n::text, '', n::text,"
        " CASE WHEN mod(n, 500) = 0 THEN 'in_doubt' ELSE 'accepted' END, 1, 1, n, mod(n, 300) = 0"
        " FROM generate_series(10000, 15000) AS given (n)"
    )
    sql(
        "INSERT INTO skycore.submissions (tracking_id, message, recipient)"
        " SELECT n::text, CASE WHEN mod(n, 500) = 0 THEN NULL ELSE n END, n::text"
        " FROM generate_series(10000, 15000) AS given (n)"
    )
    sql("INSERT INTO skycore.sessions SELECT n, 'infinity', 14990 FROM generate_series(1, 4) AS n")
    sql("ANALYZE skycore.messages, skycore.submissions, skycore.sessions")
    plan = planned(dsn, f"EXPLAIN {statement}")
    assert f"Scan using {index} on" in plan or f"Scan on {index} " in plan
    assert "Seq Scan on messages" not in plan
    assert "Seq Scan on submissions" not in plan


async def test_a_message_under_way_here_is_not_resent_here(opened: Open, sql: Any) -> None:
    """A message under way here is not resent here, even if others call it in doubt."""
    late = await opened()
    await late.begin(intent())
    let_time_run_out(late, sql)
    assert await state_of(await opened(), "k") is S.IN_DOUBT
    answers: list[Any] = []

    async def resend() -> None:
        answers.append(await late.begin(intent(), resend_in_doubt=True))

    async with anyio.create_task_group() as group:
        group.start_soon(resend)
        await settle()
        assert answers == []
        await late.finish("k", accepted())
    assert answers == [accepted()]


# Sessions that die, and that are late.


async def test_messages_of_a_dead_session_are_in_doubt(opened: Open, sql: Any) -> None:
    """The next opening puts a dead session's messages in doubt, and settles them if it can."""
    dead = await opened()
    await dead.begin(intent())
    await dead.begin(intent("other", to=OTHER))
    await (await opened()).record(notice(DELIVERED, to=OTHER))
    assert await state_of(dead, "k") is S.SENDING
    sql(LATE)
    heir = await opened()
    assert await state_of(heir, "k") is S.IN_DOUBT
    assert await state_of(heir, "other") is S.DELIVERED


async def test_those_who_are_alive_find_out_who_is_dead(opened: Open, sql: Any) -> None:
    """Open ledgers put a dead session's messages in doubt."""
    dead = await opened()
    await dead.begin(intent())
    alive = await opened(lease=0.05)
    sql(LATE + " WHERE id = (SELECT session FROM skycore.messages)")  # noqa: S608 - our own
    with anyio.fail_after(10):
        while await state_of(alive, "k") is not S.IN_DOUBT:  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.005)


async def test_messages_begun_by_an_expired_session_are_found(opened: Open, sql: Any) -> None:
    """A session that expired, went on and died has its later messages put in doubt."""
    late = await opened()
    await late.begin(intent("first"))
    let_time_run_out(late, sql)
    watcher = await opened()
    assert await state_of(watcher, "first") is S.IN_DOUBT
    await late.begin(intent("second", to=OTHER))
    sql(LATE)
    await opened()
    assert await state_of(watcher, "second") is S.IN_DOUBT


async def test_a_session_is_nobody_elses_where_a_backup_was_put_back(
    opened: Open, sql: Any
) -> None:
    """After a restore a new session gets an id that no open session has."""
    here = await opened()
    sql("DELETE FROM skycore.sessions")
    sql("SELECT setval(pg_get_serial_sequence('skycore.sessions', 'id'), 1, false)")
    there = await opened()
    assert await there.begin(intent()) is None
    assert here._session.id != there._session.id
    with pytest.raises(LedgerError, match="has forgotten"):
        await here.begin(intent())


PUT_BACK = {
    "before it was opened": "DELETE FROM skycore.sessions",
    "before it last said that it is alive": "UPDATE skycore.sessions"
    " SET alive_until = alive_until - interval '1 microsecond'",
}


@pytest.mark.parametrize("step", PUT_BACK.values(), ids=PUT_BACK)
async def test_a_database_that_was_put_back_sends_nothing_that_it_has_forgotten(
    opened: Open, sql: Any, step: str
) -> None:
    """After a restore campaigns are halted and no key begins, but postbacks are recorded."""
    ledger = await opened()
    await sent(ledger, "a", accepted("T1"))
    await ledger.begin(intent("b"))
    sql(
        "INSERT INTO skycore.campaigns (name, state) VALUES ('promo', 'running'),"
        " ('paused', 'paused'), ('halted', 'halted'), ('cancelled', 'cancelled'),"
        " ('done', 'running')"
    )
    sql(
        "INSERT INTO skycore.chunks (campaign, number, keys, messages, state)"
        " SELECT id, 1, '{k}', '{null}', CASE name WHEN 'done' THEN 'done' ELSE 'waiting' END"
        " FROM skycore.campaigns"
    )
    sql("DELETE FROM skycore.messages")
    sql(step)
    sql(CUT)
    with pytest.raises(LedgerError, match="forgotten what was sent last: a backup was put back"):
        await ledger.begin(intent("a"))
    with pytest.raises(LedgerError, match="nothing is begun before the ledger is opened again"):
        await ledger.begin(intent("a"))
    assert sql("SELECT key FROM skycore.messages") == []
    await ledger.opt_out(OTHER)
    sql(CUT)
    assert await ledger.is_opted_out(OTHER)
    found = sql(
        "SELECT name, state, reason LIKE '%%cancel it%%' FROM skycore.campaigns ORDER BY id"
    )
    assert found == [
        ("promo", "halted", True),
        ("paused", "halted", True),
        ("halted", "halted", True),
        ("cancelled", "cancelled", None),
        ("done", "running", None),
    ]
    sql("UPDATE skycore.campaigns SET state = 'running'")
    (chunk,) = sql(
        "UPDATE skycore.chunks SET epoch = 1 WHERE campaign IN"
        " (SELECT id FROM skycore.campaigns WHERE name = 'promo') RETURNING id"
    )
    assert await fenced(ledger, *chunk).begin(intent("c")) is None
    assert await (await opened()).begin(intent("a")) is None


async def test_begins_that_wait_while_a_restore_is_noticed_are_refused(
    opened: Open, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begins that wait while a restore is noticed are refused, too."""
    ledger = await opened()
    is_waiting, errors = threading.Event(), list[LedgerError]()
    connect = ledger._database.connect_again

    def once_others_wait() -> Any:
        assert is_waiting.wait(10)
        return connect()

    async def begin(key: str) -> None:
        try:
            await ledger.begin(intent(key))
        except LedgerError as error:
            errors.append(error)

    monkeypatch.setattr(ledger._database, "connect_again", once_others_wait)
    sql("DELETE FROM skycore.sessions")
    sql(CUT)
    async with anyio.create_task_group() as tasks:
        for key in ("a", "b"):
            tasks.start_soon(begin, key)
            await anyio.wait_all_tasks_blocked()
        is_waiting.set()
    assert len(errors) == 2
    assert sql("SELECT key FROM skycore.messages") == []


@pytest.mark.parametrize("command", [Begin(intent=intent("a")), KeepAlive()])
async def test_tables_that_were_put_back_in_place_are_noticed_over_the_same_connection(
    opened: Open, sql: Any, command: Begin | KeepAlive
) -> None:
    """Tables restored in place are noticed without a new connection."""
    ledger = await opened()
    await sent(ledger, "a", accepted("T1"))
    sql("INSERT INTO skycore.campaigns (name, state) VALUES ('promo', 'running')")
    sql(
        "INSERT INTO skycore.chunks (campaign, number, keys, messages)"
        " SELECT id, 1, '{k}', '{null}' FROM skycore.campaigns"
    )
    sql("DELETE FROM skycore.messages")
    sql("DELETE FROM skycore.sessions")
    with pytest.raises(LedgerError, match="has forgotten what was sent last"):
        await ledger.run(command)
    with pytest.raises(LedgerError, match="nothing is begun before the ledger is opened again"):
        await ledger.begin(intent("a"))
    assert sql("SELECT state FROM skycore.campaigns") == [("halted",)]
    await ledger.run(KeepAlive())
    assert sql("SELECT key FROM skycore.messages") == []


async def test_a_standby_that_lagged_is_noticed_while_an_older_message_is_under_way(
    opened: Open, sql: Any
) -> None:
    """A failover to a lagging standby is noticed by the attempt that is missing."""
    ledger = await opened()
    await ledger.begin(intent("slow"))
    as_it_was = sql("SELECT id, alive_until, oldest_attempt FROM skycore.sessions")
    await sent(ledger, "a", accepted("T1"))
    sql("DELETE FROM skycore.messages WHERE key = 'a'")
    sql("DELETE FROM skycore.sessions")
    sql("INSERT INTO skycore.sessions VALUES (%s, %s, %s)", *as_it_was[0])
    sql(CUT)
    with pytest.raises(LedgerError, match="has forgotten what was sent last"):
        await ledger.begin(intent("a"))


@pytest.mark.parametrize(
    "word", [SetOptOut(number=OTHER, out=True), Record(notifications=(notice(SENT),))]
)
async def test_a_standby_that_lacks_what_a_listener_took_in_is_noticed(
    opened: Open, sql: Any, word: SetOptOut | Record
) -> None:
    """A failover that lost a STOP or receipt is noticed."""
    ledger = await opened()
    as_it_was = sql("SELECT id, alive_until FROM skycore.sessions")
    await ledger.run(word)
    sql("DELETE FROM skycore.opt_outs")
    sql("DELETE FROM skycore.sessions")
    sql("INSERT INTO skycore.sessions VALUES (%s, %s)", *as_it_was[0])
    sql(CUT)
    with pytest.raises(LedgerError, match="has forgotten"):
        await ledger.is_opted_out(OTHER)


async def test_a_late_ledger_halts_no_campaign_loaded_since(opened: Open, sql: Any) -> None:
    """A late ledger halts no campaign that was loaded after the restore."""
    await opened()
    sql(
        "INSERT INTO skycore.campaigns (name, state, created) VALUES ('promo', 'running', now()),"
        " ('put right', 'running', now() + interval '1 hour')"
    )
    sql(
        "INSERT INTO skycore.chunks (campaign, number, keys, messages)"
        " SELECT id, 1, '{k}', '{null}' FROM skycore.campaigns"
    )
    ledger = await opened()
    sql("DELETE FROM skycore.sessions")
    sql(CUT)
    with pytest.raises(LedgerError, match="has forgotten"):
        await ledger.opt_out(OTHER)
    found = sql("SELECT name, state FROM skycore.campaigns ORDER BY id")
    assert found == [("promo", "halted"), ("put right", "running")]


async def test_a_clock_that_is_set_back_is_no_database_that_has_forgotten(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock set back is not taken for a restore."""
    ledger = await opened()
    await ledger.begin(intent("a"))
    monkeypatch.setattr(ledger._session, "_lease", 20)  # it ends sooner than what was written did
    connection = ledger._connection
    transaction = connection.transaction

    @contextmanager
    def lost() -> Iterator[None]:
        with transaction():
            yield
        connection.close()
        raise psycopg.OperationalError("the connection was lost")

    monkeypatch.setattr(connection, "transaction", lost)
    assert await ledger.begin(intent("b")) is None
    assert ledger._connection is not connection


async def test_a_rolled_back_transaction_is_not_taken_for_a_lost_one(
    opened: Open, sql: Any
) -> None:
    """A transaction that was rolled back is not taken for one that a restore lost."""
    ledger = await opened(patience=0)
    sql("ALTER TABLE skycore.messages RENAME TO elsewhere")
    with pytest.raises(LedgerError):
        await ledger.begin(intent())
    with pytest.raises(LedgerError):
        await ledger.run(KeepAlive())
    sql("ALTER TABLE skycore.elsewhere RENAME TO messages")
    await ledger.opt_out(OTHER)
    sql(CUT)
    await ledger.begin(intent())


async def test_a_role_that_may_not_halt_campaigns_records_postbacks(
    dsn: str, sql: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A role that may not halt campaigns records postbacks after a restore, with a warning."""
    sql("CREATE ROLE listener LOGIN")
    sql("GRANT USAGE ON SCHEMA skycore TO listener")
    sql("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA skycore TO listener")
    sql("REVOKE UPDATE ON skycore.campaigns FROM listener")
    try:
        async with PostgresLedger(dsn.replace("postgres:", "listener:")) as ledger:
            sql("DELETE FROM skycore.sessions")
            sql(CUT)
            with pytest.raises(LedgerError, match="has forgotten"):
                await ledger.opt_out(OTHER)
            await ledger.opt_out(OTHER)
        assert "this user may not halt its campaigns: cancel them" in caplog.text
    finally:
        sql("DROP OWNED BY listener")
        sql("DROP ROLE listener")


async def test_an_open_ledger_renews_its_session(opened: Open, sql: Any) -> None:
    """An open ledger renews its session, so that its messages are not called in doubt."""
    ledger = await opened(lease=0.5)
    await ledger.begin(intent())
    (first,) = sql("SELECT alive_until FROM skycore.sessions")
    with anyio.fail_after(10):
        while sql("SELECT alive_until FROM skycore.sessions") == [first]:  # noqa: ASYNC110 - as above
            await anyio.sleep(0.01)
    await opened()
    assert await state_of(ledger, "k") is S.SENDING


async def test_closing_leaves_no_message_under_way(opened: Open, sql: Any) -> None:
    """Closing a ledger puts its messages under way in doubt."""
    ledger = await opened()
    await ledger.begin(intent())
    await ledger.aclose()
    assert sql("SELECT * FROM skycore.sessions") == []
    assert await state_of(await opened(), "k") is S.IN_DOUBT


async def test_the_outcome_of_one_taken_for_dead_counts(opened: Open, sql: Any) -> None:
    """A late outcome of a session taken for dead ends its doubt."""
    late = await opened()
    await late.begin(intent())
    sql(LATE)
    heir = await opened()
    assert await state_of(heir, "k") is S.IN_DOUBT
    await late.finish("k", accepted())
    assert await heir.lookup(intent()) == accepted()


async def test_the_outcome_of_an_attempt_is_not_that_of_the_next(opened: Open, sql: Any) -> None:
    """A late outcome of an earlier attempt does not end the resend's attempt."""
    late = await opened()
    await late.begin(intent())
    sql(LATE)
    heir = await opened()
    assert await heir.begin(intent(), resend_in_doubt=True) is None
    await late.finish("k", attrs.evolve(DOUBT, info="the late one"))
    assert await state_of(heir, "k") is S.SENDING
    await heir.finish("k", NOT_SENT)
    assert await state_of(heir, "k") is S.IN_DOUBT


# Fences.


def chunk(sql: Any, *keys: str) -> int:
    """Make a campaign of one chunk, and return the chunk's id."""
    ((campaign,),) = sql(
        "INSERT INTO skycore.campaigns (name, state) VALUES ('c', 'running') RETURNING id"
    )
    ((id_,),) = sql(
        "INSERT INTO skycore.chunks (campaign, number, keys, messages, epoch)"
        " VALUES (%s, 1, %s, %s, 1) RETURNING id",
        campaign,
        list(keys),
        ["{}" for _ in keys],
    )
    return int(id_)


async def test_within_its_fence_a_message_is_begun(opened: Open, sql: Any) -> None:
    """A fenced view with the right epoch of a running campaign begins messages."""
    ledger = await opened()
    view = fenced(ledger, chunk(sql))
    assert view.is_open
    await sent(view, "k", accepted())
    assert await ledger.lookup(intent()) == accepted()
    await view.aclose()
    assert ledger.is_open


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UPDATE skycore.chunks SET epoch = 2", "it was taken over"),
        ("UPDATE skycore.campaigns SET state = 'paused'", "its campaign is paused"),
        (
            "UPDATE skycore.campaigns SET starts_at = now() + interval '1 hour'",
            "its campaign is to start later",
        ),
        ("DELETE FROM skycore.chunks", "it was taken over"),
    ],
)
async def test_outside_its_fence_nothing_is_begun(
    opened: Open, sql: Any, change: str, why: str
) -> None:
    """A fenced view that lost its chunk or campaign begins nothing."""
    ledger = await opened()
    view = fenced(ledger, chunk(sql))
    await sent(view, "k", accepted())
    sql(change)
    refused: list[str] = []

    async def begin() -> None:
        try:
            await view.begin(intent("zombie"))
        except Superseded as error:
            refused.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(begin)
        group.start_soon(ledger.begin, intent("other"))
    assert [why in said for said in refused] == [True]
    assert await ledger.delivery(key="zombie") is None
    assert await state_of(ledger, "other") is S.SENDING


async def test_taking_over_a_chunk_waits_for_intents_being_written(dsn: str, sql: Any) -> None:
    """Taking over a chunk waits for an intent being written, and puts it in doubt."""
    id_ = chunk(sql, "k")
    with psycopg.connect(dsn) as one, psycopg.connect(dsn, autocommit=True) as two:
        executor(one).run([begin(attempt=1, fence=Fence(chunk=id_, epoch=1))])
        async with anyio.create_task_group() as group:
            group.start_soon(run_sync, functools.partial(take, two, id_, worker="h", lease=9))
            await until_one_waits(sql)
            one.commit()
    assert sql("SELECT state FROM skycore.messages") == [("in_doubt",)]
    assert sql("SELECT epoch FROM skycore.chunks") == [(2,)]


@pytest.mark.slow
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_chunk_is_not_done_with_what_a_late_one_proves_not_sent(
    dsn: str, sql: Any, *, is_first: bool
) -> None:
    """A chunk with a late NotSent outcome is due again, whichever was written first."""
    id_ = chunk(sql, "k")
    fence = Fence(chunk=id_, epoch=1)
    late = finish_as(NOT_SENT, attempt=1)
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as two:
        store = executor(one)
        store.run([begin(attempt=1, fence=fence)])
        one.commit()
        heir = take(two, id_, worker="h", lease=9)
        two.commit()
        assert heir is not None

        def write() -> None:
            store.run([late])
            one.commit()

        def done() -> None:
            finish(two, heir, left_out={}, pause=0)
            two.commit()

        async with anyio.create_task_group() as group:
            if is_first:
                store.run([late])
                group.start_soon(run_sync, done)
                await until_one_waits(sql)
                one.commit()
            else:
                finish(two, heir, left_out={}, pause=0)
                group.start_soon(run_sync, write)
                await until_one_waits(sql)
                two.commit()
    assert sql("SELECT state FROM skycore.messages") == [("not_sent",)]
    assert sql("SELECT state FROM skycore.chunks") == [("waiting",)]


async def test_a_chunk_is_not_done_with_what_a_report_is_just_proving_not_sent(
    dsn: str, sql: Any
) -> None:
    """A chunk finished while a report settles a message as not sent is due again."""
    id_ = chunk(sql, "k")
    with psycopg.connect(dsn) as one, psycopg.connect(dsn, autocommit=True) as two:
        heir = take(two, id_, worker="h", lease=9)
        assert heir is not None
        executor(two).run([begin(attempt=1), finish_as(DOUBT, attempt=1)])
        PostgresStore(one).reopen_chunks(["k"])
        one.execute("UPDATE skycore.messages SET state = 'not_sent'")
        async with anyio.create_task_group() as group:
            group.start_soon(run_sync, functools.partial(finish, two, heir, left_out={}, pause=0))
            await until_one_waits(sql)
            one.commit()
    assert sql("SELECT state FROM skycore.chunks") == [("waiting",)]


@pytest.mark.parametrize("is_fenced", [True, False])
async def test_a_message_not_sent_makes_its_chunk_due(
    opened: Open, dsn: str, sql: Any, *, is_fenced: bool
) -> None:
    """A NotSent outcome makes the message's chunk due again, whoever sent it."""
    ledger = await opened()
    id_ = chunk(sql, "k")
    await (fenced(ledger, id_) if is_fenced else ledger).begin(intent())
    with psycopg.connect(dsn, autocommit=True) as other:
        heir = take(other, id_, worker="h", lease=9)
        assert heir is not None
        assert finish(other, heir, left_out={}, pause=0) == 0
    assert sql("SELECT state FROM skycore.chunks") == [("done",)]
    await ledger.finish("k", NOT_SENT)
    assert sql("SELECT state FROM skycore.chunks") == [("waiting",)]


# Lost connections.


WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'skycore.events'::regclass"


async def test_a_long_query_blocks_no_writer(opened: Open, sql: Any, dsn: str) -> None:
    """Messages are begun and finished while a long query runs."""
    ledger, counted = await opened(), list[int]()
    with psycopg.connect(dsn) as beside:
        beside.execute("LOCK TABLE skycore.events IN ACCESS EXCLUSIVE MODE")
        async with anyio.create_task_group() as group:

            async def count() -> None:
                counted.append((await ledger.summary()).total)

            def until_it_waits() -> None:
                while not sql(WAITS)[0][0]:
                    pass

            group.start_soon(count)
            await run_sync(until_it_waits)
            with anyio.fail_after(30):
                await ledger.begin(intent("a"))
            with anyio.move_on_after(0):  # who is cancelled waits for no answer
                await ledger.summary()
            assert counted == []
            beside.rollback()
    assert counted == [0]  # of the moment in which it began
    assert (await ledger.summary()).total == 1


async def test_a_question_is_answered_where_the_connection_that_reads_is_cut(
    opened: Open, sql: Any
) -> None:
    """A query whose reading connection was cut is answered by the writing one."""
    ledger = await opened()
    await ledger.begin(intent("a"))
    for _ in range(2):
        assert (await ledger.summary()).total == 1
        sql(CUT)
    assert [each.key async for each in ledger.deliveries()] == ["a"]


async def test_a_lost_connection_is_made_again(opened: Open, sql: Any) -> None:
    """A command on a cut connection is written over a new one."""
    ledger = await opened()
    for number in range(5):
        sql(CUT)
        await sent(ledger, f"k{number}", accepted(f"T{number}"))
        sql(CUT)
        await ledger.record(notice(DELIVERED, f"T{number}"))
    assert (await ledger.summary()).states == {S.DELIVERED: 5}


async def test_a_commit_whose_end_was_not_heard_of_is_no_second_one(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands committed before the connection broke succeed, and are not repeated."""
    ledger = await opened()
    transact = ledger._transact
    cuts: list[str] = []

    def written_and_cut(connection: Any, group: Any) -> set[str]:
        touched: set[str] = transact(connection, group)
        if len(cuts) < 1:
            cuts.append("cut")
            connection.close()
            raise psycopg.OperationalError("the connection was lost")
        return touched

    steps: list[Callable[[], Awaitable[None]]] = [
        lambda: ledger.begin(intent()),
        lambda: ledger.finish("k", accepted()),
        lambda: ledger.record(notice(DELIVERED)),
        lambda: ledger.record(notice(DELIVERED)),
    ]
    for step in steps:
        cuts.clear()
        monkeypatch.setattr(ledger, "_transact", written_and_cut)
        await step()
        assert cuts == ["cut"]
    delivery = await ledger.delivery("T")
    assert delivery is not None
    assert (delivery.state, len(delivery.events)) == (S.DELIVERED, 1)


async def test_an_intent_whose_end_was_not_heard_of_in_time_is_taken_back(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An intent whose commit stayed unclear raises, and is undone later."""
    ledger = await opened(patience=0, lease=0.1)
    transact, connect = ledger._transact, ledger._database.connect

    def gone() -> Any:
        raise psycopg.OperationalError("the server is gone")

    def written_and_gone(connection: Any, group: Any) -> set[str]:
        touched: set[str] = transact(connection, group)
        if not any(isinstance(pending.command, Begin) for pending in group):
            return touched
        monkeypatch.setattr(ledger._database, "connect", gone)
        connection.close()
        raise psycopg.OperationalError("the connection was lost")

    monkeypatch.setattr(ledger, "_transact", written_and_gone)
    with pytest.raises(LedgerError, match="was lost"):
        await ledger.begin(intent())
    monkeypatch.setattr(ledger, "_transact", transact)
    monkeypatch.setattr(ledger._database, "connect", connect)
    assert await ledger.begin(intent(), timeout=10) is None
    await ledger.finish("k", accepted())
    assert await state_of(ledger, "k") is S.ACCEPTED


@pytest.mark.parametrize("then", ["paused", "read-only", "read-only once"])
async def test_an_intent_that_is_refused_after_its_end_was_not_heard_of_is_taken_back(
    opened: Open, sql: Any, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """An intent refused at its second try, but written at the first, is undone."""
    ledger = await opened(lease=0.1)
    view = fenced(ledger, chunk(sql, "k"))
    transact, tries = ledger._transact, count(1)

    def written_and_refused(connection: Any, group: Any) -> set[str]:
        is_begin = any(isinstance(pending.command, Begin) for pending in group)
        number = next(tries) if is_begin else 0
        if number > 1 and then == "paused":
            sql("UPDATE skycore.campaigns SET state = 'paused'")
        # As another server is before it takes over.
        if (then == "read-only" and number > 1) or (then == "read-only once" and number == 2):
            connection.execute("SET default_transaction_read_only = on")
        try:
            touched: set[str] = transact(connection, group)
        finally:
            connection.execute("SET default_transaction_read_only = off")
        if number == 1:
            connection.close()
            raise psycopg.OperationalError("the connection was lost")
        return touched

    monkeypatch.setattr(ledger, "_transact", written_and_refused)
    with pytest.raises(LedgerError, match="paused" if then == "paused" else "read-only"):
        await view.begin(intent())
    with anyio.fail_after(10):
        while await state_of(ledger, "k") is not S.NOT_SENT:  # noqa: ASYNC110 - as above
            await anyio.sleep(0.01)
    assert sql("SELECT state FROM skycore.chunks") == [("waiting",)]


async def test_a_reconnect_to_migrated_tables_writes_nothing(opened: Open, sql: Any) -> None:
    """A ledger that reconnects to migrated tables writes nothing."""
    ledger = await opened()
    await ledger.begin(intent())
    sql("UPDATE skycore.version SET version = version + 1")
    try:
        sql(CUT)
        with pytest.raises(LedgerError, match="made by a newer skycore-async"):
            await ledger.begin(intent("other"))
        with pytest.raises(LedgerError, match="made by a newer skycore-async"):
            await ledger.finish("k", DOUBT)
    finally:
        sql("UPDATE skycore.version SET version = version - 1")
    await ledger.finish("k", accepted())
    assert await ledger.delivery(key="other") is None


async def test_a_process_stopped_during_a_migration_begins_nothing(opened: Open, sql: Any) -> None:
    """A ledger whose process was stopped during a migration begins nothing."""
    ledger = await opened()
    await ledger.begin(intent())
    sql("UPDATE skycore.version SET version = version + 1")
    try:
        with pytest.raises(LedgerError, match="made by a newer skycore-async"):
            await ledger.record(notice(SENT, "T1"))
        sql("UPDATE skycore.version SET version = version - 1")
        assert (await ledger.summary()).total == 1  # over a connection that it is met with anew
        await ledger.run(KeepAlive())
        sql("UPDATE skycore.version SET version = version + 1")
        with pytest.raises(LedgerError, match="made by a newer skycore-async"):
            await ledger.begin(intent("other"))
    finally:
        sql("UPDATE skycore.version SET version = version - 1")
    assert sql("SELECT count(*) FROM skycore.events") == [(0,)]
    await ledger.finish("k", accepted())
    assert await ledger.delivery(key="other") is None


@pytest.mark.parametrize("lost", ["connection", "right to write"])
async def test_an_intent_that_cannot_be_taken_back_at_once_is_later(
    opened: Open, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """An intent of a cancelled caller that cannot be undone at once is undone later."""
    ledger = await opened(patience=0, lease=0.1)
    transact, connect = ledger._transact, ledger._database.connect
    failed: list[Any] = []

    def gone() -> Any:
        monkeypatch.setattr(ledger._database, "connect", connect)
        raise psycopg.OperationalError("the server is gone")

    def not_taken_back(connection: Any, group: Any) -> set[str]:
        commands = [pending.command for pending in group]
        if len(failed) < 2 and any(isinstance(each, Finish) for each in commands):
            failed.append(group)  # twice: it is tried alone, or with the next sign of life
            if lost == "right to write":
                raise psycopg.errors.InsufficientPrivilege
            monkeypatch.setattr(ledger._database, "connect", gone)
            connection.close()
            raise psycopg.OperationalError("the connection was lost")
        touched: set[str] = transact(connection, group)
        if not failed and any(isinstance(each, Begin) for each in commands):
            anyio.from_thread.run_sync(caller.cancel)
        return touched

    monkeypatch.setattr(ledger, "_transact", not_taken_back)
    with anyio.CancelScope() as caller:
        await ledger.begin(intent())
    assert caller.cancelled_caught
    with anyio.fail_after(10):
        while len(failed) < 2:  # noqa: ASYNC110 - a thread sets nothing that could be waited for
            await anyio.sleep(0.01)
    assert await ledger.begin(intent(), timeout=10) is None
    await ledger.finish("k", accepted())
    assert await state_of(ledger, "k") is S.ACCEPTED


async def test_a_repeated_transaction_uses_only_its_last_try(
    opened: Open, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeated transaction uses only what its last try read."""
    here, there = await opened(), await opened()
    await there.begin(intent())
    await there.finish("k", DOUBT)
    transact, tries = here._transact, iter(["lost"])

    def losing(connection: Any, group: Any) -> set[str]:
        touched: set[str] = transact(connection, group)
        for pending in group:
            if isinstance(pending.command, Begin) and next(tries, None):
                sql("UPDATE skycore.messages SET state = 'not_sent'")
                raise psycopg.errors.DeadlockDetected("deadlock detected")
        return touched

    monkeypatch.setattr(here, "_transact", losing)
    assert await here.begin(intent()) is None
    await here.finish("k", accepted())
    assert await state_of(there, "k") is S.ACCEPTED


async def test_collisions_are_tried_again(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadlock is retried, and one without end is a LedgerError."""
    ledger = await opened()
    transact, left = ledger._transact, [3]

    def colliding(connection: Any, group: Any) -> set[str]:
        if left[0]:
            left[0] -= 1
            raise psycopg.errors.DeadlockDetected("deadlock detected")
        touched: set[str] = transact(connection, group)
        return touched

    monkeypatch.setattr(ledger, "_transact", colliding)
    await ledger.begin(intent())
    assert left == [0]
    left[0] = 1000
    with pytest.raises(LedgerError, match="could not be written: deadlock detected"):
        await ledger.finish("k", accepted())
    left[0] = 0
    await ledger.finish("k", accepted())
    assert await state_of(ledger, "k") is S.ACCEPTED


@pytest.mark.slow
async def test_a_server_that_was_restarted_has_all_that_was_acknowledged() -> None:
    """After a restart of the server all recorded outcomes are there."""
    with running() as server:
        async with PostgresLedger(server.dsn(), clock=Clock(), patience=0) as ledger:
            await ledger.begin(intent())
            gone = PostgresLedger(server.dsn(), clock=Clock(), patience=0)
            await gone.open()
            await run_sync(server.stop, "immediate")
            with pytest.raises(LedgerError, match="was lost"):
                await gone.summary()
            await gone.aclose()
            with pytest.raises(LedgerError, match="was lost, and cannot be reached again"):
                await ledger.finish("k", accepted())
            with pytest.raises(LedgerError, match="cannot be reached"):
                await ledger.begin(intent("other"))
            await run_sync(server.start)
            await ledger.finish("k", accepted())
            assert await state_of(ledger, "k") is S.ACCEPTED
            assert await ledger.delivery(key="other") is None


@pytest.mark.slow
@pytest.mark.parametrize("step", ["begin", "record"])
async def test_a_commit_that_a_standby_may_lack_is_not_acknowledged(step: str) -> None:
    """A commit whose wait for a synchronous standby was cancelled is not acknowledged.

    The command is written again and waits again, even if its rows are there already, and even if
    the role hears of errors alone by default.
    """

    async def act() -> None:
        await (ledger.begin(intent()) if step == "begin" else ledger.record(notice(SENT)))
        acknowledged.set()

    def waiting() -> set[int]:
        rows = operator.execute(
            "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        ).fetchall()
        return {pid for (pid,) in rows}

    async def until_another_waits(before: set[int]) -> set[int]:
        with anyio.fail_after(20):
            while not (found := waiting() - before):
                assert not acknowledged.is_set()
                await anyio.sleep(0.01)
        return found

    def standby(named: str) -> None:
        operator.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{named}'")  # type: ignore[arg-type,unused-ignore] # pyright: ignore[reportArgumentType, reportCallIssue]
        operator.execute("SELECT pg_reload_conf()")

    def commit_until_one_waits() -> None:
        with psycopg.connect(server.dsn(), autocommit=True) as another:
            while not is_away.is_set():
                another.execute("UPDATE skycore.version SET version = version")

    acknowledged, is_away = anyio.Event(), threading.Event()
    with running() as server, psycopg.connect(server.dsn(), autocommit=True) as operator:
        operator.execute("ALTER DATABASE postgres SET client_min_messages = error")
        async with PostgresLedger(server.dsn(), clock=Clock()) as ledger:
            standby("away")
            async with anyio.create_task_group() as group:
                group.start_soon(run_sync, commit_until_one_waits)
                try:
                    others = await until_another_waits(set())
                    is_away.set()
                    group.start_soon(act)
                    (first,) = await until_another_waits(others)
                    operator.execute("SELECT pg_cancel_backend(%s)", (first,))
                    await until_another_waits({first, *others})
                    assert not acknowledged.is_set()
                finally:
                    standby("")
            if step == "begin":
                await ledger.finish("k", accepted())
                assert await state_of(ledger, "k") is S.ACCEPTED


@pytest.mark.slow
async def test_an_outcome_that_was_not_written_is_tried_again_until_it_is() -> None:
    """An outcome that could not be recorded is recorded once the server is back."""
    with running() as server:
        dsn = server.dsn()
        async with PostgresLedger(dsn, clock=Clock(), patience=0, lease=0.1) as ledger:
            await ledger.begin(intent())
            await run_sync(server.stop, "immediate")
            with pytest.raises(LedgerError, match="was lost"):
                await ledger.finish("k", accepted())
            await run_sync(server.start)
            with anyio.fail_after(10):
                while await state_of(ledger, "k") is not S.ACCEPTED:  # noqa: ASYNC110 - as above
                    await anyio.sleep(0.01)


async def test_nothing_is_begun_while_an_outcome_cannot_be_written(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No message begins while an outcome cannot be recorded.

    Callers who wait share the next try, and all goes on once one succeeds.
    """
    ledger = await opened()
    await ledger.begin(intent())
    transact, tries = ledger._transact, count()

    def no_outcomes(connection: Any, group: Any) -> set[str]:
        if any(isinstance(pending.command, Finish) for pending in group):
            next(tries)
            raise psycopg.errors.QueryCanceled("statement timeout")
        touched: set[str] = transact(connection, group)
        return touched

    monkeypatch.setattr(ledger, "_transact", no_outcomes)
    with pytest.raises(LedgerError, match="statement timeout"):
        await ledger.finish("k", accepted())
    before = next(tries)
    refused: list[LedgerError] = []

    async def begin_another(key: str) -> None:
        with pytest.raises(LedgerError, match="statement timeout") as caught:
            await ledger.begin(intent(key))
        refused.append(caught.value)

    async with anyio.create_task_group() as group:
        for key in "abcdef":
            group.start_soon(begin_another, key)
    assert len(refused) == 6
    assert next(tries) - before <= 1 + 2 * 2  # of a group, and of its command alone
    monkeypatch.setattr(ledger, "_transact", transact)
    assert await ledger.begin(intent("a")) is None
    assert await state_of(ledger, "k") is S.ACCEPTED
    assert await ledger.delivery(key="b") is None


async def test_a_lookup_records_an_unrecorded_outcome_first(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lookup records the key's unrecorded outcome first."""
    ledger = await opened()
    await ledger.begin(intent())
    transact = ledger._transact

    def no_outcomes(connection: Any, group: Any) -> set[str]:
        if any(isinstance(pending.command, Finish) for pending in group):
            raise psycopg.errors.QueryCanceled("statement timeout")
        touched: set[str] = transact(connection, group)
        return touched

    monkeypatch.setattr(ledger, "_transact", no_outcomes)
    with pytest.raises(LedgerError, match="statement timeout"):
        await ledger.finish("k", DOUBT)
    with pytest.raises(LedgerError, match="statement timeout"):
        await ledger.lookup(intent())
    monkeypatch.setattr(ledger, "_transact", transact)
    found = await ledger.lookup(intent())
    assert found is not None
    assert found.state is S.IN_DOUBT


async def test_closing_between_two_steps_raises_no_error(
    dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing between a renewal and a write records the outcome without an error."""
    ledger = PostgresLedger(dsn, clock=Clock(), lease=0.1)
    await ledger.open()
    await ledger.begin(intent())
    attempt = ledger._under_way["k"].attempt
    ledger._unwritten[attempt] = Finish(key="k", submission=accepted(), attempt=attempt)
    run = ledger.run
    async with anyio.create_task_group() as group:

        async def closed_meanwhile(command: Any) -> Any:
            answer = await run(command)
            group.start_soon(ledger.aclose)
            while ledger.is_open:
                await anyio.lowlevel.checkpoint()
            return answer

        monkeypatch.setattr(ledger, "run", closed_meanwhile)
        await ledger._closing.wait()
    assert not caplog.records
    async with PostgresLedger(dsn, clock=Clock()) as ledger:
        assert await state_of(ledger, "k") is S.ACCEPTED


async def test_only_closing_writes_unrecorded_outcomes_once_begun() -> None:
    """Once closing has begun, nobody else writes unrecorded outcomes."""
    written: list[Finish] = []

    async def write(outcome: Finish) -> None:
        written.append(outcome)

    outcomes, closing = UnwrittenOutcomes(write), anyio.Event()
    outcomes.open(closing)
    outcomes[None] = Finish(key="k", submission=accepted())
    closing.set()
    await outcomes.write()
    assert (written, len(outcomes)) == ([], 1)


@pytest.mark.slow
async def test_closing_writes_what_was_not_written_before() -> None:
    """Closing records outcomes that could not be recorded before."""
    with running() as server:
        dsn = server.dsn()
        async with PostgresLedger(dsn, clock=Clock(), patience=0) as ledger:
            await ledger.begin(intent())
            await run_sync(server.stop, "immediate")
            with pytest.raises(LedgerError, match="was lost"):
                await ledger.finish("k", accepted())
            await run_sync(server.start)
        async with PostgresLedger(dsn, clock=Clock()) as ledger:
            assert await state_of(ledger, "k") is S.ACCEPTED


async def test_an_outcome_that_the_ledger_keeps_is_not_written_by_its_client_too(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client does not record an outcome that the ledger itself will record."""
    ledger = await opened()
    transport = StubTransport()
    settings: dict[str, Any] = {
        "api_key": "a key",
        "from_": "60856",
        "max_attempts": 1,
        "transport": transport,
    }

    def lost(*_: object) -> set[str]:
        raise LedgerError("the database was lost")

    def unreachable(_to: str) -> NotSent:
        monkeypatch.setattr(ledger, "_transact", lost)
        return NotSent("no connection")

    async def are_sent(count: int) -> None:
        while len(transport.sent) < count:  # noqa: ASYNC110 - no event says so
            await anyio.sleep(0.01)

    async with (
        SkycoreClient(ledger=ledger, **settings) as first,
        SkycoreClient(ledger=ledger, **settings) as second,
        anyio.create_task_group() as group,
    ):
        transport.answer = unreachable
        with pytest.raises(NotSent):
            await first.send_sms(to=TO, text="Hello", key="k")
        monkeypatch.undo()
        (late,) = ledger._unwritten.values()
        await ledger.run(late)
        transport.answer, transport.held = answer_to, anyio.Event()
        with anyio.fail_after(10):
            group.start_soon(lambda: second.send_sms(to=TO, text="Hello", key="k"))
            await are_sent(2)
            group.start_soon(lambda: first.send_sms(to=OTHER, text="Hello"))
            await are_sent(3)
        transport.held.set()
    assert await state_of(ledger, "k") is S.ACCEPTED


async def test_an_outcome_that_is_written_late_is_not_that_of_the_next_attempt(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late outcome does not end an attempt that began since."""
    ledger = await opened()
    transact = ledger._transact

    def broken(*_: object) -> set[str]:
        raise LedgerError("the database was lost")

    await ledger.begin(intent())
    monkeypatch.setattr(ledger, "_transact", broken)
    with pytest.raises(LedgerError, match="was lost"):
        await ledger.finish("k", NOT_SENT)
    (late,) = ledger._unwritten.values()
    monkeypatch.setattr(ledger, "_transact", transact)
    await ledger.finish("k", NOT_SENT)
    assert await ledger.begin(intent()) is None
    await ledger.run(late)
    assert await state_of(ledger, "k") is S.SENDING
    await ledger.finish("k", accepted())
    assert await state_of(ledger, "k") is S.ACCEPTED


@pytest.mark.parametrize("is_resent", [False, True])
async def test_an_outcome_of_before_the_ledger_was_opened_again_is_of_its_attempt_alone(
    opened: Open, is_resent: bool
) -> None:
    """An outcome from before a reopening ends its own doubt, and no later attempt."""
    ledger = await opened(clock=time.time)
    transport = StubTransport(answer_to)
    transport.held = held = anyio.Event()
    message: dict[str, Any] = {"to": TO, "text": "Hello", "key": "k"}
    states: list[S | None] = []

    async def are_sent(count: int) -> None:
        while len(transport.sent) < count:  # noqa: ASYNC110 - no event says so
            await anyio.sleep(0.01)

    async with (
        SkycoreClient(api_key="k", from_="60856", transport=transport, ledger=ledger) as client,
        anyio.create_task_group() as group,
    ):
        with anyio.fail_after(10):
            group.start_soon(lambda: client.send_sms(**message))
            await are_sent(1)
            await ledger.aclose()
            await ledger.open()
            states.append(await state_of(ledger, "k"))
            if is_resent:
                transport.held = anyio.Event()
                group.start_soon(lambda: client.send_sms(**message, resend_in_doubt=True))
                await are_sent(2)
        held.set()
        if is_resent:
            await anyio.wait_all_tasks_blocked()
            await ledger.summary()
            states.append(await state_of(ledger, "k"))
            transport.held.set()
    assert states == [S.IN_DOUBT, *([S.SENDING] if is_resent else [])]
    assert await state_of(ledger, "k") is S.ACCEPTED


@pytest.mark.slow
async def test_a_command_waits_for_a_server_that_restarts() -> None:
    """A command waits within `patience` for the server to restart."""
    with running() as server:
        waits: list[float] = []

        def start(seconds: float) -> None:
            waits.append(seconds)
            server.start()

        dsn = server.dsn()
        async with PostgresLedger(dsn, clock=Clock(), patience=30, sleep=start) as ledger:
            await run_sync(server.stop, "immediate")
            await sent(ledger, "k", accepted())
            assert waits
            assert await state_of(ledger, "k") is S.ACCEPTED


async def test_a_step_that_the_server_breaks_off_is_its_callers_error(dsn: str, sql: Any) -> None:
    """A statement that the server cancels is its caller's LedgerError alone."""
    impatient = f"{dsn}&options=-c%20statement_timeout%3D50"
    async with PostgresLedger(impatient, clock=Clock()) as ledger:
        await sent(ledger, "k", accepted())
        with psycopg.connect(dsn) as locking:
            locking.execute("LOCK TABLE skycore.opt_outs")
            with pytest.raises(LedgerError, match="canceling statement due to statement timeout"):
                await ledger.opt_out(TO)
        await ledger.opt_out(TO)
    assert sql("SELECT out FROM skycore.opt_outs") == [(True,)]


# What is said where it cannot be used.


async def test_a_ledger_that_is_not_open_says_so(dsn: str) -> None:
    """A ledger that is not open, or closed, raises RuntimeError."""
    ledger = PostgresLedger(dsn)
    with pytest.raises(RuntimeError, match=r"is not open: use `async with`"):
        await ledger.summary()
    await ledger.aclose()
    assert not ledger.is_open
    async with ledger:
        await ledger.open()
        assert ledger.is_open
        assert await ledger.begin(intent()) is None
    with pytest.raises(RuntimeError, match="closed"):
        await ledger.summary()
    async with ledger:
        assert await state_of(ledger, "k") is MessageState.IN_DOUBT


def test_a_ledger_can_be_opened_in_another_event_loop(dsn: str) -> None:
    """A closed ledger can be opened in another event loop."""
    ledger = PostgresLedger(dsn)

    async def use(key: str) -> int:
        async with ledger:
            assert await ledger.begin(intent(key)) is None
            return (await ledger.summary()).total

    assert [anyio.run(use, key) for key in ("a", "b")] == [1, 2]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_opening_that_is_cancelled_natively_leaves_no_session(
    dsn: str, sql: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled opening leaves no session."""
    is_begun, may_go_on = threading.Event(), threading.Event()
    opened = PostgresLedger._open

    def held(ledger: PostgresLedger) -> None:
        is_begun.set()
        assert may_go_on.wait(20)
        opened(ledger)

    monkeypatch.setattr(PostgresLedger, "_open", held)
    ledger = PostgresLedger(dsn)
    task = asyncio.ensure_future(ledger.open())
    while not is_begun.is_set():
        await anyio.lowlevel.checkpoint()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_go_on.set()
    await ledger.aclose()
    assert not ledger.is_open
    assert sql("SELECT id FROM skycore.sessions") == []


async def test_a_value_the_database_cannot_hold_is_its_callers_error(opened: Open) -> None:
    """A key with NUL is an error for its caller alone."""
    ledger = await opened()
    refused: list[str] = []

    async def begin() -> None:
        try:
            await ledger.begin(intent("\0"))
        except LedgerError as error:
            refused.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(ledger.begin, intent())
        group.start_soon(begin)
    assert len(refused) == 1
    assert "could not be written: CharacterNotInRepertoire (SQLSTATE 22021)" in refused[0]
    assert await state_of(ledger, "k") is S.SENDING


async def test_ids_that_are_behind_their_table_are_told_in_words(opened: Open, sql: Any) -> None:
    """Sequences behind their tables are an error that says to set them."""
    ledger = await opened()
    for key in "abcd":
        await ledger.begin(intent(key))
    sql("SELECT setval('skycore.messages_id_seq', 1, false)")
    with pytest.raises(LedgerError, match=r"SQLSTATE 23505\); the sequences .* set each"):
        await ledger.begin(intent("e"))


async def test_a_server_that_takes_no_writes_is_said_to_be_none_to_write_to(dsn: str) -> None:
    """A read-only server is refused with advice on the DSN, and on the setting that does so."""
    ledger = PostgresLedger(f"{dsn}&options=-c%20default_transaction_read_only%3Don")
    said = r"takes no writes.*target_session_attrs.*default_transaction_read_only is on"
    with pytest.raises(LedgerError, match=said):
        await ledger.open()


async def test_no_connection_to_a_read_only_server_is_kept(opened: Open, dsn: str) -> None:
    """After a failover no connection to a read-only server is kept."""
    ledger = await opened(patience=0.1)
    await ledger.begin(intent("a"))
    await ledger.summary()
    with psycopg.connect(dsn, autocommit=True) as connection, taking_no_writes(connection):
        with pytest.raises(LedgerError, match="cannot be reached again: this server takes no"):
            await ledger.finish("a", accepted())
        with pytest.raises(LedgerError, match="takes no writes"):
            await ledger.summary()
    await ledger.begin(intent("b"))
    assert await state_of(ledger, "a") is S.ACCEPTED
    assert (await ledger.summary()).total == 2


async def test_no_session_without_the_right_to_write(dsn: str, sql: Any) -> None:
    """A role that may not write is refused at the opening."""
    sql("CREATE ROLE reader LOGIN")
    try:
        sql("GRANT USAGE ON SCHEMA skycore TO reader")
        sql("GRANT SELECT ON ALL TABLES IN SCHEMA skycore TO reader")
        ledger = PostgresLedger(dsn.replace("postgres:", "reader:"))
        with pytest.raises(LedgerError, match="denied for table sessions; give this user"):
            await ledger.open()
    finally:
        sql("DROP OWNED BY reader")
        sql("DROP ROLE reader")


FORKED = """
import os, sys, anyio
from skycore_async import PostgresLedger, SkycoreClient

ledger = PostgresLedger(sys.argv[1])
client = SkycoreClient(ledger=ledger, base_url=sys.argv[2], api_key=sys.argv[3], from_="60856")

async def main(text):
    async with ledger, client:
        await client.send_sms(to="15551234888", text=text)

for text in ("one", "two", "two"):
    if not (child := os.fork()):
        anyio.run(main, text)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_messages_without_a_key_are_their_own_in_each_forked_process(
    dsn: str, tmp_path: Path
) -> None:
    """Forked processes make up different keys for messages without a key."""
    program = tmp_path / "program.py"
    program.write_text(FORKED)
    with Simulator() as skycore:
        command = [sys.executable, "-W", "error", str(program), dsn, skycore.url, API_KEY]
        done = subprocess.run(  # noqa: S603 - it is ours
            command, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.stderr, done.returncode) == ("", 0)
        assert [message.text for message in skycore.messages] == ["one", "two", "two"]
