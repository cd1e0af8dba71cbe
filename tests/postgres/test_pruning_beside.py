"""PostgreSQL pruned while others write, and with campaigns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from skycore_async import SMS, LedgerError, MessageState, PostgresLedger, SQLiteLedger
from skycore_async.campaigns import chunks
from skycore_async.campaigns.campaigns import Loaded, change, load
from skycore_async.campaigns.changed_keys import refuse_reread
from skycore_async.errors import CampaignError
from skycore_async.ledger.base import BaseLedger
from skycore_async.ledger.commands import Begin, LedgerCommand, PendingCommand, Record
from skycore_async.ledger.execution import CommandExecutor
from skycore_async.ledger.model import Attempt, Submission
from skycore_async.ledger.postgres import pruning
from skycore_async.ledger.postgres.import_sqlite import copy
from skycore_async.ledger.postgres.store import PostgresStore
from skycore_async.ledger.prune_commands import BeginPruning, PruneMessages
from skycore_async.ledger.pruning import pruned_name
from skycore_async.ledger.settlement import SETTLE_WITHIN
from skycore_async.postgres.connection import Database
from skycore_async.postgres.schema import Connection
from tests.support.campaign_tables import only
from tests.support.ledger_cases import (
    DELIVERED,
    DOUBT,
    NOON,
    NOT_SENT,
    REJECTED,
    TO,
    Clock,
    accepted,
    intent,
    notice,
    said,
    sent,
)

AGE = timedelta(days=180)
LATER = AGE.total_seconds() + 5
WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted"
BEFORE = NOON + 5


@pytest.fixture
def connection(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as opened:
        yield opened


@pytest.fixture
def other(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as opened:
        yield opened


def executed(connection: Connection, command: LedgerCommand[Any]) -> Any:
    """Run a command in the current transaction, or in its own."""
    store = PostgresStore(connection)
    pending = PendingCommand(command)
    with connection.transaction():
        CommandExecutor(store, clock=Clock(), settle_within=SETTLE_WITHIN).run([pending])
    return pending.outcome(command)


def pruned_messages(connection: Connection) -> int:
    """Prune all messages part by part, and return their number."""
    messages, after = 0, cast("int | None", 0)
    while after is not None:
        part = executed(connection, PruneMessages(before=BEFORE, after=after))
        messages, after = messages + part.messages, part.last
    return messages


def kept(dsn: str, do: Callable[[BaseLedger], Any], clock: Clock | None = None) -> Any:
    """Open the ledger, run a function on it and return its result."""

    async def run() -> Any:
        async with PostgresLedger(dsn, clock=clock or Clock()) as ledger:
            return await do(ledger)

    return anyio.run(run)


def prune(dsn: str) -> Any:
    clock = Clock()
    clock.now = NOON + LATER
    return kept(dsn, lambda ledger: ledger.prune(older_than=AGE), clock)


def begun(dsn: str) -> Connection:
    """Connect, and begin a transaction."""
    connection = psycopg.connect(dsn)
    connection.execute("SELECT 1")
    return connection


def in_a_thread(
    do: Callable[[], Any], connection: Connection
) -> tuple[threading.Thread, list[Any]]:
    """Start a function in a thread, and return once it waits for a transaction."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(do()))
    thread.start()
    while connection.execute(WAITING).fetchone() is None and thread.is_alive():
        """Look again."""
    assert thread.is_alive()
    return thread, found


def test_a_name_is_the_same_in_the_database(connection: Connection) -> None:
    """A pruned key has the same name in Python and in SQL."""
    for name in ("promo:15551234888", "Grüße 🎉", ""):
        row = connection.execute("SELECT skycore.pruned_name(%s)", (name,)).fetchone()
        assert row == (pruned_name(name),)


def test_who_begins_a_message_while_it_is_pruned_finds_it(
    dsn: str, connection: Connection, other: Connection
) -> None:
    """A key that is begun while it is pruned returns its outcome."""
    kept(dsn, lambda ledger: sent(ledger, "k", accepted()))
    executed(connection, BeginPruning(older_than=-5))
    command = Begin(intent=intent(), attempt=Attempt(session=9, number=9))
    with begun(dsn) as busy:
        assert pruned_messages(busy) == 1
        thread, found = in_a_thread(lambda: executed(other, command), connection)
        busy.commit()
    thread.join()
    assert found == [Submission(state=MessageState.ACCEPTED)]
    assert connection.execute("SELECT count(*) FROM skycore.messages").fetchone() == (1,)


def test_who_records_a_receipt_while_its_message_is_pruned_drops_it(
    dsn: str, connection: Connection, other: Connection
) -> None:
    """A receipt recorded while its message is pruned is dropped."""
    kept(dsn, lambda ledger: sent(ledger, "k", accepted()))
    executed(connection, BeginPruning(older_than=-5))
    with begun(dsn) as busy:
        pruned_messages(busy)
        command = Record(notifications=(notice(DELIVERED), notice(DELIVERED, "N")))
        thread, _ = in_a_thread(lambda: executed(other, command), connection)
        busy.commit()
    thread.join()
    assert connection.execute("SELECT tracking_id FROM skycore.events").fetchall() == [("N",)]
    names = connection.execute("SELECT tracking_id FROM skycore.submissions").fetchall()
    assert sorted(names) == [("N",), (pruned_name("T"),)]


def test_pruning_waits_for_earlier_transactions(dsn: str, connection: Connection) -> None:
    """Pruning waits for transactions that began before it."""
    slept = []
    with begun(dsn) as busy:
        executed(busy, Begin(intent=intent(), attempt=Attempt(session=9, number=9)))

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                busy.rollback()
            with psycopg.connect(
                dsn
            ) as later:  # who begins now knows of it, and is not waited for
                later.execute("LOCK TABLE skycore.messages IN ROW EXCLUSIVE MODE")

        pruning.wait_for_writers(Database(dsn), sleep)
    assert len(slept) == 3
    assert connection.execute("SELECT count(*) FROM skycore.messages").fetchone() == (0,)


def test_a_statement_that_the_server_cancels_is_reported(dsn: str) -> None:
    """A statement that the server cancels is a LedgerError that names the database."""
    with (
        pytest.raises(LedgerError, match=r"PostgreSQL database .* canceling statement"),
        pruning._connected(Database(dsn)) as connection,
    ):
        connection.execute("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(9)")


# Campaigns.


def loaded(connection: Connection, *keys: str, name: str = "promo", text: str = "Hello") -> Loaded:
    return load(
        connection,
        name,
        [SMS(to=f"1777000{n}", text=text, from_="60856", key=key) for n, key in enumerate(keys)],
    )


def finished(dsn: str, connection: Connection) -> None:
    """Load a campaign, send it, and let it have ended long ago."""
    loaded(connection, "a", "b", "refused", "opted out")
    (first,) = chunks.due(connection, 1)
    chunk = chunks.take(connection, first, worker="w", lease=30)
    assert chunk is not None

    async def send(ledger: BaseLedger) -> None:
        await sent(ledger, "a", accepted("A"))
        await sent(ledger, "b", DOUBT)
        await sent(ledger, "refused", REJECTED)

    kept(dsn, send)
    left_out = {"opted out": "opted out"}
    assert chunks.finish(connection, chunk, left_out=left_out, pause=0) == 0
    connection.execute("UPDATE skycore.chunks SET due = to_timestamp(%s)", (NOON,))


def rows(connection: Connection) -> dict[str, str]:
    found = connection.execute(
        "SELECT key, row FROM skycore.chunks, unnest(keys, messages) AS of (key, row)"
    )
    return dict(found.fetchall())


def test_a_campaign_is_pruned_with_its_messages(dsn: str, connection: Connection) -> None:
    """A campaign's rows are pruned but for doubts, and its progress stays."""
    finished(dsn, connection)
    before = only(connection)
    doubted = rows(connection)["b"]
    assert prune(dsn).messages == 2
    assert rows(connection) == {
        pruned_name("a"): "null",
        "b": doubted,
        pruned_name("refused"): "null",
        pruned_name("opted out"): "null",
    }
    assert only(connection) == before
    assert prune(dsn).messages == 0


def test_a_campaign_is_as_far_as_it_was_before_its_rows_are_pruned(
    dsn: str, connection: Connection
) -> None:
    """A pruning that was broken off sends nothing of a campaign again."""
    finished(dsn, connection)
    before = only(connection)
    executed(connection, BeginPruning(older_than=-5))
    assert pruned_messages(connection) == 2
    assert only(connection) == before
    connection.execute("UPDATE skycore.chunks SET state = 'waiting'")
    (first,) = chunks.due(connection, 1)
    chunk = chunks.take(connection, first, worker="w", lease=30)
    assert chunk is not None
    assert chunks.finish(connection, chunk, left_out={"opted out": "-"}, pause=0) == 0
    with pytest.raises(CampaignError, match="loaded with other content"):
        loaded(connection, "a", text="Bye")


def test_a_pruned_campaign_that_is_loaded_again_is_known(dsn: str, connection: Connection) -> None:
    """A pruned campaign that is loaded again is known by its keys."""
    finished(dsn, connection)
    prune(dsn)
    again = loaded(connection, "a", "new", text="Bye")
    assert again == Loaded(new=1, mended=0, known=1, state="running")
    connection.execute("UPDATE skycore.chunks SET state = 'waiting'")
    first, _ = sorted(chunks.due(connection, 2))
    chunk = chunks.take(connection, first, worker="w", lease=30)
    assert chunk is not None
    assert [message.key for message in chunk.messages()] == ["b"]
    for key in ("a", "refused"):
        with pytest.raises(CampaignError, match="there from before"):
            refuse_reread(connection, "promo", [key])
    with pytest.raises(CampaignError, match="there from before"):
        refuse_reread(connection, "another", ["a"])
    refuse_reread(connection, "another", ["refused", "nobody's"])


@pytest.mark.parametrize("state", ["running", "cancelled"])
def test_what_was_never_sent_goes_with_a_cancelled_campaign(
    dsn: str, connection: Connection, state: str
) -> None:
    """Unsent rows are pruned only once the campaign is cancelled."""
    loaded(connection, "a")
    connection.execute("UPDATE skycore.chunks SET due = to_timestamp(%s)", (NOON,))
    if state == "cancelled":
        change(connection, "cancel", "promo")
    prune(dsn)
    assert ("a" in rows(connection)) is (state == "running")


def test_a_role_that_may_not_vacuum_gets_a_warning(
    dsn: str, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """A role that may not VACUUM prunes with a warning."""
    connection.execute("DROP ROLE IF EXISTS pruner")
    connection.execute("CREATE ROLE pruner LOGIN")
    try:
        connection.execute("GRANT USAGE ON SCHEMA skycore TO pruner")
        connection.execute(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA skycore TO pruner"
        )
        kept(dsn, lambda ledger: sent(ledger, "k", accepted()))
        assert prune(make_conninfo(dsn, user="pruner")).messages == 1
    finally:
        connection.execute("DROP OWNED BY pruner")
        connection.execute("DROP ROLE pruner")
    assert "acuum" in caplog.text


# Copied from a file.


def in_file(path: Path, do: Callable[[BaseLedger], Any], *, later: bool = False) -> None:
    async def run() -> None:
        clock = Clock()
        clock.now += LATER * later
        async with SQLiteLedger(path, clock=clock) as ledger:
            await do(ledger)

    anyio.run(run)


async def _sent(ledger: BaseLedger) -> None:
    await sent(ledger, "k", accepted())
    await ledger.record(notice(DELIVERED), notice(DELIVERED, "unmatched", to="15550001111"))


async def _pruned(ledger: BaseLedger) -> None:
    await ledger.prune(older_than=AGE)


@pytest.mark.parametrize("pruned", ["the file", "the database", "both"])
def test_a_file_is_copied_whichever_of_the_two_is_pruned(
    tmp_path: Path, dsn: str, connection: Connection, pruned: str
) -> None:
    """A message pruned in file or database is there once after a copy, and stays pruned."""
    path = tmp_path / "promo.db"
    in_file(path, _sent)
    if pruned != "the file":
        copy(connection, path)
        prune(dsn)
    if pruned != "the database":
        in_file(path, _pruned, later=True)
    copied = copy(connection, path)
    assert (copied.messages, copied.new) == (1, int(pruned == "the file"))
    found = kept(dsn, lambda ledger: ledger.begin(intent()))
    assert found == Submission(state=MessageState.DELIVERED)
    kept(
        dsn,
        lambda ledger: ledger.record(notice(DELIVERED, "unmatched", to="15550001111", after=9)),
    )
    statement = """SELECT (SELECT count(*) FROM skycore.messages WHERE recipient <> '')
        + (SELECT count(*) FROM skycore.submissions WHERE recipient <> '')
        + (SELECT count(*) FROM skycore.events)"""
    assert connection.execute(statement).fetchone() == (0,)


def test_a_pruned_file_is_copied_beside_what_the_database_has(
    tmp_path: Path, dsn: str, connection: Connection
) -> None:
    """A pruned file changes nothing of what the database has."""
    path = tmp_path / "promo.db"
    in_file(path, _sent)
    copy(connection, path)
    in_file(path, _pruned, later=True)
    assert copy(connection, path).new == 0
    delivery = kept(dsn, lambda ledger: ledger.delivery(key="k"))
    assert delivery is not None
    assert delivery.to == TO


def test_a_file_that_knows_more_than_what_was_pruned_is_refused(
    tmp_path: Path, dsn: str, connection: Connection
) -> None:
    """A file that contradicts a pruned row of the database is refused."""
    path = tmp_path / "promo.db"
    in_file(path, _sent)
    kept(dsn, lambda ledger: sent(ledger, "k", NOT_SENT))
    prune(dsn)
    with pytest.raises(LedgerError, match="is delivered in the file, and not_sent there"):
        copy(connection, path)
    kept(dsn, lambda ledger: ledger.record(said("Hello")))


def test_an_unmatched_receipt_of_what_was_pruned_in_a_copied_file_is_pruned(
    tmp_path: Path, dsn: str, connection: Connection
) -> None:
    """An unplaced receipt of a message pruned in a copied file is pruned."""
    path = tmp_path / "promo.db"
    in_file(path, _sent)
    in_file(path, _pruned, later=True)
    kept(dsn, lambda ledger: ledger.record(notice(DELIVERED)))
    copy(connection, path)
    prune(dsn)
    assert connection.execute("SELECT count(*) FROM skycore.events").fetchone() == (0,)


def test_a_chunk_whose_rows_were_pruned_is_done_again(dsn: str, connection: Connection) -> None:
    """A chunk whose left-out rows were pruned is done."""
    finished(dsn, connection)
    prune(dsn)
    connection.execute("UPDATE skycore.chunks SET state = 'waiting'")
    (first,) = chunks.due(connection, 1)
    chunk = chunks.take(connection, first, worker="w", lease=30)
    assert chunk is not None
    assert chunks.finish(connection, chunk, left_out={}, pause=0) == 0
