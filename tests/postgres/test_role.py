"""A role with the documented rights and no others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from skycore_async import NotSent, PostgresLedger, PostgresLimiter
from skycore_async.campaigns.campaigns import change, load
from skycore_async.campaigns.resending import doubts_of, resend
from skycore_async.postgres.connection import Database
from skycore_async.postgres.schema import Connection
from tests.postgres.test_worker import NOWHERE, some
from tests.support.campaign_tables import only
from tests.support.cluster_worker import work
from tests.support.ledger_cases import SENT, notice
from tests.support.on_asyncio import anyio_backend  # noqa: F401 - the queue runs on nothing else
from tests.support.stub_transport import Answer, StubTransport, accepted

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
