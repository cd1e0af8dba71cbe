"""The tables in PostgreSQL: made once, by command, and not by an older version."""

from __future__ import annotations

import os
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import psycopg
import pytest
from psycopg import sql

from benchmarks.postgres import Server, running
from skycore_async import PostgresLedger, PostgresLimiter
from skycore_async.campaigns.chunks import due, take
from skycore_async.campaigns.progress import progress
from skycore_async.errors import ConfigurationError, LedgerError
from skycore_async.ledger.attempts import turn_of
from skycore_async.ledger.model import SendIntent
from skycore_async.ledger.postgres.session import LedgerSession
from skycore_async.postgres import schema
from skycore_async.postgres.connection import Database
from skycore_async.postgres.schema import VERSION, Connection, check, migrate, migrations
from skycore_async.protocol.tracking_ids import plain
from tests.support import two_spellings


@pytest.fixture
def new_dsn(postgres_server: Server) -> Iterator[str]:
    """Return the DSN of an empty database."""
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
        yield postgres_server.dsn("fresh")
        connection.execute("DROP DATABASE fresh WITH (FORCE)")


def test_the_tables_are_made_once(new_dsn: str) -> None:
    """Migrating makes the tables, and a second time changes nothing."""
    with Database(new_dsn).connect() as connection:
        assert migrate(connection) == (0, VERSION)
        assert migrate(connection) == (VERSION, VERSION)
        check(connection)


FIRST = """
INSERT INTO skycore.holders (id, alive_until) VALUES (7, clock_timestamp() - interval '1 hour');
INSERT INTO skycore.messages (key, content, recipient, sender, state, began, ended, tracking_id,
    code, info, http_status, raw, reason, settled_by, doubted, holder, attempt)
VALUES
    ('accepted', '\\x01', '15550000001', '60856', 'accepted', 1, 2, 'T1', NULL, NULL, NULL,
        '"15550000001"', NULL, NULL, false, 7, 1),
    ('failed', '\\x01', '15550000002', NULL, 'failed', 1, 2, 'T2', NULL, NULL, NULL,
        '"15550000002"', 'expired', 'postback', false, 7, 2),
    ('in doubt', '\\x01', '15550000003', NULL, 'in_doubt', 1, 2, NULL, 'E503', 'busy', 200,
        NULL, NULL, NULL, false, 7, 3),
    ('again', '\\x01', '15550000004', NULL, 'sending', 1, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, true, 7, 4),
    ('rejected', '\\x01', '15550000005', NULL, 'rejected', 1, 2, NULL, 'E621', 'no', NULL,
        NULL, NULL, NULL, false, 7, 5);
INSERT INTO skycore.submissions (tracking_id, message, recipient)
SELECT tracking_id, id, recipient FROM skycore.messages WHERE tracking_id IS NOT NULL;
INSERT INTO skycore.submissions (tracking_id, recipient) VALUES ('T9', '15550000009');
INSERT INTO skycore.events (identity, tracking_id, recipient, happened, state, reason, raw)
VALUES
    ('\\x01', 'T2', '15550000002', 5, 'failed', 'expired',
        '{"ORIGIN": "SMS_MT", "CODE": "E202", "TRACKINGID": "T2"}'),
    ('\\x02', 'T9', '15550000009', 5, 'delivered', NULL,
        '{"ORIGIN": "SMS_MT", "CODE": "N202", "TRACKINGID": "T9"}');
INSERT INTO skycore.opt_outs VALUES ('15550000007', true, 1);
INSERT INTO skycore.paces (name, rate, burst) VALUES ('account', 20, 1);
INSERT INTO skycore.campaigns (name, state) VALUES ('promo', 'running');
INSERT INTO skycore.chunks (campaign, number, keys, messages, holder)
VALUES (1, 1, '{k}', '{"{}"}', 'one');
"""


def make_tables(connection: Connection, version: int) -> None:
    """Make the tables as a version made them."""
    connection.execute("CREATE SCHEMA skycore")
    connection.execute("CREATE TABLE skycore.version (version integer NOT NULL)")
    connection.execute("INSERT INTO skycore.version VALUES (%s)", (version,))
    for script in migrations()[:version]:
        connection.execute(script.encode())


def make_first(connection: Connection) -> None:
    """Make the tables of version 1, with rows of every kind."""
    make_tables(connection, 1)
    connection.execute(FIRST.encode())


@pytest.mark.anyio
async def test_tables_of_the_first_version_keep_all_that_they_had(new_dsn: str) -> None:
    """Tables of version 1 keep messages, notifications, opt-outs and campaigns."""
    with Database(new_dsn).connect() as connection:
        make_first(connection)
        with pytest.raises(LedgerError, match=f"schema 1, and this one needs {VERSION}: run"):
            check(connection)
        assert migrate(connection) == (1, VERSION)
        check(connection)
    async with PostgresLedger(new_dsn) as ledger:
        found = {each.key: each async for each in ledger.deliveries()}
        assert {key: each.state for key, each in found.items()} == {
            "accepted": "accepted",
            "failed": "failed",
            "in doubt": "in_doubt",
            "again": "in_doubt",
            "rejected": "rejected",
        }
        assert (found["in doubt"].code, found["failed"].settled_by) == ("E503", "postback")
        assert len(found["failed"].events) == 1
        assert [each.raw["TRACKINGID"] async for each in ledger.unplaced()] == ["T9"]
        assert await ledger.is_opted_out("15550000007")
        known = await ledger.lookup(
            SendIntent(key="accepted", content=b"\x01", to="1", from_=None, started_at=0)
        )
        assert known is not None
        assert known.raw == {"STATUS": "Success", "TRACKINGID": "T1", "TO": "15550000001"}
    with Database(new_dsn).connect() as connection:
        chunk = connection.execute("SELECT worker, keys FROM skycore.chunks").fetchone()
        assert chunk == ("one", ["k"])
        assert connection.execute("SELECT rate FROM skycore.shared_rates").fetchone() == (20,)


def test_tables_of_the_second_version_go_on_at_once(new_dsn: str) -> None:
    """A campaign of version 2 has no start time, and its chunks are due."""
    with Database(new_dsn).connect() as connection:
        make_first(connection)
        connection.execute(migrations()[1].encode())
        connection.execute("UPDATE skycore.version SET version = 2")
        assert migrate(connection) == (2, VERSION)
        check(connection)
        (found,) = progress(connection)
        assert (found.name, found.state, found.starts_at) == ("promo", "running", None)
        (chunk,) = due(connection, 9)
        assert take(connection, chunk, worker="two", lease=30) is not None


@pytest.mark.anyio
async def test_two_spellings_of_a_tracking_id_become_one_submission(new_dsn: str) -> None:
    """Two spellings of a tracking id become one submission by the migration."""
    with Database(new_dsn).connect() as connection:
        make_tables(connection, 4)
        for table, columns in two_spellings.rows():
            given = {**columns, "session": 0, "attempt": 0} if table == "messages" else columns
            marks = ", ".join(["%s"] * len(given))
            connection.execute(
                f"INSERT INTO skycore.{table} ({', '.join(given)}) VALUES ({marks})".encode(),  # noqa: S608
                list(given.values()),
            )
        assert migrate(connection) == (4, VERSION)
    async with PostgresLedger(new_dsn) as ledger:
        await two_spellings.assert_are_one(ledger)


def test_the_plain_form_is_the_same_in_both_languages(new_dsn: str) -> None:
    """The plain form of a tracking id is the same in SQL and Python."""
    ids = [*"AB", "U01TXzc2Nzg2Nw", "U01TXzc2Nzg2Nx==", "U01TXzc2Nzg2N", "====", "", "_____w=="]
    ids += ["/////w==", "c21zXzE=", "SMS_1", "U01TXzE=", "y" * 300, "U01TXzE=="]
    ids += [b64encode(f"SMS_{'1' * size}".encode()).decode() for size in (50, 90, 190, 300)]
    with Database(new_dsn).connect() as connection:
        make_tables(connection, 4)
        for number, each in enumerate(ids):
            connection.execute(
                "INSERT INTO skycore.messages (key, content, recipient, state, started_at,"
                " session, attempt, tracking_id) VALUES (%s, '', '', 'accepted', 0, 0, 0, %s)",
                (str(number), each),
            )
        migrate(connection)
        found = connection.execute("SELECT tracking_id, plain_id FROM skycore.messages").fetchall()
    assert sorted(found) == sorted((each, plain(each)) for each in ids)


def test_what_an_earlier_version_began_again_has_its_turn_by_the_clock(new_dsn: str) -> None:
    """A migrated message that was sent again days later gets its turn by the clock."""
    day = 86_400.0
    with Database(new_dsn).connect() as connection:
        make_tables(connection, 14)
        for key, started_at in enumerate((9 * day, 1, 2 * day + 2, 3, 4, day + 5, 9 * day - 1)):
            connection.execute(
                "INSERT INTO skycore.messages (key, content, recipient, state, started_at,"
                " session, attempt) VALUES (%s, '', '', 'accepted', %s, 0, 0)",
                (str(key), started_at),
            )
        migrate(connection)
        found = connection.execute("SELECT id, turn FROM skycore.messages ORDER BY id").fetchall()
    in_order = sorted(found, key=lambda each: turn_of(*each))
    assert [id_ for id_, _ in in_order] == [2, 4, 5, 6, 3, 7, 1]
    assert [id_ for id_, turn in found if turn is not None] == [1, 3]


def test_a_permission_of_an_earlier_version_belongs_to_its_campaign(new_dsn: str) -> None:
    """A migrated permission to resend belongs to the campaign that has its chunk to send."""
    with Database(new_dsn).connect() as connection:
        make_tables(connection, 15)
        for key, settled_by, state in (
            ("a", None, "in_doubt"),
            ("b", "resend", "in_doubt"),
            ("c", "postback", "sent"),
        ):
            connection.execute(
                "INSERT INTO skycore.messages (key, content, recipient, state, started_at,"
                " session, attempt, settled_by) VALUES (%s, '', '', %s, 17.25, 0, 0, %s)",
                (key, state, settled_by),
            )
        for name, state, chunk in (
            ("promo", "paused", "waiting"),
            ("done", "running", "done"),
            ("cancelled", "cancelled", "waiting"),
        ):
            connection.execute(
                "WITH made AS ("
                "  INSERT INTO skycore.campaigns (name, state) VALUES (%s, %s) RETURNING id)"
                " INSERT INTO skycore.chunks (campaign, number, keys, messages, state)"
                " SELECT id, 1, '{a,b,c}', '{null,null,null}', %s FROM made",
                (name, state, chunk),
            )
        migrate(connection)
        rows = connection.execute("SELECT resends FROM skycore.chunks ORDER BY id").fetchall()
        assert rows == [([None, 17.25, None],), (None,), (None,)]
        left = connection.execute(
            "SELECT settled_by FROM skycore.messages ORDER BY key"
        ).fetchall()
        assert left == [(None,), (None,), ("postback",)]


def test_what_workers_of_an_earlier_version_left_out_is_counted_on(new_dsn: str) -> None:
    """Messages that an earlier version left out are still counted and not sent."""
    with Database(new_dsn).connect() as connection:
        make_tables(connection, 16)
        connection.execute("INSERT INTO skycore.campaigns (name, state) VALUES ('a', 'running')")
        connection.execute(
            "INSERT INTO skycore.chunks (campaign, number, keys, messages, state, tally) VALUES"
            " (1, 1, '{a,b,c}', '{null,null,null}', 'done', '{\"opted_out\": 2}'),"
            " (1, 2, '{d}', '{null}', 'done', NULL)"
        )
        assert migrate(connection) == (16, VERSION)
        (found,) = progress(connection)
        assert found.left_out == {"opted_out": 2}


@pytest.mark.anyio
async def test_where_all_tables_are_published_they_are_changed_all_the_same(new_dsn: str) -> None:
    """Migrating and pruning work with all tables published for replication."""
    with psycopg.connect(new_dsn, autocommit=True) as connection:
        make_tables(connection, BEFORE_PUBLISHED)
        connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        assert migrate(connection) == (BEFORE_PUBLISHED, VERSION)
        async with PostgresLedger(new_dsn) as ledger:
            for _ in range(2):
                assert (await ledger.prune(older_than=timedelta(days=30))).messages == 0
        connection.execute("DELETE FROM skycore.look_ups")


BEFORE_PUBLISHED = 17


def test_there_is_a_migration_for_every_version() -> None:
    """There are as many migrations as schema versions."""
    assert len(migrations()) == VERSION


def test_without_the_tables_it_is_said_how_to_make_them(new_dsn: str) -> None:
    """A database without tables is refused with the command that makes them."""
    with pytest.raises(LedgerError, match="skycore cluster migrate"):
        Database(new_dsn).open()


@pytest.mark.parametrize("version", [1, 2, VERSION - 1])
def test_tables_are_not_changed_under_who_uses_them(new_dsn: str, version: int) -> None:
    """Migrating is refused while a session lives, but not for an expired one."""
    with psycopg.connect(new_dsn, autocommit=True) as connection:
        make_tables(connection, version)
        table = "holders" if version == 1 else "sessions"
        connection.execute(
            f"INSERT INTO skycore.{table} (alive_until) VALUES (now() - interval '1 s'),"  # noqa: S608 # pyright: ignore[reportArgumentType, reportCallIssue]
            " (now() + interval '20 s')"
        )
        with pytest.raises(LedgerError, match=r"^1 of the workers.*stop them first.*wait 20 sec"):
            migrate(connection)
        assert connection.execute("SELECT version FROM skycore.version").fetchone() == (version,)
        connection.execute(f"UPDATE skycore.{table} SET alive_until = now()")  # noqa: S608 # pyright: ignore[reportArgumentType, reportCallIssue]
        assert migrate(connection) == (version, VERSION)
        connection.execute("UPDATE skycore.sessions SET alive_until = now() + interval '20 s'")
        assert migrate(connection) == (VERSION, VERSION)


def locks_waited_for(connection: Connection, count: int, name: str) -> None:
    """Wait until `count` transactions wait for a lock of the table."""
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    end = time.monotonic() + 10
    while connection.execute(waiting, (name,)).fetchone() != (count,):
        assert time.monotonic() < end, "nobody waits for it"
        time.sleep(0.002)


BEFORE_WORDS = 15  # the next migration alters the chunks


def test_who_looks_while_tables_are_migrated_is_told_once_they_are(new_dsn: str) -> None:
    """A process that checks the tables during a migration waits, and is refused."""
    with (
        psycopg.connect(new_dsn, autocommit=True) as connection,
        Database(new_dsn).connect() as other,
        ThreadPoolExecutor() as threads,
        psycopg.connect(new_dsn) as reader,
    ):
        make_tables(connection, BEFORE_WORDS)
        reader.execute("SELECT FROM skycore.chunks")  # as pg_dump does, which holds a table
        migrating = threads.submit(migrate, other)
        locks_waited_for(connection, 1, "skycore.chunks")
        connection.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            check(connection)
        reader.rollback()
        assert migrating.result() == (BEFORE_WORDS, VERSION)
        check(connection)


def test_who_is_just_opening_the_tables_is_seen_by_who_migrates_them(
    new_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is just opening the tables keeps a migration from running."""
    with (
        psycopg.connect(new_dsn, autocommit=True) as connection,
        Database(new_dsn).connect() as opening,
        Database(new_dsn).connect() as migrating,
        ThreadPoolExecutor() as threads,
        psycopg.connect(new_dsn) as reader,
    ):
        migrate(connection)
        reader.execute("LOCK TABLE skycore.sessions IN SHARE MODE")
        opened = threads.submit(LedgerSession(30, name="it").begin, opening)
        locks_waited_for(connection, 1, "skycore.sessions")
        monkeypatch.setattr(schema, "VERSION", VERSION + 1)
        migrated = threads.submit(migrate, migrating)
        locks_waited_for(connection, 1, "skycore.version")
        reader.rollback()
        opened.result()
        with pytest.raises(LedgerError, match=r"^1 of the workers"):
            migrated.result()


def test_newer_tables_are_left_alone(new_dsn: str) -> None:
    """Tables of a newer version are neither used nor migrated."""
    with Database(new_dsn).connect() as connection:
        migrate(connection)
        connection.execute("UPDATE skycore.version SET version = 99")
        for use in (check, migrate):
            with pytest.raises(LedgerError, match=r"newer skycore-async \(schema 99"):
                use(connection)


def test_a_database_that_cannot_be_reached_is_named(tmp_path: object) -> None:
    """An unreachable database is named without its password."""
    dsn = f"postgresql://someone:s3cret@/orders?host={tmp_path}"
    with pytest.raises(LedgerError, match=r"database orders at .* cannot be reached") as caught:
        Database(dsn).open()
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(Database(dsn))


def test_a_database_without_the_right_to_look_is_an_error_that_says_so(dsn: str) -> None:
    """A role without rights on the schema gets an error that says so."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE stranger LOGIN")
        try:
            with pytest.raises(LedgerError, match=r"cannot be used: .* schema skycore; give this"):
                Database(dsn.replace("postgres:", "stranger:")).open()
        finally:
            connection.execute("DROP ROLE stranger")


def test_whatever_the_server_is_set_to_a_step_sees_what_it_waited_for(dsn: str) -> None:
    """A connection is durable and read committed, whatever the server's defaults are."""
    other = "-c%20synchronous_commit%3Doff%20-c%20default_transaction_isolation%3Dserializable"
    with Database(f"{dsn}&options={other}").connect() as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("read committed",)


def test_whatever_the_role_has_set_values_come_as_they_are(dsn: str) -> None:
    """Values are read rightly whatever the role's settings are."""
    own = "-c%20datestyle%3DGerman%20-c%20extra_float_digits%3D-5%20-c%20array_nulls%3Doff"
    with Database(f"{dsn}&options={own}").connect() as connection:
        row = connection.execute(
            "SELECT timestamptz '2026-03-01 12:00Z', 1764000000.123456::float8"
        )
        assert row.fetchone() == (datetime(2026, 3, 1, 12, tzinfo=UTC), 1764000000.123456)
        assert connection.execute("SELECT %s::text[]", ([None],)).fetchone() == ([None],)


def test_no_statement_is_compiled(dsn: str) -> None:
    """JIT compilation is off for a connection."""
    compiling = "-c%20jit%3Don%20-c%20jit_above_cost%3D0"
    with Database(f"{dsn}&options={compiling}").connect() as connection:
        assert connection.execute("SHOW jit").fetchone() == ("off",)


@pytest.mark.slow
def test_a_server_that_would_forget_is_refused() -> None:
    """A server with fsync off is refused."""
    with running() as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
        server.restart()
        with pytest.raises(LedgerError, match="has fsync off"):
            Database(server.dsn()).open()


def test_a_table_that_a_crash_would_empty_is_refused(new_dsn: str) -> None:
    """An unlogged table is refused."""
    with psycopg.connect(new_dsn, autocommit=True) as connection:
        migrate(connection)
        connection.execute("ALTER TABLE skycore.shared_rates SET UNLOGGED")  # forgets nothing
        Database(new_dsn).open().close()
        connection.execute("ALTER TABLE skycore.messages SET UNLOGGED")
        said = (
            r"has the table skycore\.messages unlogged.*ALTER TABLE skycore\.messages SET LOGGED"
            r"\. Where it has crashed since, .* cancel all campaigns then before a worker starts"
        )
        with pytest.raises(LedgerError, match=said):
            Database(new_dsn).open()
        with pytest.raises(LedgerError, match=said):
            Database(new_dsn).connect_again()
        connection.execute("ALTER TABLE skycore.messages SET LOGGED")
        Database(new_dsn).open().close()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_keep_every_text_is_refused(
    postgres_server: Server, encoding: str
) -> None:
    """A database that is not in UTF-8 is refused."""
    made = "CREATE DATABASE narrow ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL(made).format(encoding))
        try:
            for open_ in (Database.open, Database.open_to_read):
                with pytest.raises(
                    LedgerError, match=f"cannot be used: its encoding is {encoding}"
                ):
                    open_(Database(postgres_server.dsn("narrow")))
        finally:
            connection.execute("DROP DATABASE narrow WITH (FORCE)")


def test_what_is_no_dsn_is_refused() -> None:
    """A DSN that libpq cannot read is refused, without its words."""
    with pytest.raises(ConfigurationError, match="not a PostgreSQL connection string") as caught:
        Database("postgresql://someone:s3cret@host:port/orders?nonsense=s3cret")
    assert "s3cret" not in str(caught.value)


def test_what_is_no_text_is_no_dsn() -> None:
    """A DSN or lease of a wrong type is refused."""
    for make in (Database, PostgresLedger, partial(PostgresLimiter, name="a", rate=1)):
        with pytest.raises(ConfigurationError, match="dsn: a str is needed, not NoneType"):
            cast("Any", make)(None)
    for wrong in (-1, "30"):
        with pytest.raises(ConfigurationError, match=f"lease: {wrong!r} is no number of seconds"):
            PostgresLedger("postgresql://host/orders", lease=cast("float", wrong))


@pytest.mark.parametrize("password", ["s3@cret", "s3/cret", "5432/s3cret", "s3?@cret"])
def test_a_password_that_tears_a_dsn_apart_is_not_shown(password: str) -> None:
    """A DSN with unencoded '@' or '/' in its password is refused, and none of it shown."""
    with pytest.raises(ConfigurationError, match=r"'@' or '/' in its user or password") as caught:
        Database(f"postgresql://someone:{password}@host/orders")
    assert "cret" not in str(caught.value)


def test_a_password_in_the_place_of_a_port_is_not_shown() -> None:
    """A DSN with a password as port is refused, and the password is not shown."""
    for password in ("s3cret", "731973"):
        with pytest.raises(ConfigurationError, match="its port is no number") as caught:
            Database(f"postgresql://someone:{password}/orders")
        assert password not in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("postgresql://me@host/orders", "orders at host"),
        ("postgresql://me@host:6432/orders", "orders at host, port 6432"),
        ("host=one,other port=5432,5433 dbname=orders", "orders at one,other, port 5432,5433"),
        ("hostaddr=127.0.0.1 port=5432 dbname=orders", "orders at 127.0.0.1"),
        ("postgresql://me@host", "me at host"),
        ("host=host", "(default) at host"),
        ("service=live", "(default) at its default place, of service live"),
    ],
)
def test_each_database_has_a_name_of_its_own(dsn: str, said: str) -> None:
    """A database's name has host, port and other parts that tell it from others."""
    assert Database(dsn).name == f"PostgreSQL database {said}"


def test_a_database_that_the_environment_names_has_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Parts that the DSN leaves out are taken from the environment, as libpq does."""
    monkeypatch.setenv("PGHOST", "host")
    monkeypatch.setenv("PGPORT", "6432")
    monkeypatch.setenv("PGDATABASE", "orders")
    assert Database("postgresql://").name == "PostgreSQL database orders at host, port 6432"
    assert Database("host=other").name == "PostgreSQL database orders at other, port 6432"


@pytest.mark.skipif(sys.platform == "win32", reason="its environment has text alone")
@pytest.mark.parametrize("word", [b"PGPASSWORD", b"PGOPTIONS", b"PGDATABASE"])
def test_what_is_no_text_in_the_environment_keeps_nobody_out(
    monkeypatch: pytest.MonkeyPatch, word: bytes
) -> None:
    """An environment variable that is no UTF-8 is no error."""
    monkeypatch.setitem(os.environb, word, b"p\xe4ss")
    assert Database("postgresql://host/orders").name == "PostgreSQL database orders at host"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://someone:s3%40c%2Fret@host:5432/orders",
        "postgresql:///orders?host=host&password=s3@c/ret",
        "host=host dbname=orders password=s3@c/ret",
    ],
)
def test_a_password_that_is_written_well_is_kept(dsn: str) -> None:
    """A password written correctly may have any character."""
    assert Database(dsn).name == "PostgreSQL database orders at host"
    assert "s3@c/ret" in Database(dsn).conninfo
