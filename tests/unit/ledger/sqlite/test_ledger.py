"""A ledger in a file: what is durable, which processes are refused, and which files are wrong.

Strategy: a process that ends is a real one. A connection of the test's own stands between the
ledger and SQLite, counts commits and takes the disk away.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import attrs
import pytest

from skycore_async import SMS, PostbackInbox, SQLiteLedger
from skycore_async.codes import FailureReason
from skycore_async.errors import ConfigurationError, KeyConflict, LedgerError
from skycore_async.ledger.commands import Begin, Finish
from skycore_async.ledger.content import content_of
from skycore_async.ledger.model import MessageState, SendIntent, Submission
from skycore_async.ledger.sqlite import open_file, schema
from skycore_async.ledger.sqlite.generations import FileState
from skycore_async.ledger.sqlite.schema import APPLICATION_ID, VERSION, migrations
from skycore_async.notifications import SentNotification
from tests.support import two_spellings
from tests.support.ledger_cases import (
    DELIVERED,
    NOON,
    REJECTED,
    Clock,
    accepted,
    intent,
    notice,
    settle,
)

pytestmark = pytest.mark.anyio

S = MessageState


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


class NotingConnection:
    """A connection that notes its statements, and whose number of pages can be limited."""

    def __init__(self, path: str) -> None:
        self.statements: list[str] = []
        self._inner = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def execute(self, statement: str, values: Any = (), /) -> Any:
        self.statements.append(statement)
        return self._inner.execute(statement, values)

    def close(self) -> None:
        self._inner.close()

    def take_the_disk_away(self) -> None:
        (pages,) = self._inner.execute("PRAGMA page_count").fetchone()
        self._inner.execute(f"PRAGMA max_page_count = {pages}")

    def give_it_back(self) -> None:
        self._inner.execute("PRAGMA max_page_count = 1000000")


@pytest.fixture
def connections() -> list[NotingConnection]:
    return []


@pytest.fixture
def connect(connections: list[NotingConnection]) -> Callable[[str], NotingConnection]:
    def make(path: str) -> NotingConnection:
        connections.append(NotingConnection(path))
        return connections[-1]

    return make


async def states(path: Path) -> dict[str, MessageState]:
    """Open the file again, and return each key's state."""
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        return {each.key: each.state async for each in ledger.deliveries()}


def raw(path: Path, statement: str) -> Any:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchone()


def version_in(path: Path) -> int:
    (number,) = raw(path, "PRAGMA user_version")
    return FileState.of(number).version


# What is durable.


async def test_everything_is_there_again(path: Path) -> None:
    """Messages, outcomes, notifications and opt-outs are there after the ledger is reopened."""
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        for key, submission in (("a", accepted("T")), ("b", REJECTED)):
            await ledger.begin(intent(key))
            await ledger.finish(key, submission)
        await ledger.record(notice(DELIVERED), notice(DELIVERED, "U", to="15550000000"))
        await ledger.opt_out("15550000000")
        before = [await ledger.summary(), [each async for each in ledger.deliveries()]]
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        assert [await ledger.summary(), [each async for each in ledger.deliveries()]] == before
        assert await ledger.begin(intent("b")) == REJECTED
        assert await ledger.is_opted_out("15550000000")
        await ledger.record(notice(DELIVERED))
        assert await ledger.summary() == before[0]


CHILD = """
import os, anyio
from skycore_async import SMS, PostbackInbox, SQLiteLedger
from skycore_async.codes import FailureReason
from skycore_async.ledger.model import MessageState, SendIntent, Submission
from skycore_async.postbacks import parse_postback

DELIVERED = (
    "<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N202</CODE><TRACKINGID>T</TRACKINGID></POSTBACK>"
)

async def main():
    async with SQLiteLedger({path!r}) as ledger:
        for key in "abc":
            to = "15551234888"
            await ledger.begin(
                SendIntent(key=key, content=b"one", to=to, from_=None, started_at=0.0)
            )
        await ledger.finish("a", Submission(state=MessageState.ACCEPTED, tracking_id="T"))
        await ledger.finish("b", Submission(state=MessageState.NOT_SENT))
        await ledger.record(*parse_postback(DELIVERED))
        print("ready", flush=True)
        {then}

anyio.run(main)
"""


@contextmanager
def child(path: Path, then: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that uses the ledger, and then does what `then` says."""
    code = CHILD.format(path=str(path), then=then)
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.slow
async def test_an_acknowledged_record_outlasts_the_process(path: Path) -> None:
    """What was recorded outlasts a killed process, and a message under way is then in doubt."""
    with child(path, "os._exit(9)") as process:
        assert process.wait() == 9
    assert await states(path) == {"a": S.DELIVERED, "b": S.NOT_SENT, "c": S.IN_DOUBT}


@pytest.mark.slow
async def test_a_second_process_is_refused_until_the_first_is_killed(path: Path) -> None:
    """A second process is refused while the first runs, and opens the ledger after its kill."""
    with child(path, "await anyio.sleep_forever()") as process:
        with pytest.raises(LedgerError, match=r"ledger\.db is in use: one process at a time"):
            await states(path)
        process.kill()
        process.wait()
        assert (await states(path))["c"] is S.IN_DOUBT


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ledger.db", "link.db"])
async def test_a_second_ledger_in_one_process_is_refused(path: Path, name: str) -> None:
    """A second ledger object on the same file is refused until the first is closed."""
    (path.parent / "link.db").symlink_to(path)
    async with SQLiteLedger(path, clock=Clock()) as first:
        second = SQLiteLedger(path.parent / name, clock=Clock())
        with pytest.raises(LedgerError, match="is in use"):
            await second.open()
        assert await first.begin(intent()) is None
    async with second:
        assert (await second.summary()).states == {S.IN_DOUBT: 1}


async def test_a_message_under_way_is_in_doubt_on_opening(path: Path) -> None:
    """A message under way is in doubt on opening, or settled by a notification recorded before."""
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        await ledger.begin(intent("a"))
        await ledger.begin(intent("b", to="15550000000"))
        await ledger.record(notice(DELIVERED))
        assert (await ledger.summary()).states == {S.SENDING: 2}
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        delivery = await ledger.delivery("T")
        assert delivery is not None
        assert (delivery.key, delivery.state) == ("a", S.DELIVERED)
        assert delivery.settled_by == "postback"
        assert await ledger.begin(intent("b", to="15550000000")) == Submission(state=S.IN_DOUBT)


async def test_the_file_is_as_durable_as_it_says(
    path: Path, connect: Callable[[str], NotingConnection], connections: list[NotingConnection]
) -> None:
    """An open ledger uses WAL and synchronous=FULL, and its file carries id and version."""
    async with SQLiteLedger(path, connect=connect):
        (connection,) = connections
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert raw(path, "PRAGMA application_id") == (schema.APPLICATION_ID,)
    assert version_in(path) == VERSION
    assert raw(path, "PRAGMA integrity_check") == ("ok",)


class NeverSyncs(NotingConnection):
    """A connection that does not sync, whatever it is told."""

    def execute(self, statement: str, values: Any = (), /) -> Any:
        return super().execute(statement.replace("synchronous = FULL", "synchronous = 1"), values)


@pytest.mark.parametrize(
    "careless",
    [NeverSyncs, lambda _path: NotingConnection(":memory:")],
    ids=["no sync", "no journal"],
)
async def test_a_place_that_cannot_be_made_durable_is_refused(
    path: Path, careless: Callable[[str], NotingConnection]
) -> None:
    """A database that ignores the journal or synchronous mode is refused."""
    with pytest.raises(LedgerError, match="cannot be made durable") as caught:
        await SQLiteLedger(path, connect=careless).open()
    assert "disk of this machine" in str(caught.value)
    assert await states(path) == {}  # and it is free again


# What can be wrong with a file.


def empty(path: Path) -> None:
    path.write_bytes(b"")


def random_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def another_database(path: Path) -> None:
    raw(path, "CREATE TABLE mine (x)")


def another_kind(path: Path) -> None:
    raw(path, "PRAGMA application_id = 7")


def a_newer_one(path: Path) -> None:
    raw(path, f"PRAGMA application_id = {schema.APPLICATION_ID}")
    raw(path, "PRAGMA user_version = 99")


def content(path: Path) -> bytes:
    return path.read_bytes()


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "random bytes": (random_bytes, "is no ledger, or is damaged"),
    "another database": (another_database, "is a database of something else, and no ledger"),
    "another kind of database": (another_kind, "is a database of something else"),
    "a newer one": (
        a_newer_one,
        rf"schema 99, this one knows {schema.VERSION}\): upgrade with pip install -U",
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_is(
    path: Path, case: str
) -> None:
    """A file that is no ledger is refused with its kind, and stays unchanged."""
    make, said = WRONG[case]
    make(path)
    before = content(path)
    for _ in range(2):
        with pytest.raises(LedgerError, match=said) as caught:
            await SQLiteLedger(path).open()
        assert str(path) in str(caught.value)
    assert content(path) == before
    beside = [each.name for each in path.parent.iterdir() if each != path]
    assert beside == ([f"{path.name}-lock"] if case == "a newer one" else [])


def only_to_read(path: str) -> Any:
    return sqlite3.connect(
        f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )


async def test_a_place_that_cannot_be_written_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing directory, a directory in place of the file, and a read-only file are refused.

    So is a name that is too long, which is not reported as a missing file.
    """
    monkeypatch.setattr(Path, "is_dir", os.path.isdir)  # as from Python 3.14 on
    empty(path)
    for place, said in (
        (path.parent / "missing" / "ledger.db", "there is no directory .*missing"),
        (path / "ledger.db", r"there is no directory .*ledger\.db"),
        (path.parent, r"cannot be written: .* must be writable"),
        (path.parent / ("x" * 300) / "ledger.db", "cannot be written: File name too long"),
        (path.parent / ("x" * 250), "cannot be written"),  # with what is added for those beside it
    ):
        with pytest.raises(LedgerError, match=said):
            await SQLiteLedger(place).open()
    assert await states(path) == {}
    with pytest.raises(LedgerError, match=r"cannot be written: .*readonly.* must be writable"):
        await SQLiteLedger(path, connect=only_to_read).open()


async def test_a_file_beside_it_that_cannot_be_written_is_named(path: Path) -> None:
    """A lock file that cannot be written is named in the error."""
    path.with_name("ledger.db-lock").mkdir()
    with pytest.raises(LedgerError, match=r"ledger\.db-lock cannot be written: Is a directory"):
        await SQLiteLedger(path).open()


@pytest.mark.parametrize("kind", [SQLiteLedger, PostbackInbox])
@pytest.mark.parametrize("name", [":memory:", "file:promo.db?mode=ro"])
async def test_sqlite_special_names_are_refused_as_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, name: str
) -> None:
    """`:memory:` and `file:` texts are refused as paths; a Path of that name is a file."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"is MemoryLedger\(\)"):
        kind(name)
    async with kind(Path(name)):
        assert (tmp_path / name).exists()


@pytest.mark.parametrize("kind", [SQLiteLedger, PostbackInbox])
@pytest.mark.parametrize("name", ["", ".", "./", "/", Path()])
def test_a_path_that_names_no_file_is_refused(kind: Any, name: Any) -> None:
    """A path that names no file, such as an empty text, is refused with the setting's name."""
    with pytest.raises(ConfigurationError, match=r"path: .* names no file: give the path"):
        kind(name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_directory_that_is_read_only_is_refused(path: Path) -> None:
    """A ledger in a read-only directory is refused."""
    path.parent.chmod(0o500)
    try:
        with pytest.raises(LedgerError, match="Its directory and the file must be writable"):
            await SQLiteLedger(path).open()
    finally:
        path.parent.chmod(0o700)


async def test_a_full_disk_costs_nothing_recorded_and_it_goes_on_with_room(
    path: Path, connect: Callable[[str], NotingConnection], connections: list[NotingConnection]
) -> None:
    """A full disk raises LedgerError and loses nothing recorded; with room the ledger goes on."""
    async with SQLiteLedger(path, clock=Clock(), connect=connect) as ledger:
        await ledger.begin(intent("first"))
        connections[0].take_the_disk_away()
        written = ["first"]

        async def fill_up() -> None:
            for number in range(10_000):
                await ledger.begin(intent(f"k{number}", content=bytes(500)))
                written.append(f"k{number}")

        with pytest.raises(LedgerError, match=r"could not be written: .*full.* it goes on when"):
            await fill_up()
        assert [each.key async for each in ledger.deliveries()] == written
        assert (await ledger.delivery(key="first")) is not None
        connections[0].give_it_back()
        await ledger.begin(intent("last", content=bytes(5000)))
        await ledger.finish("first", accepted())
    assert (await states(path)).keys() == {*written, "last"}
    assert (await states(path))["first"] is S.ACCEPTED


@pytest.mark.parametrize("after", ["another command", "closing"])
async def test_an_intent_that_cannot_be_taken_back_on_a_full_disk_is_later(
    path: Path,
    connect: Callable[[str], NotingConnection],
    connections: list[NotingConnection],
    after: str,
) -> None:
    """An intent of a cancelled caller that a full disk kept from being undone is undone later."""
    async with SQLiteLedger(path, clock=Clock(), connect=connect) as ledger:
        await ledger.begin(intent("first"))
        commit, failing = ledger._file.commit, [True]

        def commit_and_leave(group: Any) -> set[str]:
            if not any(isinstance(each.command, Begin) for each in group):
                return commit(group)
            touched = commit(group)
            anyio.from_thread.run_sync(caller.cancel)
            return touched

        def full(group: Any) -> set[str]:
            if failing and any(isinstance(each.command, Finish) for each in group):
                raise sqlite3.OperationalError("database or disk is full")
            return _commit(group)

        _commit = ledger._file._commit
        ledger._file._commit = full  # type: ignore[method-assign, assignment]
        ledger._group_commit._commit = commit_and_leave
        with anyio.CancelScope() as caller:
            await ledger.begin(intent("left"))
        assert caller.cancelled_caught
        await ledger.summary()  # a question is answered all the same
        assert (await ledger.delivery(key="left")).state is S.SENDING  # type: ignore[union-attr]
        failing.clear()
        if after == "another command":
            ledger._group_commit._commit = commit
            assert await ledger.begin(intent("left"), timeout=5) is None
            await ledger.finish("left", accepted())
    expected = S.ACCEPTED if after == "another command" else S.NOT_SENT
    assert await states(path) == {"first": S.IN_DOUBT, "left": expected}


async def test_a_disk_that_is_full_on_opening_is_refused(path: Path) -> None:
    """A disk that is full on opening leaves no half-made ledger."""

    def full(path: str) -> NotingConnection:
        connection = NotingConnection(path)
        connection.execute("PRAGMA max_page_count = 3")
        return connection

    with pytest.raises(LedgerError, match=r"cannot be opened: .*full"):
        await SQLiteLedger(path, connect=full).open()
    assert await states(path) == {}


# Open and closed.


async def test_a_ledger_in_a_file_is_used_while_it_is_open(path: Path) -> None:
    """Using a ledger before it is open, or after closing, raises RuntimeError that says so."""
    ledger = SQLiteLedger(path)
    await ledger.aclose()
    with pytest.raises(RuntimeError, match="is not open: use `async with`"):
        await ledger.summary()
    async with ledger:
        await ledger.open()
        assert await ledger.begin(intent()) is None
    await ledger.aclose()
    with pytest.raises(RuntimeError, match="this ledger is closed"):
        await ledger.summary()


async def test_a_ledger_is_the_same_in_another_directory(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger with a relative path is the same file after the program changed its directory."""
    monkeypatch.chdir(path.parent)
    ledger = SQLiteLedger(path.name)
    async with ledger:
        assert await ledger.begin(intent()) is None
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    async with ledger:
        assert (await ledger.summary()).total == 1
    assert list(elsewhere.iterdir()) == []
    assert (ledger.path, ledger.name) == (path, path.name)


# Many in one transaction.


async def test_many_callers_share_a_commit(
    path: Path, connect: Callable[[str], NotingConnection], connections: list[NotingConnection]
) -> None:
    """Callers who wait together share a commit, and one alone does not wait for others."""
    async with SQLiteLedger(path, connect=connect) as ledger:
        statements = connections[0].statements
        statements.clear()
        await ledger.begin(intent("alone"))
        assert statements.count("COMMIT") == 1
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(ledger.begin, intent(f"k{number}"))
        assert statements.count("COMMIT") <= 5
    assert len(await states(path)) == 201


async def test_a_command_that_fails_does_not_affect_others_of_its_commit(
    path: Path, connect: Callable[[str], NotingConnection], connections: list[NotingConnection]
) -> None:
    """A command that fails raises for its own caller; the others of its group are durable."""
    errors: dict[str, Exception] = {}
    bad = SentNotification(tracking_id="T", raw={"x": object()})

    async with SQLiteLedger(path, clock=Clock(), connect=connect) as ledger:
        await ledger.begin(intent("known"))

        async def attempt(name: str, run: Callable[..., Any], *args: object) -> None:
            try:
                await run(*args)
            except Exception as error:  # noqa: BLE001 - it is what the test is about
                errors[name] = error

        connections[0].statements.clear()
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(attempt, f"{number}", ledger.begin, intent(f"k{number}"))
            group.start_soon(attempt, "conflict", ledger.begin, intent("known", content=b"two"))
            group.start_soon(attempt, "unwritable", ledger.begin, intent("\ud800"))
            group.start_soon(attempt, "bundle", ledger.record, notice(DELIVERED), bad)
            for number in range(20, 40):
                group.start_soon(attempt, f"{number}", ledger.begin, intent(f"k{number}"))
        assert {name: type(error) for name, error in errors.items()} == {
            "conflict": KeyConflict,
            "unwritable": UnicodeEncodeError,
            "bundle": TypeError,
        }
        assert (await ledger.summary()).unplaced == 0
        assert "ROLLBACK" in connections[0].statements
    assert (await states(path)).keys() == {"known", *(f"k{number}" for number in range(40))}


async def test_another_program_that_holds_the_file_is_waited_for_once(
    path: Path, connect: Callable[[str], NotingConnection], connections: list[NotingConnection]
) -> None:
    """A file locked by another program is waited for once, and all callers get the error."""
    told: list[str] = []
    async with SQLiteLedger(path, clock=Clock(), connect=connect) as ledger:
        connections[0].execute("PRAGMA busy_timeout = 0")
        connections[0].statements.clear()

        async def begin(number: int) -> None:
            with pytest.raises(LedgerError, match="is locked") as caught:
                await ledger.begin(intent(f"k{number}"))
            told.append(str(caught.value))

        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(begin, number)
        assert len(told) == 50
        assert len(connections[0].statements) <= 5
        assert await ledger.begin(intent("k0")) is None
    assert await states(path) == {"k0": S.IN_DOUBT}


async def test_a_cancelled_callers_command_is_written(path: Path) -> None:
    """A cancelled caller's outcome or opt-out is recorded, and an intent is undone."""
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        await ledger.begin(intent("sent"))
        async with anyio.create_task_group() as group:
            group.start_soon(ledger.finish, "sent", accepted())
            group.start_soon(ledger.opt_out, "15550000000")
            group.start_soon(ledger.begin, intent("begun"))
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert await ledger.is_opted_out("15550000000")
    assert await states(path) == {"sent": S.ACCEPTED, "begun": S.NOT_SENT}


async def test_closing_writes_what_waits(path: Path) -> None:
    """Closing records the commands that are waiting first."""
    ledger = SQLiteLedger(path)
    await ledger.open()
    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(ledger.begin, intent(f"k{number}"))
        await settle()
        await ledger.aclose()
    assert len(await states(path)) == 50


# From one version to the next.


FIRST = (Path(__file__).parents[3] / "support" / "ledger_of_version_1.sql").read_text("utf-8")


def make_first(path: Path) -> None:
    """Make the file that version 1 left when it was killed with two messages under way."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST)


FIRST_STATES = {
    "accepted": S.ACCEPTED,
    "odd answer": S.ACCEPTED,
    "sent": S.SENT,
    "delivered": S.DELIVERED,
    "failed": S.FAILED,
    "rejected": S.REJECTED,
    "not sent": S.NOT_SENT,
    "in doubt": S.IN_DOUBT,
    "settled": S.DELIVERED,
    "two doubts a": S.IN_DOUBT,
    "two doubts b": S.IN_DOUBT,
    "sent again": S.IN_DOUBT,
    "under way": S.IN_DOUBT,
    "blocked": S.REJECTED,
}


async def test_a_ledger_of_the_first_version_keeps_all_that_it_knew(path: Path) -> None:
    """A version 1 file keeps its messages, notifications, unplaced ones and opt-outs."""
    make_first(path)
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        found = {each.key: each async for each in ledger.deliveries()}
        assert {key: each.state for key, each in found.items()} == FIRST_STATES
        events = {key: len(each.events) for key, each in found.items() if each.events}
        assert events == {"sent": 1, "delivered": 2, "failed": 1, "settled": 1}
        assert found["settled"].settled_by == "postback"
        assert found["in doubt"].code == "E503"
        delivery = await ledger.delivery("T5")
        assert delivery is not None
        assert (delivery.key, delivery.reason) == ("failed", FailureReason.EXPIRED)
        assert {each.tracking_id async for each in ledger.unplaced()} == {"T10", "T99"}  # type: ignore[union-attr]
        assert (await ledger.summary()).opted_out == 2
        assert await ledger.is_opted_out("15550000013")  # the API said that it is blocked
        assert await ledger.is_opted_out("15550000020")  # it said STOP
        assert not await ledger.is_opted_out("15550000021")


async def test_a_key_of_a_version_1_file_is_not_sent_again(path: Path) -> None:
    """A key of a version 1 file returns its outcome, or conflicts if the content differs."""
    make_first(path)
    numbers = {"accepted": 1, "odd answer": 2, "rejected": 6, "in doubt": 8}
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        for key, number in numbers.items():
            message = SMS(to=f"1555000{number:04d}", text=f"Hello {key}", from_="60856", key=key)
            intended = SendIntent(
                key=key,
                content=content_of(message),
                to=message.to,
                from_="60856",
                started_at=NOON,
                message=message,
            )
            known = await ledger.begin(intended)
            assert known is not None
            assert known.state is FIRST_STATES[key]
            other = attrs.evolve(intended, message=attrs.evolve(message, text="Hello!"))
            if FIRST_STATES[key] is MessageState.REJECTED:
                assert await ledger.lookup(other) is None
            else:
                with pytest.raises(KeyConflict):
                    await ledger.begin(other)
        usual = await ledger.lookup(
            SendIntent(
                key="accepted",
                content=b"of this version",
                to="15550000001",
                from_="60856",
                started_at=NOON,
                message=SMS(to="15550000001", text="Hello accepted", from_="60856"),
            )
        )
        assert usual is not None
        assert usual.raw == {"STATUS": "Success", "TRACKINGID": "T1", "TO": "15550000001"}


async def test_two_spellings_of_a_tracking_id_become_one_submission(path: Path) -> None:
    """Two spellings of a tracking id in an old file become one submission of one message."""
    with closing(sqlite3.connect(path)) as connection:
        for script in migrations()[:3]:
            connection.executescript(script)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 3")
        for table, columns in two_spellings.rows():
            marks = ", ".join("?" * len(columns))
            connection.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608
                list(columns.values()),
            )
        connection.commit()
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        await two_spellings.assert_are_one(ledger)


async def test_doubts_of_a_version_1_file_can_be_settled(path: Path) -> None:
    """Doubts of a version 1 file settle, and late receipts find their messages."""
    make_first(path)
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        await ledger.record(notice(DELIVERED, "T1", to="15550000001"))
        await ledger.record(notice(DELIVERED, "T12", to="15550000012", after=20))
        again = [each async for each in ledger.deliveries(S.DELIVERED)]
        assert {each.key for each in again} == {"accepted", "delivered", "settled", "under way"}
        known = await ledger.delivery("T4")
        assert known is not None
        await ledger.record(*known.events)
        assert await ledger.delivery("T4") == known


async def test_migrations_run_one_after_the_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several migrations run one after the other, and no row is lost."""
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        await ledger.begin(intent())
        await ledger.finish("k", accepted())
    later = (
        "ALTER TABLE messages ADD COLUMN extra TEXT; UPDATE messages SET extra = key;\n",
        "ALTER TABLE messages RENAME COLUMN extra TO more",
    )
    scripts = (*schema.migrations(), *later)
    for module in (schema, open_file):
        monkeypatch.setattr(module, "VERSION", VERSION + 2)
    monkeypatch.setattr(schema, "migrations", lambda: scripts)
    assert await states(path) == {"k": S.ACCEPTED}
    assert raw(path, "SELECT more FROM messages") == ("k",)
    assert version_in(path) == VERSION + 2


async def test_a_failed_migration_leaves_the_old_ledger(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed migration is rolled back, and the version before still opens the file."""
    async with SQLiteLedger(path, clock=Clock()) as ledger:
        await ledger.begin(intent())
    scripts = (*schema.migrations(), "ALTER TABLE messages ADD COLUMN extra; SELECT nonsense")
    with monkeypatch.context() as newer:
        for module in (schema, open_file):
            newer.setattr(module, "VERSION", VERSION + 1)
        newer.setattr(schema, "migrations", lambda: scripts)
        with pytest.raises(LedgerError, match="cannot be opened: no such column: nonsense"):
            await SQLiteLedger(path).open()
    assert version_in(path) == VERSION
    assert await states(path) == {"k": S.IN_DOUBT}


def test_there_is_a_migration_for_every_version() -> None:
    """There are as many migrations as schema versions."""
    assert len(schema.migrations()) == VERSION


async def test_a_ledger_is_opened_once_however_often_it_is_asked_to(path: Path) -> None:
    """Two tasks may open a ledger at once, and a third later: the ledger is opened once."""
    ledger = SQLiteLedger(path)
    assert not ledger.is_open
    async with anyio.create_task_group() as group:
        group.start_soon(ledger.open)
        group.start_soon(ledger.open)
    await ledger.open()
    assert ledger.is_open
    assert (await ledger.summary()).total == 0
    await ledger.aclose()
    assert not ledger.is_open


async def test_the_window_for_settling_is_the_callers(path: Path) -> None:
    """A postback settles a doubt only within `settle_within` seconds of its intent."""
    clock = Clock()
    async with SQLiteLedger(path, clock=clock, settle_within=10) as ledger:
        for key, to in (("a", "15550000001"), ("b", "15550000002")):
            await ledger.begin(intent(key, to=to))
            await ledger.finish(key, Submission(state=S.IN_DOUBT))
        for key, to, clock.now in (
            ("T", "15550000001", NOON + 10),
            ("U", "15550000002", NOON + 11),
        ):
            await ledger.record(notice(DELIVERED, key, to=to, after=clock.now - NOON))
        found = {each.key: each.state async for each in ledger.deliveries()}
        assert found == {"a": S.DELIVERED, "b": S.IN_DOUBT}


async def test_a_doubt_of_an_earlier_version_keeps_that_it_was_sent_twice(path: Path) -> None:
    """A doubt of version 1 that was sent twice gets a first attempt without time or text."""
    make_first(path)
    async with SQLiteLedger(path, clock=Clock()):
        pass
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT key, attempts.started_at, attempts.text_digest FROM attempts"
            " JOIN messages ON messages.id = message"
        ).fetchall()
        assert rows == [("sent again", 0.0, None)]
        (texts,) = connection.execute("SELECT count(text_digest) FROM messages").fetchone()
        assert texts == 0


async def test_an_attempt_is_kept_when_its_message_is_sent_again(path: Path) -> None:
    """Resending a doubt keeps the earlier attempt with its times and text digest."""
    clock = Clock()
    first = attrs.evolve(intent(), text_digest=b"text")
    async with SQLiteLedger(path, clock=clock) as ledger:
        assert await ledger.begin(first) is None
    clock.now = NOON + 50
    async with SQLiteLedger(path, clock=clock) as ledger:
        again = attrs.evolve(first, started_at=NOON + 90)
        assert await ledger.begin(again, resend_in_doubt=True) is None
    with closing(sqlite3.connect(path)) as connection:
        (row,) = connection.execute(
            "SELECT text_digest, started_at, ended_at, state FROM attempts"
        ).fetchall()
        assert row == (b"text", NOON, NOON + 50, "in_doubt")
