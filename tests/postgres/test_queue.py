"""The queue: chunks are handed out at their time, once, and again after losses."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, LiteralString

import anyio
import psycopg
import pytest
from procrastinate import PsycopgConnector
from procrastinate.exceptions import ConnectorException
from psycopg.conninfo import make_conninfo
from psycopg_pool import PoolTimeout

from benchmarks.postgres import Server
from skycore_async.campaigns import queue
from skycore_async.campaigns.chunks import DueChunk
from skycore_async.campaigns.queue import Procrastinate, QueueError, Ticket
from skycore_async.errors import ConfigurationError, LedgerError
from skycore_async.postgres.connection import Database
from skycore_async.postgres.schema import Connection
from tests.support.campaign_tables import empty_queue, now
from tests.support.pooler import pooler
from tests.support.standby import taking_no_writes


@pytest.fixture
def connection(dsn: str) -> Iterator[Connection]:
    """Connect beside the queue."""
    with psycopg.connect(dsn, autocommit=True) as opened:
        yield opened


@pytest.fixture
def queued(connection: Connection, dsn: str) -> Database:
    """Return a database with the queue's tables, empty."""
    empty_queue(connection)
    return Database(dsn)


def jobs(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT queueing_lock, status FROM skycore_queue.procrastinate_jobs ORDER BY id"
    ).fetchall()


def free_at(times: Mapping[int, datetime]) -> dict[int, DueChunk]:
    """Return chunks as offered, with their ids as numbers."""
    return {id_: DueChunk(free_at=at, number=id_) for id_, at in times.items()}


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone, as the queue does."""
    return "asyncio"


def test_another_version_of_the_queue_is_made_anew(connection: Connection) -> None:
    """The queue's tables are made by `cluster migrate`, and anew for another procrastinate."""
    connection.execute("DROP SCHEMA IF EXISTS skycore_queue CASCADE")
    with pytest.raises(LedgerError, match="not in this database: run `skycore cluster migrate"):
        queue.check(connection)
    assert queue.migrate(connection)
    assert not queue.migrate(connection)
    queue.check(connection)
    connection.execute("COMMENT ON SCHEMA skycore_queue IS 'of another version'")
    with pytest.raises(LedgerError, match="another procrastinate: run `skycore cluster migrate"):
        queue.check(connection)
    assert queue.migrate(connection)


@pytest.mark.anyio
async def test_a_queue_has_one_connection(connection: Connection, queued: Database) -> None:
    """A queue has one connection, however many ask at once."""
    counted = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%procrastinate%'"
    async with Procrastinate(queued) as chunks:
        await chunks.tend(10)
        before = connection.execute(counted).fetchone()
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(chunks.fetch)
        await anyio.wait_all_tasks_blocked()
        assert connection.execute(counted).fetchone() == before


def test_without_procrastinate_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without procrastinate the import says what to install."""
    monkeypatch.setitem(sys.modules, "procrastinate", None)
    monkeypatch.delitem(sys.modules, queue.__name__)
    with pytest.raises(
        ImportError, match=r"procrastinate.* pip install 'skycore-async\[postgres\]'"
    ):
        import_module(queue.__name__)


SWEEP = Ticket(chunk=None)


@pytest.mark.anyio
async def test_a_chunk_waits_in_the_queue_once(queued: Database, connection: Connection) -> None:
    """A chunk offered by two workers is fetched once, and leaves the queue."""
    at = now(connection)
    async with Procrastinate(queued) as one, Procrastinate(queued) as two:
        assert await one.fetch() is None  # nobody knows of it yet
        await one.tend(3600)
        await two.tend(3600)
        await one.offer({})
        await one.offer(free_at({7: at, 8: at}))
        await two.offer(free_at({7: at, 8: at, 9: at}))
        tickets = [await each.fetch() for each in (one, two, one, two, one)]
    assert tickets == [SWEEP, *(Ticket(chunk=n) for n in (7, 8, 9)), None]
    assert jobs(connection) == []


@pytest.mark.anyio
async def test_a_chunk_is_handed_out_at_its_time(queued: Database, connection: Connection) -> None:
    """A chunk is handed out at its time, and holds back none that is due earlier."""
    async with Procrastinate(queued) as queue_:
        await queue_.tend(3600)
        assert await queue_.fetch() == SWEEP
        await queue_.offer(free_at({7: now(connection, hours=1), 8: now(connection)}))
        assert [await queue_.fetch() for _ in range(2)] == [Ticket(chunk=8), None]
        connection.execute("SET search_path TO skycore_queue")
        connection.execute("UPDATE procrastinate_jobs SET scheduled_at = now()")
        assert await queue_.fetch() == Ticket(chunk=7)


@pytest.mark.anyio
async def test_a_small_campaign_passes_what_is_in_the_queue_of_a_large_one(
    queued: Database, connection: Connection
) -> None:
    """Chunks are handed out by number, so that campaigns take turns."""
    at = now(connection)
    async with Procrastinate(queued) as queue_:
        await queue_.tend(3600)
        await queue_.offer({id_: DueChunk(free_at=at, number=id_) for id_ in range(1, 6)})
        tickets = [await queue_.fetch() for _ in range(3)]
        await queue_.offer({9: DueChunk(free_at=at, number=1)})
        tickets += [await queue_.fetch() for _ in range(4)]
    assert tickets == [SWEEP, *(Ticket(chunk=id_) for id_ in (1, 2, 9, 3, 4, 5))]


@pytest.mark.anyio
async def test_one_worker_a_period_sweeps(queued: Database) -> None:
    """One worker sweeps in each period."""
    clock = iter([100, 109, 112, 115, 121])
    async with (
        Procrastinate(queued, clock=lambda: next(clock)) as one,
        Procrastinate(queued, clock=lambda: next(clock)) as two,
    ):
        await one.tend(10)
        assert await one.fetch() == SWEEP
        await two.tend(10)
        assert await two.fetch() is None
        await two.tend(10)
        await one.tend(10)
        await one.tend(10)  # of a period later, when nobody has swept yet
        assert [await two.fetch(), await one.fetch()] == [SWEEP, None]


@pytest.mark.anyio
async def test_two_who_sweep_at_the_same_moment_offer_once(
    queued: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sweeps at one moment offer each chunk once."""

    async def nothing(**_: object) -> list[object]:
        return []

    at = now(connection)
    async with Procrastinate(queued) as queue_:
        await queue_.offer(free_at({7: at, 8: at}))
        with monkeypatch.context() as patched:
            patched.setattr(queue_._jobs, "list_jobs_async", nothing)
            await queue_.offer(free_at({7: at, 8: at, 9: at}))
        assert jobs(connection) == [(f"chunk-{n}", "todo") for n in (7, 8)]
        await queue_.offer(free_at({7: at, 8: at, 9: at}))
    assert jobs(connection) == [(f"chunk-{n}", "todo") for n in (7, 8, 9)]


@pytest.mark.anyio
async def test_who_waits_already_is_passed_over_in_any_language(
    queued: Database, connection: Connection
) -> None:
    """A duplicate job is recognized in any language of the server."""
    own = "-c quote_all_identifiers=on -c datestyle=German"
    clock = iter([100, 112])
    worded = Database(make_conninfo(queued.conninfo, options=own))
    async with Procrastinate(worded, clock=lambda: next(clock)) as queue_:
        for _ in range(2):  # nobody sweeps meanwhile
            await queue_.tend(10)
        assert jobs(connection) == [("sweep", "todo")]
        await queue_.offer(free_at({7: now(connection)}))
        assert [await queue_.fetch() for _ in range(3)] == [SWEEP, Ticket(chunk=7), None]


@pytest.mark.anyio
async def test_another_error_of_the_queue_is_not_passed_over(
    queued: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the queue other than a duplicate is raised."""

    async def broken(*_: object, **__: object) -> None:
        raise ValueError("something else")

    async with Procrastinate(queued) as queue_:
        monkeypatch.setattr(queue_._jobs, "defer_periodic_job", broken)
        with pytest.raises(ValueError, match="something else"):
            await queue_.tend(10)


@pytest.mark.anyio
async def test_the_job_of_a_dead_worker_is_removed(
    queued: Database, connection: Connection
) -> None:
    """A dead worker's job is removed; a worker that was only late goes on."""
    at = now(connection)
    async with Procrastinate(queued) as late, Procrastinate(queued) as alive:
        for each in (late, alive):
            await each.tend(3600)
        assert await alive.fetch() == SWEEP
        await late.offer(free_at({7: at}))
        assert late._worker is not None
        assert await late._jobs.fetch_job(["skycore"], late._worker) is not None
        await alive.offer({})
        assert jobs(connection) == [("chunk-7", "doing")]
        connection.execute(
            "UPDATE skycore_queue.procrastinate_workers"
            " SET last_heartbeat = now() - interval '1 hour' WHERE id = %s",
            (late._worker,),
        )
        await alive.offer({})
        assert jobs(connection) == []
        await alive.offer(free_at({7: at}))
        with pytest.raises(QueueError):  # it is not known any more
            await late.fetch()
        await late.tend(3600)
        assert await late.fetch() == Ticket(chunk=7)


@pytest.mark.anyio
async def test_a_queue_that_is_made_anew_goes_on(queued: Database, connection: Connection) -> None:
    """Workers go on after the queue's tables were made anew."""
    async with Procrastinate(queued) as queue_:
        for _ in range(10):  # by then a statement would be a prepared one
            await queue_.tend(0.001)
            assert await queue_.fetch() == SWEEP
            await queue_.offer(free_at({7: now(connection)}))
            assert await queue_.fetch() == Ticket(chunk=7)
        await queue_.offer(free_at({7: now(connection)}))
        connection.execute("COMMENT ON SCHEMA skycore_queue IS 'of another version'")
        assert queue.migrate(connection)
        assert await queue_.fetch() is None
        await queue_.offer(free_at({7: now(connection), 8: now(connection)}))
        with pytest.raises(QueueError):
            await queue_.fetch()
        await queue_.tend(3600)
        assert [await queue_.fetch() for _ in range(4)] == [
            SWEEP,
            Ticket(chunk=7),
            Ticket(chunk=8),
            None,
        ]


@pytest.mark.anyio
async def test_a_queue_that_is_lost_says_so(queued: Database, postgres_server: Server) -> None:
    """A stopped server is a QueueError, and the queue works after its restart."""
    async with Procrastinate(queued) as queue_:
        await queue_.tend(3600)
        assert await queue_.fetch() == SWEEP
        postgres_server.restart()
        began = time.monotonic()
        while time.monotonic() - began < 10:
            try:
                await queue_.offer(free_at({7: datetime.now(UTC) - timedelta(hours=1)}))
                break
            except QueueError:
                continue
        await queue_.tend(3600)
        assert await queue_.fetch() == Ticket(chunk=7)


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_queue_that_was_away_for_long_is_there_as_soon_as_it_is_back(
    queued: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reconnecting is tried at a steady pace, however long the server is away."""
    monkeypatch.setattr(queue, "_WAIT", 0.5)
    async with Procrastinate(queued) as queue_:
        await queue_.tend(3600)
        with taking_no_writes(connection):
            until = time.monotonic() + 3.2
            while time.monotonic() < until:
                with pytest.raises(QueueError):
                    await queue_.tend(3600)
        until = time.monotonic() + 2.5
        while True:
            with suppress(QueueError):
                await queue_.tend(3600)
                break
            assert time.monotonic() < until


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("granted", "said"),
    [
        ("REVOKE CREATE ON SCHEMA public FROM clerk", "may not see them: run"),
        ("GRANT USAGE ON SCHEMA skycore_queue TO clerk", "permission denied.*give this user"),
    ],
)
async def test_a_queue_that_may_not_be_used_says_what_to_do(
    queued: Database, connection: Connection, granted: LiteralString, said: str
) -> None:
    """Missing rights on the queue are a ConfigurationError with advice."""
    connection.execute("CREATE ROLE clerk LOGIN")
    connection.execute(granted)
    try:
        clerk = Database(queued.conninfo + " user=clerk")
        async with Procrastinate(clerk) as queue_:
            with pytest.raises(ConfigurationError, match=said):
                await queue_.tend(3600)
    finally:
        connection.execute("DROP OWNED BY clerk; DROP ROLE clerk")


@pytest.mark.anyio
@pytest.mark.slow
@pytest.mark.parametrize("left", ["SET ROLE pg_monitor", "SET default_transaction_read_only = on"])
async def test_the_queue_discards_what_others_left(queued: Database, dsn: str, left: str) -> None:
    """A role or setting that others left in a pooler's session is discarded."""
    with pooler(dsn, keeps_sessions=True, size=1, is_reset=False) as through:
        with psycopg.connect(through, autocommit=True) as other:
            other.execute(left.encode())
        async with Procrastinate(Database(through)) as hands_out:
            await hands_out.tend(60)
            assert await hands_out.fetch() == Ticket(chunk=None)


async def open_in_vain(_: object) -> None:
    raise ConnectorException from PoolTimeout("pool initialization incomplete after 30.0 sec")


@pytest.mark.anyio
async def test_a_queue_that_gets_no_connection_says_why(
    queued: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that gets no connection raises the server's reason, as that there are too many."""
    connection.execute("CREATE ROLE clerk LOGIN CONNECTION LIMIT 0")
    monkeypatch.setattr(PsycopgConnector, "open_async", open_in_vain)
    try:
        with pytest.raises(QueueError, match='too many connections for role "clerk"'):
            async with Procrastinate(Database(queued.conninfo + " user=clerk")):
                pass
    finally:
        connection.execute("DROP ROLE clerk")


@pytest.mark.anyio
async def test_a_queue_whose_pool_alone_fails_says_what_the_pool_did(
    queued: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue whose pool gets no connection where another one succeeds says what the pool did."""
    monkeypatch.setattr(PsycopgConnector, "open_async", open_in_vain)
    with pytest.raises(QueueError, match="initialization incomplete"):
        async with Procrastinate(queued):
            pass


@pytest.mark.anyio
async def test_a_queue_asks_a_pooler_without_sessions_no_longer_than_others(
    queued: Database, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that gets no session of a pooler, nor a reason, says what the pool did."""
    monkeypatch.setattr(PsycopgConnector, "open_async", open_in_vain)
    monkeypatch.setattr(queue, "_WAIT", 0.05)
    with pooler(dsn, keeps_sessions=True, size=1) as through, psycopg.connect(through) as other:
        other.execute("SELECT 1")
        with anyio.fail_after(2), pytest.raises(QueueError, match="initialization incomplete"):
            async with Procrastinate(Database(through)):
                pass
