"""An SQLite ledger copied into PostgreSQL: completely, once, or not at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio
import psycopg
import pytest
from click.testing import CliRunner, Result

from skycore_async import MessageState, SQLiteLedger
from skycore_async.cli.app import skycore
from skycore_async.ledger.attempts import turn_of
from skycore_async.ledger.interface import Ledger
from skycore_async.ledger.model import Delivery, Submission, Summary
from skycore_async.ledger.postgres.ledger import PostgresLedger
from skycore_async.ledger.report_commands import ListBegunMessages, ListEarlierAttempts
from skycore_async.ledger.settlement import identities
from tests.postgres.test_worker import until
from tests.support.ledger_cases import (
    DELIVERED,
    DOUBT,
    NOT_SENT,
    REJECTED,
    TO,
    Clock,
    accepted,
    intent,
    notice,
)

T = TypeVar("T")
S = MessageState
WAITS = "SELECT FROM pg_locks WHERE NOT granted"
CAME = [accepted("T0"), accepted("T1"), DOUBT, NOT_SENT, REJECTED, None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Make a ledger with a message in each state, and postbacks with and without a message."""
    path = tmp_path / "promo.db"

    async def fill() -> None:
        async with SQLiteLedger(path, clock=Clock()) as ledger:
            for n, came in enumerate(CAME):
                await sent(ledger, n, came)
            await ledger.record(notice(DELIVERED, "T0", to="15550000000"))
            await ledger.record(notice(DELIVERED, "unmatched", to="15559999999"))
            await ledger.opt_out("15557777777")

    anyio.run(fill)
    return path


async def sent(ledger: Ledger, n: int, came: Submission | None) -> None:
    given = intent(f"k{n}", to=f"1555000000{n}")
    assert await ledger.begin(given) is None
    if came is not None:
        await ledger.finish(given.key, came)


def copy(file: Path, dsn: str, *args: str) -> Result:
    done = CliRunner().invoke(skycore, ["cluster", "copy", str(file), dsn, *args])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def asked(ledger: SQLiteLedger | PostgresLedger, ask: Callable[[Any], Awaitable[T]]) -> T:
    async def opened() -> T:
        async with ledger:
            return await ask(ledger)

    return anyio.run(opened)


async def everything(ledger: Ledger) -> tuple[list[Delivery], Summary, bool]:
    deliveries = [delivery async for delivery in ledger.deliveries()]
    return deliveries, await ledger.summary(), await ledger.is_opted_out("15557777777")


def test_a_copy_knows_all_that_the_file_does(file: Path, dsn: str) -> None:
    """A copy has the file's messages, events, unplaced notifications and opt-outs."""
    done = copy(file, dsn, "--json")
    assert json.loads(done.stdout) == {"messages": 6, "new": 6, "events": 2}
    there = asked(PostgresLedger(dsn), everything)
    assert there == asked(SQLiteLedger(file), everything)
    states = {delivery.key: delivery.state for delivery in there[0]}
    assert states == {
        "k0": S.DELIVERED,
        "k1": S.ACCEPTED,
        "k2": S.IN_DOUBT,
        "k3": S.NOT_SENT,
        "k4": S.REJECTED,
        "k5": S.IN_DOUBT,  # it was being sent
    }


def test_copied_again_it_adds_what_is_new(file: Path, dsn: str) -> None:
    """A second copy adds what is new, and does not overwrite newer states."""
    copy(file, dsn)
    asked(
        PostgresLedger(dsn, clock=Clock()),
        lambda ledger: ledger.record(notice(DELIVERED, "T1", to="15550000001")),
    )
    asked(SQLiteLedger(file, clock=Clock()), lambda ledger: sent(ledger, 6, accepted("T6")))
    assert copy(file, dsn).stdout == f"{file}: 7 messages, 1 of them new here\n"
    deliveries, _, _ = asked(PostgresLedger(dsn), everything)
    assert [(d.key, d.state) for d in deliveries if d.tracking_id] == [
        ("k0", S.DELIVERED),
        ("k1", S.DELIVERED),
        ("k6", S.ACCEPTED),
    ]


def test_a_copy_that_collides_with_who_sends_is_made_again(file: Path, dsn: str) -> None:
    """A copy that deadlocks with a sender is repeated, and both succeed."""
    with ThreadPoolExecutor() as threads, psycopg.connect(dsn) as other:
        other.execute("SET deadlock_timeout = '1min'")  # so that it is the copy that is ended
        other.execute("INSERT INTO skycore.submissions (tracking_id) VALUES ('T0')")
        copied = threads.submit(copy, file, dsn)
        with psycopg.connect(dsn, autocommit=True) as beside:
            until(lambda: beside.execute(WAITS).fetchone() is not None)
        other.execute(
            "INSERT INTO skycore.messages (key, content, recipient, state, started_at, session,"
            " attempt) VALUES ('k0', '', '', 'sending', 0, 0, 0)"
        )
        other.rollback()
        assert copied.result().stdout == f"{file}: 6 messages, 6 of them new here\n"
    assert asked(PostgresLedger(dsn), everything) == asked(SQLiteLedger(file), everything)


def test_others_send_while_a_file_is_copied(file: Path, dsn: str) -> None:
    """Others can write to the messages while a file is copied."""
    goes_on = False
    with ThreadPoolExecutor() as threads, psycopg.connect(dsn) as other:
        other.execute("INSERT INTO skycore.submissions (tracking_id) VALUES ('T0')")
        copied = threads.submit(copy, file, dsn)
        with psycopg.connect(dsn, autocommit=True) as beside:
            until(lambda: beside.execute(WAITS).fetchone() is not None)
            with suppress(psycopg.errors.LockNotAvailable), beside.transaction():
                beside.execute("LOCK TABLE skycore.messages IN ROW EXCLUSIVE MODE NOWAIT")
                goes_on = True
        other.rollback()
        assert copied.result().stdout == f"{file}: 6 messages, 6 of them new here\n"
    assert goes_on


def test_a_message_pruned_during_a_copy_stays_pruned(file: Path, dsn: str) -> None:
    """A message that is pruned during a copy stays pruned."""
    copy(file, dsn)
    with ThreadPoolExecutor() as threads, psycopg.connect(dsn) as other:
        other.execute("INSERT INTO skycore.pruned VALUES (0)")
        other.commit()
        for table, name in (("messages", "key"), ("submissions", "tracking_id")):
            other.execute(
                f"UPDATE skycore.{table} SET {name} = skycore.pruned_name({name})"  # type: ignore[arg-type,unused-ignore] # pyright: ignore[reportArgumentType, reportCallIssue] # noqa: S608
                f" WHERE {name} IN ('k0', 'T0')"
            )
        other.execute("DELETE FROM skycore.events WHERE tracking_id = 'T0'")
        copied = threads.submit(copy, file, dsn)
        with psycopg.connect(dsn, autocommit=True) as beside:
            until(lambda: beside.execute(WAITS).fetchone() is not None)
        other.commit()
        assert copied.result().stdout == f"{file}: 6 messages, 0 of them new here\n"
        found = other.execute("SELECT FROM skycore.messages WHERE key = 'k0'").fetchall()
        found += other.execute("SELECT FROM skycore.events WHERE tracking_id = 'T0'").fetchall()
        assert found == []


def test_attempts_in_doubt_are_copied_with_their_messages(file: Path, dsn: str) -> None:
    """Earlier attempts are copied once with new messages."""

    async def resent(ledger: Ledger) -> None:
        again = intent("k2", to="15550000002")
        assert await ledger.begin(again, resend_in_doubt=True) is None
        await ledger.finish("k2", NOT_SENT)

    asked(SQLiteLedger(file, clock=Clock()), resent)
    for _ in range(2):
        copy(file, dsn)
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT key, attempts.recipient, attempts.state, untaken FROM skycore.attempts"
            " JOIN skycore.messages ON messages.id = message"
        ).fetchall()
    assert rows == [("k2", "15550000002", "in_doubt", True)]


async def in_order(ledger: SQLiteLedger | PostgresLedger) -> list[str]:
    """Return all attempts in the order in which they began, earlier ones too."""
    begun = (await ledger.run(ListBegunMessages(since=0, after=0))).rows
    earlier = (await ledger.run(ListEarlierAttempts(after=0))).rows
    turns = [(turn_of(each.id, each.turn), each.to) for each in begun]
    turns += [(turn_of(each.message, each.turn), f"earlier {each.to}") for each in earlier]
    return [name for _, name in sorted(turns)]


def test_in_what_order_a_files_messages_were_begun_stays_known(tmp_path: Path, dsn: str) -> None:
    """The order in which a file's messages began is kept by the copy."""
    file = tmp_path / "promo.db"

    async def fill(ledger: SQLiteLedger) -> None:
        for n in range(5):
            await sent(ledger, n, accepted(f"T{n}") if n in (0, 3) else NOT_SENT)
        for n, came in [(2, DOUBT), (4, accepted("T4")), (2, DOUBT), (1, accepted("T1"))]:
            again = intent(f"k{n}", to=f"1555000000{n}")
            assert await ledger.begin(again, resend_in_doubt=True) is None
            await ledger.finish(again.key, came)
        await sent(ledger, 5, accepted("T5"))

    asked(PostgresLedger(dsn), lambda ledger: sent(ledger, 6, accepted("T6")))
    asked(SQLiteLedger(file, clock=Clock()), fill)
    copy(file, dsn)
    last = [f"1555000000{n}" for n in (4, 2, 1, 5)]
    order = ["15550000000", "15550000003", "earlier 15550000002", *last]
    assert asked(SQLiteLedger(file, clock=Clock()), in_order) == order
    assert asked(PostgresLedger(dsn), in_order) == ["15550000006", *order]


@pytest.mark.parametrize(
    ("words", "later", "is_out"),
    [
        (("opt_out", "opt_in"), 600, True),
        (("opt_in", "opt_out"), -600, True),
        (("opt_out", "opt_in"), 100_000, False),
        (("opt_in", "opt_out"), -100_000, False),
        (("opt_in", "opt_out"), 600, True),
    ],
)
def test_of_two_words_the_clearly_later_counts_and_else_the_number_has_opted_out(
    file: Path, dsn: str, words: tuple[str, str], later: float, is_out: bool
) -> None:
    """Of two opt-out entries the clearly later counts, else the number is opted out.

    The file's entry is `later` seconds after the database's, by clocks that may be wrong.
    """
    there, here = words
    asked(PostgresLedger(dsn, clock=Clock()), lambda ledger: getattr(ledger, there)(TO))
    clock = Clock()
    clock.now += later
    asked(SQLiteLedger(file, clock=clock), lambda ledger: getattr(ledger, here)(TO))
    copy(file, dsn)
    assert asked(PostgresLedger(dsn), lambda ledger: ledger.is_opted_out(TO)) is is_out


@pytest.mark.parametrize("tracking_id", ["SMS_767867", "U01TXzc2Nzg2Nw=="])
def test_what_a_former_version_kept_in_one_spelling_is_known_in_the_other(
    file: Path, dsn: str, tracking_id: str
) -> None:
    """A notification that the database has in another spelling of its id is not copied."""
    seen = notice(DELIVERED, "SMS_767867", to="15559999999")
    identity, former = identities(seen)
    assert former is not None
    asked(SQLiteLedger(file, clock=Clock()), lambda ledger: ledger.record(seen))
    with closing(sqlite3.connect(file)) as connection, connection:
        done = connection.execute(
            "UPDATE events SET identity = ? WHERE identity = ?", (former, identity)
        )
        assert done.rowcount == 1
    again = notice(DELIVERED, tracking_id, to="15559999999")
    asked(PostgresLedger(dsn, clock=Clock()), lambda ledger: ledger.record(again))
    assert json.loads(copy(file, dsn, "--json").stdout)["events"] == 2
    _, summary, _ = asked(PostgresLedger(dsn), everything)
    assert summary.unplaced == 2


def test_a_receipt_that_was_there_first_finds_its_message(file: Path, dsn: str) -> None:
    """A receipt recorded in the database before the copy applies to the copied message."""
    asked(
        PostgresLedger(dsn, clock=Clock()),
        lambda ledger: ledger.record(notice(DELIVERED, "T1", to="15550000001")),
    )
    copy(file, dsn)
    found = asked(PostgresLedger(dsn), lambda ledger: ledger.delivery("T1"))
    assert found is not None
    assert (found.key, found.state) == ("k1", S.DELIVERED)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("content = 'two'::bytea WHERE key = 'k1'", "the key 'k1' has other content"),
        (
            "content = 'of version 1', recipient = '15559999999' WHERE key = 'k1'",
            "the key 'k1' has other content",
        ),
        (
            "content = 'of version 1', sender = NULL WHERE key = 'k1'",
            "the key 'k1' has other content",
        ),
        ("plain_id = 'U' WHERE key = 'k1'", "the key 'k1' has another tracking id"),
        ("state = 'not_sent' WHERE key = 'k2'", "'k2' is in_doubt in the file, and not_sent"),
        ("state = 'sending' WHERE key = 'k1'", "'k1' is accepted in the file, and sending"),
    ],
)
def test_a_contradicting_file_is_not_copied(file: Path, dsn: str, change: str, said: str) -> None:
    """A file that contradicts the database is refused with the key, and nothing is copied."""
    copy(file, dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"UPDATE skycore.messages SET {change}")  # type: ignore[arg-type,unused-ignore] # pyright: ignore[reportArgumentType, reportCallIssue] # noqa: S608
        asked(SQLiteLedger(file, clock=Clock()), lambda ledger: sent(ledger, 6, None))
        done = copy(file, dsn)
        assert (done.exit_code, said in done.stderr) == (2, True)
        assert connection.execute("SELECT count(*) FROM skycore.messages").fetchone() == (6,)


def test_digests_of_two_versions_are_no_contradiction(file: Path, dsn: str) -> None:
    """A key whose content has digests of two versions is one message."""
    copy(file, dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE skycore.messages SET content = 'of version 1'::bytea")
        asked(SQLiteLedger(file, clock=Clock()), lambda ledger: sent(ledger, 6, accepted("T6")))
        assert copy(file, dsn).stdout == f"{file}: 7 messages, 1 of them new here\n"
        kept = connection.execute(
            "SELECT count(*) FROM skycore.messages WHERE length(content) > 3"
        )
        assert kept.fetchone() == (6,)


def test_only_a_ledger_is_copied(tmp_path: Path, dsn: str) -> None:
    """A missing file, or a database of something else, is refused."""
    other = tmp_path / "other.db"
    assert "there is no such ledger" in copy(other, dsn).stderr
    assert not other.exists()
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE a (b)")
    assert "database of something else" in copy(other, dsn).stderr


def test_a_ledger_in_use_is_not_copied(file: Path, dsn: str) -> None:
    """A file that another process has open is not copied."""

    async def meanwhile(_ledger: Ledger) -> Result:
        return await anyio.to_thread.run_sync(copy, file, dsn)

    done = asked(SQLiteLedger(file), meanwhile)
    assert (done.exit_code, "is in use" in done.stderr) == (2, True)
