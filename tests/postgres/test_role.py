"""A role with the documented rights and no others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from skycore_async import (
    LedgerError,
    NotRecorded,
    NotSent,
    PostgresLedger,
    PostgresLimiter,
    RecipientOptedOut,
    SkycoreClient,
)
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
    policies = connection.execute(
        "SELECT polname FROM pg_policy WHERE polrelid = 'skycore.opt_outs'::regclass"
    ).fetchall()
    for (name,) in policies:
        connection.execute(f'DROP POLICY "{name}" ON skycore.opt_outs'.encode())
    connection.execute("ALTER TABLE skycore.opt_outs DISABLE ROW LEVEL SECURITY")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "policy",
    [
        "",
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
@pytest.mark.parametrize("kind", ["SELECT", "UPDATE", "DELETE", "INSERT"])
async def test_policies_for_each_statement_hide_nothing(
    connection: Connection, role: str, secured: str, kind: str
) -> None:
    """A ledger opens with a policy for each statement, or without that to insert rows."""
    kinds = {"SELECT": "USING", "UPDATE": "USING", "DELETE": "USING", "INSERT": "WITH CHECK"}
    for name, clause in kinds.items():
        policy = f"CREATE POLICY own_{name} ON {secured} FOR {name} {clause} (true)"
        connection.execute(policy.encode())
    async with PostgresLedger(role) as ledger:
        await ledger.opt_out("15550000001")
    connection.execute(f"DROP POLICY own_{kind} ON {secured}".encode())
    if kind == "INSERT":  # which is an error, and hides nothing
        async with PostgresLedger(role) as ledger:
            with pytest.raises(LedgerError, match="row-level security"):
                await ledger.opt_out("15550000002")
        return
    with pytest.raises(LedgerError, match="row level security"):
        await PostgresLedger(role).open()


@pytest.mark.anyio
async def test_who_only_reads_needs_a_policy_for_that_alone(
    connection: Connection, role: str, secured: str
) -> None:
    """A view opens with a policy that shows all rows; a ledger could change none, and does not."""
    connection.execute(f"CREATE POLICY own ON {secured} FOR SELECT USING (true)".encode())
    view = PostgresLedgerView(Database(role))
    await view.open()
    assert not await view.is_opted_out("15550000001")
    await view.aclose()
    with pytest.raises(LedgerError, match="row level security"):
        await PostgresLedger(role).open()


@pytest.mark.anyio
async def test_a_restriction_of_others_hides_nothing(
    connection: Connection, role: str, secured: str
) -> None:
    """A ledger opens where only another user, or the insertion of rows, is restricted."""
    connection.execute(
        f"{EVERYTHING}; CREATE POLICY no ON {secured} AS RESTRICTIVE TO pg_monitor USING (out);"
        f" CREATE POLICY own_all ON {secured} AS RESTRICTIVE USING (true)".encode()
    )
    async with PostgresLedger(role) as ledger:
        await ledger.opt_out("15550000001")
        assert await ledger.is_opted_out("15550000001")


@pytest.mark.anyio
async def test_row_level_security_that_is_enabled_later_has_nothing_sent(
    connection: Connection, role: str
) -> None:
    """An open ledger sends to nobody whose STOP is hidden from it from now on, and says why."""
    stub = StubTransport()
    async with PostgresLedger(role) as ledger:
        await ledger.opt_out("15550000001")
        client = SkycoreClient(api_key="k", from_="60856", ledger=ledger, transport=stub)
        async with client:
            connection.execute("ALTER TABLE skycore.opt_outs ENABLE ROW LEVEL SECURITY")
            try:
                with pytest.raises(NotRecorded, match="row-level security"):
                    await client.send_sms(to="15550000001", text="Hi", key="one")
            finally:
                connection.execute("ALTER TABLE skycore.opt_outs DISABLE ROW LEVEL SECURITY")
            with pytest.raises(RecipientOptedOut):
                await client.send_sms(to="15550000001", text="Hi", key="one")
    assert not stub.sent


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
