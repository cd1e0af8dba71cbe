"""The tables in PostgreSQL: made once, on the operator's word, and not by an older version."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from benchmarks.postgres import Server, running
from skycore_async.errors import ConfigurationError, LedgerError
from skycore_async.postgres.connection import Database
from skycore_async.postgres.schema import VERSION, check, migrate


@pytest.fixture
def new_dsn(postgres_server: Server) -> Iterator[str]:
    """Return the way to a database with nothing in it."""
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
        yield postgres_server.dsn("fresh")
        connection.execute("DROP DATABASE fresh WITH (FORCE)")


def test_the_tables_are_made_once(new_dsn: str) -> None:
    """Migrating makes the tables, and again changes nothing."""
    with Database(new_dsn).connect() as connection:
        assert migrate(connection) == (0, VERSION)
        assert migrate(connection) == (VERSION, VERSION)
        check(connection)


def test_without_the_tables_it_is_said_how_to_make_them(new_dsn: str) -> None:
    """A database without the tables is refused with the command that makes them."""
    with pytest.raises(LedgerError, match="skycore cluster migrate"):
        Database(new_dsn).open()


def test_newer_tables_are_left_alone(new_dsn: str) -> None:
    """What a newer version made is neither used nor migrated."""
    with Database(new_dsn).connect() as connection:
        migrate(connection)
        connection.execute("UPDATE skycore.version SET version = 99")
        for use in (check, migrate):
            with pytest.raises(LedgerError, match=r"newer skycore-async \(schema 99"):
                use(connection)


def test_a_database_that_cannot_be_reached_is_named(tmp_path: object) -> None:
    """Where nothing listens, the error says so, and does not say the password."""
    dsn = f"postgresql://someone:s3cret@/orders?host={tmp_path}"
    with pytest.raises(LedgerError, match=r"database orders at .* cannot be reached") as caught:
        Database(dsn).open()
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(Database(dsn))


def test_a_database_without_the_right_to_look_is_an_error_in_words(dsn: str) -> None:
    """A user who may not even see the tables is told so, and by which database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE stranger LOGIN")
        try:
            with pytest.raises(LedgerError, match="cannot be used: permission denied for schema"):
                Database(dsn.replace("postgres:", "stranger:")).open()
        finally:
            connection.execute("DROP ROLE stranger")


def test_whatever_the_server_is_set_to_a_step_sees_what_it_waited_for(dsn: str) -> None:
    """Durability and isolation are those that the steps are written for."""
    other = "-c%20synchronous_commit%3Doff%20-c%20default_transaction_isolation%3Dserializable"
    with Database(f"{dsn}&options={other}").connect() as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("read committed",)


@pytest.mark.slow
def test_a_server_that_would_forget_is_refused() -> None:
    """With fsync off, what was acknowledged could be gone after a power cut."""
    with running() as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
        server.restart()
        with pytest.raises(LedgerError, match="has fsync off"):
            Database(server.dsn()).open()


def test_what_is_no_dsn_is_refused() -> None:
    """A DSN that libpq cannot read is an error at once, without its words."""
    with pytest.raises(ConfigurationError, match="not a PostgreSQL connection string") as caught:
        Database("postgresql://someone:s3cret@host:port/orders?nonsense=s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("password", ["s3@cret", "s3/cret", "5432/s3cret", "s3?@cret"])
def test_a_password_that_tears_a_dsn_apart_is_not_shown(password: str) -> None:
    """What libpq would take for a host or a database is refused, and no part of it is said."""
    with pytest.raises(ConfigurationError, match=r"'@' or '/' in its user or password") as caught:
        Database(f"postgresql://someone:{password}@host/orders")
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://someone:s3%40c%2Fret@host:5432/orders",
        "postgresql:///orders?host=host&password=s3@c/ret",
        "host=host dbname=orders password=s3@c/ret",
    ],
)
def test_a_password_that_is_written_well_is_kept(dsn: str) -> None:
    """Encoded, in the query or in words, it may have any character."""
    assert Database(dsn).name == "PostgreSQL database orders at host"
    assert "s3@c/ret" in Database(dsn).conninfo
