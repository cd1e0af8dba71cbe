"""A role with the documented rights and no others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from skycore_async import LedgerError, NotSent, PostgresLedger, PostgresLimiter
from skycore_async.campaigns import queue
from skycore_async.campaigns.campaigns import change, load
from skycore_async.campaigns.resending import doubts_of, resend
from skycore_async.ledger.postgres.read_only import PostgresLedgerView
from skycore_async.postgres.connection import Database
from skycore_async.postgres.schema import Connection
from tests.postgres.test_worker import NOWHERE, some
from tests.support.campaign_tables import only
from tests.support.cluster_worker import work
from tests.support.ledger_cases import SENT, notice
from tests.support.on_asyncio import anyio_backend  # noqa: F401 - the queue runs on nothing else
from tests.support.stub_transport import Answer, StubTransport, accepted

EVERYTHING = "CREATE POLICY own ON skycore.opt_outs USING (true)"
PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"


@pytest.fixture
def role(connection: Connection, dsn: str) -> Iterator[str]:
    """Return the DSN of a role made as documented. Functions are not public in this database."""
    functions = "EXECUTE ON ALL FUNCTIONS IN SCHEMA skycore, skycore_queue"
    connection.execute(f"REVOKE {functions} FROM PUBLIC")
    connection.execute("CREATE ROLE sms LOGIN")
    try:
        (granted,) = (
            part for part in PAGE.read_text("utf-8").split("```sql\n") if "TO sms" in part
        )
        connection.execute(granted.partition("```")[0].encode())
        yield dsn.replace("postgres:", "sms:")
    finally:
        connection.execute(f"DROP OWNED BY sms; DROP ROLE sms; GRANT {functions} TO PUBLIC")


def answer(to: str) -> Answer:
    return b"<html>" if to.endswith("0") else accepted(to)


@pytest.mark.anyio
async def test_what_the_documentation_gives_a_role_is_enough(
    connection: Connection, role: str
) -> None:
    """The documented rights suffice to load, send, resend, receive, prune and cancel."""
    with Database(role).open() as own:
        load(own, "promo", some(30), size=20)
    once = {"15550000001", "15550000002"}

    def odd(to: str) -> Answer:
        if to in once:
            once.discard(to)
            return NotSent("no connection")
        return answer(to)

    async with PostgresLimiter(role, "account", rate=500) as limiter:
        stub = StubTransport(odd)
        worker = await work(role, NOWHERE, transport=stub, rate=limiter, max_attempts=1)
    assert worker.error is None
    assert only(connection).states == {"accepted": 27, "in_doubt": 3}
    with Database(role).open() as own:
        assert resend(own, "promo", doubts_of(own, "promo")).new == 3
    await work(role, NOWHERE, transport=StubTransport())
    assert only(connection).states == {"accepted": 30}
    async with PostgresLedger(role) as ledger:
        await ledger.record(notice(SENT, "T1", to="15550000000"))
        await ledger.opt_out("15550000001")
        assert (await ledger.prune(older_than=timedelta(days=30))).messages == 0
    with Database(role).open() as own:
        assert change(own, "cancel", "promo") == "running"


@pytest.fixture
def secured(connection: Connection) -> Iterator[str]:
    """Return a table that has row level security meanwhile."""
    connection.execute("ALTER TABLE skycore.opt_outs ENABLE ROW LEVEL SECURITY")
    yield "skycore.opt_outs"
    connection.execute(
        "ALTER TABLE skycore.opt_outs DISABLE ROW LEVEL SECURITY;"
        " DROP POLICY IF EXISTS own ON skycore.opt_outs;"
        " DROP POLICY IF EXISTS no ON skycore.opt_outs"
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    "policy",
    [
        "",
        "CREATE POLICY own ON skycore.opt_outs FOR SELECT USING (true)",
        "CREATE POLICY own ON skycore.opt_outs USING (number > '2')",
        "CREATE POLICY own ON skycore.opt_outs TO pg_monitor USING (true)",
        f"{EVERYTHING}; CREATE POLICY no ON skycore.opt_outs AS RESTRICTIVE USING (out)",
    ],
)
async def test_a_table_that_may_hide_rows_is_refused(
    connection: Connection, role: str, secured: str, policy: str
) -> None:
    """A user from whom row level security may hide a STOP can open no ledger."""
    connection.execute(policy.encode())
    advice = f"ALTER TABLE {secured} DISABLE ROW LEVEL SECURITY"
    for ledger in (PostgresLedger(role), PostgresLedgerView(Database(role))):
        with pytest.raises(LedgerError, match=advice):
            await ledger.open()


@pytest.mark.anyio
async def test_a_table_that_hides_nothing_is_fine(
    connection: Connection, role: str, dsn: str, secured: str
) -> None:
    """Row level security is no obstacle to its table's owner, or with a policy for everything."""
    connection.execute(f"CREATE POLICY own ON {secured} TO sms USING (true)".encode())
    for place in (role, dsn):
        async with PostgresLedger(place) as ledger:
            await ledger.opt_out("15550000001")
            assert await ledger.is_opted_out("15550000001")


def test_a_queue_whose_jobs_may_be_hidden_is_refused(connection: Connection, role: str) -> None:
    """A user from whom row level security may hide jobs can run no worker."""
    table = "skycore_queue.procrastinate_jobs"
    connection.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY".encode())
    try:
        with (
            Database(role).open() as own,
            pytest.raises(LedgerError, match=f"the table {table} has row level security"),
        ):
            queue.check(own)
    finally:
        connection.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY".encode())
