"""Views of a PostgreSQL ledger: for a read-only role, and on a standby."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.conninfo import make_conninfo

from benchmarks.postgres import Server
from skycore_async import SMS, LedgerError, PostgresLedger
from skycore_async.campaigns.campaigns import load
from skycore_async.cli.app import skycore
from skycore_async.ledger.postgres.read_only import PostgresLedgerView
from skycore_async.postgres.connection import Database
from tests.support.ledger_cases import TO, accepted, intent

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

OWN = "-c default_transaction_read_only=on -c datestyle=German"
STATES = {"accepted": 1, "in_doubt": 1, "sending": 1}


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Read the tables beside the ledgers."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def reader(dsn: str, connection: psycopg.Connection[tuple[Any, ...]]) -> Iterator[str]:
    """Return the DSN of a role that may only read."""
    connection.execute("CREATE ROLE onlooker LOGIN")
    try:
        connection.execute("GRANT USAGE ON SCHEMA skycore TO onlooker")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA skycore TO onlooker")
        connection.execute("REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC")
        yield make_conninfo(dsn, user="onlooker", options=OWN)
    finally:
        connection.execute("GRANT TEMPORARY ON DATABASE postgres TO PUBLIC")
        connection.execute("DROP OWNED BY onlooker")
        connection.execute("DROP ROLE onlooker")


def write(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Write a campaign with messages accepted, under way, and left by a dead session."""
    load(connection, "promo", [SMS(to=TO, text="Hello", key=key) for key in ("a", "b", "c")])
    for session, seconds in ((1, 3600), (2, -3600)):
        connection.execute(
            "INSERT INTO skycore.sessions (id, alive_until) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, clock_timestamp() + %s * interval '1 second')",
            (session, seconds),
        )
    for key, state, session in (("a", "accepted", 1), ("b", "sending", 1), ("c", "sending", 2)):
        connection.execute(
            "INSERT INTO skycore.messages"
            " (key, content, recipient, state, started_at, session, attempt)"
            " VALUES (%s, 'x', %s, %s, 1764000000, %s, 1)",
            (key, TO, state, session),
        )


def run(*args: str) -> Result:
    done = CliRunner().invoke(skycore, args)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def looked_at(dsn: str, tmp_path: Path) -> None:
    """Check what each reading command says about that campaign."""
    status = json.loads(run("status", dsn, "--json").stdout)
    assert {name: count for name, count in status["states"].items() if count} == STATES
    (campaign,) = status["campaigns"]
    assert campaign["states"] == STATES
    assert run("status", dsn).exit_code == 0
    (listed,) = run("status", dsn, "--state", "in_doubt", "--json").stdout.splitlines()
    assert json.loads(listed)["key"] == "c"
    assert json.loads(run("status", dsn, "--key", "c", "--json").stdout)["state"] == "in_doubt"
    page = tmp_path / "report.html"
    report = run("report", dsn, "--json", "--html", str(page))
    assert (report.exit_code, json.loads(report.stdout)["states"]["in_doubt"]) == (0, 1)
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_a_read_only_role_can_run_status_and_report(
    reader: str, connection: psycopg.Connection[tuple[Any, ...]], tmp_path: Path
) -> None:
    """`status` and `report` work for a read-only role, and write nothing."""
    write(connection)
    looked_at(reader, tmp_path)
    rows = connection.execute("SELECT key, state FROM skycore.messages ORDER BY key").fetchall()
    assert rows == [("a", "accepted"), ("b", "sending"), ("c", "sending")]
    assert connection.execute("SELECT id FROM skycore.sessions ORDER BY 1").fetchall() == [
        (1,),
        (2,),
    ]


def test_a_standby_can_be_looked_at(
    postgres_server: Server,
    connection: psycopg.Connection[tuple[Any, ...]],
    tmp_path: Path,
) -> None:
    """A standby can be read; a command that writes is refused in words."""
    write(connection)
    with postgres_server.standby() as standby:
        looked_at(standby, tmp_path)
        refused = run("cluster", "pause", standby, "promo")
        assert refused.exit_code != 0
        assert "this server takes no writes" in refused.stderr


async def test_a_view_writes_nothing(dsn: str) -> None:
    """A view refuses writes, and answers queries as the ledger does."""
    async with PostgresLedger(dsn) as ledger, PostgresLedgerView(Database(dsn)) as view:
        await ledger.begin(intent("k"))
        await ledger.finish("k", accepted())
        delivery = await view.delivery(key="k")
        assert delivery == await ledger.delivery(key="k")
        assert await view.summary() == await ledger.summary()
        for change in (view.begin(intent("k")), view.opt_out(TO), view.finish("k", accepted())):
            with pytest.raises(LedgerError, match="it can be read, and not be written"):
                await change


async def test_a_view_that_is_not_open_says_so(dsn: str) -> None:
    """A view that is not open raises LedgerError, and may be closed."""
    view = PostgresLedgerView(Database(dsn))
    with pytest.raises(LedgerError, match="is not open: use `async with`"):
        await view.summary()
    await view.aclose()


async def test_what_goes_wrong_while_looking_is_said(
    dsn: str, connection: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """A lost or missing database is a LedgerError."""
    async with PostgresLedgerView(Database(dsn)) as view:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND application_name = 'skycore-async'"
        )
        with pytest.raises(LedgerError, match="could not be read"):
            await view.summary()
    with pytest.raises(LedgerError, match="cannot be reached"):
        await PostgresLedgerView(Database("postgresql://nobody@127.0.0.1:1/x")).open()
