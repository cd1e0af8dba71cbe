"""A connection pooler: one of sessions works, one of transactions is refused."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from skycore_async import ConfigurationError, LedgerError, PostgresLedger, PostgresLimiter
from skycore_async.cli.app import skycore
from skycore_async.ledger.commands import KeepAlive
from skycore_async.ledger.postgres.read_only import PostgresLedgerView
from skycore_async.postgres import pooler_check
from skycore_async.postgres.connection import Database
from skycore_async.postgres.pooler_check import UnfitSession, check_durable, check_session
from tests.support.ledger_cases import TO, accepted, intent, said
from tests.support.pooler import pooler

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

REFUSED = (
    "cannot be used: a pooler in between gives each transaction to another session of the server,"
    " as PgBouncer does with pool_mode = transaction or statement"
)


@pytest.mark.parametrize(("size", "lag"), [(1, 0), (5, 0), (5, 0.01)])
async def test_a_pooler_of_transactions_is_refused(dsn: str, size: int, lag: float) -> None:
    """A pooler of transactions is refused when a ledger or limiter is opened.

    It is refused even if it gets a session back a little after the answer.
    """
    with pooler(dsn, keeps_sessions=False, size=size, lag=lag) as through:
        with pytest.raises(LedgerError, match=REFUSED):
            await PostgresLedger(through).open()
        with pytest.raises((LedgerError, ConfigurationError), match=REFUSED):
            await PostgresLimiter(through, "account", rate=20).open()


def test_commands_that_write_say_so(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`worker` and `cluster` behind a transaction pooler end with a one-line error."""
    monkeypatch.setenv("SKYCORE_API_KEY", "a key")
    with pooler(dsn, keeps_sessions=False) as through:
        for arguments in (
            ("worker", through, "--drain"),
            ("cluster", "pause", through, "promo"),
            ("cluster", "migrate", through),
        ):
            done = CliRunner().invoke(skycore, arguments)
            assert isinstance(done.exception, SystemExit), arguments
            assert "pool_mode = session" in done.stderr
            assert len(done.stderr.splitlines()) == 1


async def test_read_only_views_work_through_any_pooler(dsn: str) -> None:
    """Read-only views work through a pooler of transactions."""
    async with PostgresLedger(dsn) as ledger:
        await ledger.begin(intent("k"))
        await ledger.finish("k", accepted())
    with pooler(dsn, keeps_sessions=False, size=1) as through:
        async with (
            PostgresLedgerView(Database(through)) as one,
            PostgresLedgerView(Database(through)) as other,
        ):
            for _ in range(7):  # times after which a statement would be prepared
                assert (await one.summary()).total == (await other.summary()).total == 1


@pytest.mark.parametrize("size", [1, 5])
async def test_a_pooler_of_sessions_is_fine(
    dsn: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A ledger works through a pooler of sessions."""
    monkeypatch.setattr(pooler_check, "_WAIT", 0.05)
    with pooler(dsn, keeps_sessions=True, size=size) as through:
        async with PostgresLedger(through) as ledger:
            await ledger.begin(intent("k"))
            await ledger.finish("k", accepted())
            assert (await ledger.summary()).total == 1


async def test_what_others_left_in_a_session_is_discarded(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other clients of a pooler left in a session is discarded.

    A statement prepared under the same name would keep outcomes from being recorded.
    """
    monkeypatch.setattr(pooler_check, "_WAIT", 0.05)
    with pooler(dsn, keeps_sessions=True, size=1, patience=0, is_reset=False) as through:
        for n in range(2):
            async with PostgresLedger(through) as ledger:
                assert ledger._connection is not None
                prepared = "SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql"
                assert ledger._connection.execute(prepared).fetchone() == (0,)
                assert ledger._connection.execute("SHOW statement_timeout").fetchone() == ("0",)
                for key in range(7):  # times after which a statement is prepared
                    await ledger.begin(intent(f"{n}-{key}"))
                    await ledger.finish(f"{n}-{key}", accepted(f"{n}-{key}"))
                assert ledger._connection.execute(prepared).fetchone() != (0,)
                ledger._connection.execute("SET statement_timeout = '5s'")


async def test_the_encoding_that_a_session_goes_back_to_is_not_spoken(dsn: str) -> None:
    """UTF-8 is used even if discarding the session sets another encoding."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER DATABASE postgres SET client_encoding = 'LATIN1'")
        try:
            with pooler(dsn, keeps_sessions=True) as through:
                async with PostgresLedger(through) as ledger:
                    await ledger.record(said("“STOP”"))
                    assert await ledger.is_opted_out(TO)
        finally:
            connection.execute("ALTER DATABASE postgres RESET client_encoding")


def test_a_connection_of_its_own_is_compared_with_no_other(dsn: str) -> None:
    """A direct connection is recognized without a second connection."""

    def connect() -> psycopg.Connection[Any]:
        raise AssertionError

    with psycopg.connect(dsn, autocommit=True) as connection:
        check_session(connection, connect)


def test_where_no_second_connection_can_be_had_nothing_is_proven(dsn: str) -> None:
    """A pooler is not refused if no second connection can be made."""

    def refused() -> psycopg.Connection[Any]:
        raise psycopg.OperationalError("no more connections allowed")

    def broken() -> psycopg.Connection[Any]:
        other = psycopg.connect(dsn, autocommit=True)
        with psycopg.connect(dsn, autocommit=True) as beside:
            beside.execute("SELECT pg_terminate_backend(%s)", (other.info.backend_pid,))
        return other

    with (
        pooler(dsn, keeps_sessions=True) as through,
        psycopg.connect(through, autocommit=True) as connection,
    ):
        check_session(connection, refused)
        check_session(connection, broken)


async def test_what_resets_the_session_loses_nothing_that_was_committed(dsn: str) -> None:
    """A connection whose `synchronous_commit` was changed is replaced at the next renewal."""
    async with PostgresLedger(dsn) as ledger:
        before = ledger._connection
        assert before is not None
        before.execute("SET synchronous_commit = off")
        await ledger.run(KeepAlive())
        after = ledger._connection
        assert after is not None
        assert after is not before
        assert after.execute("SHOW synchronous_commit").fetchone() == ("on",)


@pytest.mark.parametrize(
    ("found", "is_durable"),
    [
        (("on",), True),
        (("remote_apply",), True),
        (("remote_write",), False),
        (("local",), False),
        (("off",), False),
        (None, False),
    ],
)
def test_a_commit_that_reaches_no_disk_is_refused(
    found: tuple[str] | None, is_durable: bool
) -> None:
    """A `synchronous_commit` that does not reach a standby's disk is refused."""
    if is_durable:
        check_durable(found)
        return
    with pytest.raises(UnfitSession, match="synchronous_commit was set to on, and is not"):
        check_durable(found)
