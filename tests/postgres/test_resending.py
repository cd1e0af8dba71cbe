"""Doubts of a campaign resent with an operator's permission: once each."""

from __future__ import annotations

from collections import Counter
from functools import partial

import anyio
import psycopg
import pytest

from skycore_async import SkycoreClient
from skycore_async.campaigns.campaigns import change, load
from skycore_async.campaigns.chunks import due, finish, take
from skycore_async.campaigns.outage import LIMIT
from skycore_async.campaigns.progress import progress
from skycore_async.campaigns.resending import Resending, doubts_of, resend
from skycore_async.campaigns.worker import Worker
from skycore_async.cli.actions.worker import WorkerEnd
from skycore_async.cli.ui.output import Exit
from skycore_async.errors import CampaignError, OutcomeUnknown
from skycore_async.ledger.postgres.ledger import PostgresLedger
from skycore_async.postgres.schema import Connection
from tests.postgres.test_worker import NOWHERE, Slow, some, soon
from tests.support.campaign_tables import only
from tests.support.cluster_worker import work
from tests.support.ledger_cases import SENT, intent, notice
from tests.support.ledger_cases import accepted as taken
from tests.support.stub_transport import StubTransport, accepted

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone, as the queue does."""
    return "asyncio"


async def in_doubt(connection: Connection, dsn: str, count: int = 60) -> None:
    """Put every third message of a campaign in doubt."""
    load(connection, "promo", some(count), size=20)
    lost = StubTransport(lambda to: b"<html>" if int(to[-2:]) % 3 == 0 else accepted(to))
    await work(dsn, NOWHERE, transport=lost)
    assert only(connection).states == {"in_doubt": count // 3, "accepted": count - count // 3}
    assert only(connection).state == "done"


def permitted(connection: Connection, name: str = "promo") -> Resending:
    """Permit to resend all that is in doubt."""
    return resend(connection, name, doubts_of(connection, name))


async def test_each_doubt_is_sent_once_for_a_permission(connection: Connection, dsn: str) -> None:
    """Each doubt is resent once, even if permission is given twice."""
    await in_doubt(connection, dsn)
    assert permitted(connection) == Resending(new=20, marked=20, under_way=0, state="running")
    found = only(connection)
    assert (found.state, found.to_send, found.states["in_doubt"]) == ("running", 20, 20)
    assert permitted(connection).new == 0
    stub = StubTransport()
    await work(dsn, NOWHERE, transport=stub)
    assert Counter(stub.sent) == Counter(str(15550000000 + n) for n in range(0, 60, 3))
    assert only(connection).states == {"accepted": 60}
    assert permitted(connection).marked == 0


async def test_a_doubt_does_not_wait_for_the_hours_of_others(
    connection: Connection, dsn: str
) -> None:
    """A permitted doubt does not wait for the hours of others in its chunk."""
    await in_doubt(connection, dsn)
    connection.execute(
        "UPDATE skycore.chunks SET state = 'waiting', put_off = 1, due = now() + interval '1 day'"
    )
    assert permitted(connection).new == 20
    stub = StubTransport()
    await work(dsn, NOWHERE, transport=stub)
    assert len(stub.sent) == 20


async def test_a_doubt_that_is_permitted_while_its_chunk_is_held_waits_for_nobody(
    connection: Connection, dsn: str
) -> None:
    """A doubt permitted while a worker holds its chunk is due at once afterwards."""
    await in_doubt(connection, dsn)
    connection.execute("UPDATE skycore.chunks SET state = 'waiting', due = now()")
    held = [take(connection, id_, worker="a", lease=60) for id_ in due(connection, 10)]
    assert permitted(connection).new == 20
    for chunk in held:
        assert chunk is not None
        finish(connection, chunk, left_out={}, pause=86_400, put_off=chunk.keys[:1])
    assert len(due(connection, 10)) == 3
    stub = StubTransport()
    await work(dsn, NOWHERE, transport=stub)
    assert len(stub.sent) == 20


async def test_a_cancelled_campaign_has_no_permissions(connection: Connection, dsn: str) -> None:
    """Cancelling a campaign ends its permissions, also for the same keys elsewhere."""
    await in_doubt(connection, dsn)
    load(connection, "another", some(60), size=20)
    permitted(connection)
    change(connection, "cancel", "promo")
    promo = progress(connection)[0]
    assert (promo.state, promo.to_send, promo.states["in_doubt"]) == ("cancelled", 0, 20)
    stub = StubTransport()
    await work(dsn, NOWHERE, transport=stub)
    assert stub.sent == []


async def test_a_permission_is_for_the_campaign_that_it_was_given_for(
    connection: Connection, dsn: str
) -> None:
    """A permission counts for its own campaign alone."""
    await in_doubt(connection, dsn)
    load(connection, "another", some(60), size=20)
    permitted(connection)
    change(connection, "pause", "promo")
    stub = StubTransport()
    await work(dsn, NOWHERE, transport=stub)
    promo, another = progress(connection)
    assert (promo.state, promo.to_send, stub.sent) == ("paused", 20, [])
    assert (another.state, another.to_send) == ("done", 0)
    change(connection, "cancel", "another")
    change(connection, "resume", "promo")
    await work(dsn, NOWHERE, transport=stub)
    assert len(stub.sent) == len({*stub.sent}) == 20


async def test_two_permissions_send_one_doubt_once(connection: Connection, dsn: str) -> None:
    """A doubt permitted in two campaigns is resent once."""
    await in_doubt(connection, dsn)
    load(connection, "another", some(60), size=20)
    for name in ("promo", "another"):
        assert permitted(connection, name).new == 20
    lost = StubTransport(lambda _: b"<html>")
    await work(dsn, NOWHERE, transport=lost)
    assert len(lost.sent) == len({*lost.sent}) == 20
    assert [each.state for each in progress(connection)] == ["done", "done"]


async def test_cancelling_waits_for_no_lock_on_messages(connection: Connection, dsn: str) -> None:
    """Cancelling waits for no lock on messages."""
    await in_doubt(connection, dsn, count=3)
    permitted(connection)
    connection.execute("SET lock_timeout = '1s'")
    with psycopg.connect(dsn) as other:
        other.execute("SELECT FROM skycore.messages FOR UPDATE")
        assert change(connection, "cancel", "promo") == "running"


async def test_what_is_in_doubt_once_more_waits_for_another_permission(
    connection: Connection, dsn: str
) -> None:
    """A doubt that is in doubt again after a resend needs a new permission."""
    await in_doubt(connection, dsn)
    permitted(connection)
    lost = StubTransport(lambda _: b"<html>")
    await work(dsn, NOWHERE, transport=lost)
    assert only(connection).states == {"in_doubt": 20, "accepted": 40}
    stub = StubTransport()
    await work(dsn, NOWHERE, transport=stub)
    assert (len(lost.sent), stub.sent) == (20, [])
    assert permitted(connection).new == 20
    await work(dsn, NOWHERE, transport=stub)
    assert len(stub.sent) == 20


async def test_a_permission_given_while_workers_run_sends_nothing_twice(
    connection: Connection, dsn: str
) -> None:
    """Permissions given repeatedly while workers run resend each doubt once."""
    await in_doubt(connection, dsn)
    stubs = [Slow(), Slow()]

    async def insist() -> None:
        while sum(len(stub.sent) for stub in stubs) < 20:
            permitted(connection)
            await anyio.sleep(0.01)

    permitted(connection)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for stub in stubs:
                group.start_soon(partial(work, dsn, NOWHERE, transport=stub))
            group.start_soon(insist)
    sent = [to for stub in stubs for to in stub.sent]
    assert len({*sent}) == len(sent) == 20
    assert only(connection).states == {"accepted": 60}


async def test_a_doubt_settled_by_a_postback_is_not_resent(
    connection: Connection, dsn: str
) -> None:
    """A permitted doubt that a postback settles is not resent."""
    await in_doubt(connection, dsn, count=3)
    permitted(connection)
    row = connection.execute("SELECT max(started_at) FROM skycore.messages").fetchone()
    began = 0.0 if row is None else row[0]
    async with PostgresLedger(dsn, clock=lambda: began) as ledger:
        await ledger.record(notice(SENT, "T1", to="15550000000", after=began - 1_700_000_000))
        delivery = await ledger.delivery(key="promo:0")
    assert delivery is not None
    assert (delivery.state, delivery.settled_by) == ("sent", "postback")
    stub = StubTransport()
    await work(dsn, NOWHERE, transport=stub)
    assert stub.sent == []


async def test_what_may_still_end_is_left_alone(connection: Connection, dsn: str) -> None:
    """A message of a live process that was taken for dead is not permitted."""
    load(connection, "promo", some(1))
    async with PostgresLedger(dsn) as ledger:
        await ledger.begin(intent("promo:0"))
        connection.execute("UPDATE skycore.messages SET state = 'in_doubt'")
        assert permitted(connection) == Resending(new=0, marked=0, under_way=1, state="running")
        connection.execute("UPDATE skycore.sessions SET alive_until = now() - interval '1 s'")
        assert permitted(connection).new == 1
        await ledger.finish("promo:0", taken())
        delivery = await ledger.delivery(key="promo:0")
    assert delivery is not None
    assert (delivery.state, delivery.settled_by) == ("accepted", None)
    assert permitted(connection).marked == 0


async def test_what_a_dead_worker_was_sending_is_among_what_is_asked_about(
    connection: Connection, dsn: str
) -> None:
    """A dead session's messages count as doubts before anyone has marked them."""
    load(connection, "promo", some(2))
    async with PostgresLedger(dsn) as ledger:
        await ledger.begin(intent("promo:0"))
        assert len(doubts_of(connection, "promo")) == 0
        connection.execute("UPDATE skycore.sessions SET alive_until = now() - interval '1 s'")
        assert len(doubts_of(connection, "promo")) == 1
        async with PostgresLedger(dsn) as other:
            await other.begin(intent("promo:1"))
            connection.execute("UPDATE skycore.sessions SET alive_until = now() - interval '1 s'")
            assert permitted(connection).new == 2


async def test_nothing_is_sent_again_but_what_was_asked_about(
    connection: Connection, dsn: str
) -> None:
    """Only doubts that the operator was asked about are permitted."""
    await in_doubt(connection, dsn, count=6)
    asked = doubts_of(connection, "promo")
    connection.execute(
        "UPDATE skycore.messages SET state = 'sent', settled_by = 'postback' WHERE key = 'promo:0'"
    )
    load(connection, "promo", some(7))
    await work(dsn, NOWHERE, transport=StubTransport(lambda _: b"<html>"))
    assert resend(connection, "promo", asked) == Resending(
        new=1, marked=1, under_way=1, state="running"
    )
    stub = StubTransport()
    await work(dsn, NOWHERE, transport=stub)
    assert stub.sent == ["15550000003"]


async def test_a_permission_is_for_no_later_attempt_than_was_asked_about(
    connection: Connection, dsn: str
) -> None:
    """A doubt resent by somebody else meanwhile is not permitted."""
    await in_doubt(connection, dsn, count=3)
    asked = doubts_of(connection, "promo")
    permitted(connection)
    await work(dsn, NOWHERE, transport=StubTransport(lambda _: b"<html>"))
    assert resend(connection, "promo", asked).new == 0
    assert permitted(connection).new == 1


async def test_who_has_said_stop_is_not_sent_to_for_a_permission_from_before(
    connection: Connection, dsn: str
) -> None:
    """A STOP ends a permission, which a later START does not restore."""
    await in_doubt(connection, dsn, count=3)
    permitted(connection)
    stub = StubTransport()
    async with PostgresLedger(dsn) as ledger:
        await ledger.opt_out("15550000000")
        await work(dsn, NOWHERE, transport=stub)
        await ledger.opt_in("15550000000")
        assert (only(connection).state, stub.sent) == ("done", [])
        load(connection, "promo", some(5))
        assert only(connection).to_send == 2  # and the doubt was begun: it is counted once
        connection.execute("DELETE FROM skycore.chunks WHERE state <> 'done'")
        connection.execute("UPDATE skycore.chunks SET state = 'waiting'")
        await work(dsn, NOWHERE, transport=stub)
        async with SkycoreClient(api_key="k", transport=stub, ledger=ledger) as client:
            with pytest.raises(OutcomeUnknown):
                await client.send_sms(
                    to="15550000000", text="Hello 0", from_="60856", key="promo:0"
                )
    assert stub.sent == []
    assert permitted(connection).new == 1


async def test_doubts_of_a_campaign_that_does_not_run_wait_for_it(
    connection: Connection, dsn: str
) -> None:
    """Doubts of a paused or halted campaign wait; a cancelled one has nothing to resend."""
    await in_doubt(connection, dsn, count=3)
    change(connection, "pause", "promo")
    assert permitted(connection).state == "paused"
    stub = StubTransport()
    await work(dsn, NOWHERE, transport=stub)
    assert stub.sent == []
    change(connection, "cancel", "promo")
    for name, said in (("promo", "nothing more of it is sent"), ("nope", "there is no campaign")):
        with pytest.raises(CampaignError, match=said):
            permitted(connection, name)


async def test_a_worker_says_that_others_met_an_outage(connection: Connection, dsn: str) -> None:
    """A worker whose campaign was halted for doubts ends with the exit code for doubt."""
    load(connection, "promo", some(400), size=20)
    lucky = Slow()

    async def outage() -> None:
        await soon(lambda: len(lucky.sent) > 20)
        connection.execute(
            "UPDATE skycore.campaigns SET state = 'halted', reason = 'many',"
            " in_doubt_in_a_row = %s",
            (LIMIT,),
        )

    found: list[Worker] = []
    async with anyio.create_task_group() as group:
        group.start_soon(outage)
        found.append(await work(dsn, NOWHERE, transport=lucky))
    (worker,) = found
    assert (worker.counters.in_doubt, worker.counters.halted) == (0, {"promo": "many"})
    end = WorkerEnd(counters=worker.counters, is_interrupted=False, error=None)
    assert end.exit_code is Exit.IN_DOUBT
