"""Postbacks beside a ledger that another process has open: PostbackInbox and receivers.

Strategy: where it is about locks, the other process is a real one. Where it is about which ledger
takes postbacks in, the ledger is open in this process.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from skycore_async import PostbackInbox, PostbackReceiver, SQLiteLedger
from skycore_async.errors import ConfigurationError, LedgerError, LedgerInUse
from skycore_async.ledger.model import MessageState
from skycore_async.ledger.sqlite.inbox_file import InboxFile, inbox_of
from tests.network.test_receiver import status
from tests.support.ledger_cases import DELIVERED, NOON, Clock, accepted, intent, notice, said
from tests.support.ledger_owner import owner
from tests.support.notification_xml import notification

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "promo.db"


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    """Wait until a condition that another task or process brings about holds."""
    for _ in range(1000):
        if await holds():
            return
        await anyio.sleep(0.005)
    raise TimeoutError


def move(path: Path, to: Path) -> None:
    path.rename(to)


def remove(path: Path) -> None:
    path.unlink()


def write(path: Path, text: str) -> None:
    path.write_text(text)


def files_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def unplaced(path: Path) -> int:
    """Open the ledger, and return how many unplaced receipts it has."""
    async with SQLiteLedger(path) as ledger:
        return (await ledger.summary()).unplaced


async def test_a_receiver_takes_postbacks_in_beside_whoever_has_the_ledger(path: Path) -> None:
    """The sending process gets delivery and STOP from a receiver beside its ledger."""
    async with (
        SQLiteLedger(path, look_every=0.01) as ledger,
        PostbackInbox(path, look_every=0.01) as inbox,
    ):
        receiver = PostbackReceiver(ledger=inbox)
        await ledger.begin(intent())
        await ledger.finish("k", accepted("SMS_1"))
        assert await status(receiver, content=notification(tracking_id="SMS_1")) == 200
        assert (await ledger.wait_for("SMS_1", timeout=5)).state is MessageState.DELIVERED
        assert await status(receiver, content=notification(2, text="STOP")) == 200
        await until(lambda: ledger.is_opted_out("15551234888"))


@pytest.mark.parametrize("kind", [str, Path])
async def test_a_path_is_enough(kind: type, path: Path) -> None:
    """A receiver with a path opens its inbox at its start or first postback."""
    receiver = PostbackReceiver(ledger=kind(path))
    async with SQLiteLedger(path, look_every=math.inf):
        assert await status(receiver) == 200
    await receiver._ledger.aclose()  # type: ignore[union-attr]
    assert await unplaced(path) == 1


async def test_while_nobody_has_the_ledger_it_is_opened_for_a_moment(path: Path) -> None:
    """A ledger that nobody has open is opened briefly to take postbacks in."""
    async with PostbackInbox(path, look_every=0.01) as inbox:
        for count in (1, 2):
            await inbox.record(notice(tracking_id=str(count)))
            await until(lambda: _is_empty(inbox))
            assert await unplaced(path) == count


async def _is_empty(inbox: PostbackInbox) -> bool:
    return await inbox.count() == 0


async def test_of_several_each_takes_in_what_all_received(path: Path) -> None:
    """Several workers of one server share the inbox."""
    async with (
        PostbackInbox(path, look_every=math.inf) as one,
        PostbackInbox(path, look_every=math.inf) as other,
    ):
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon((one, other)[number % 2].record, notice(tracking_id=str(number)))
        assert await other.count() == 20
        await one.take_in()
        assert await other.count() == 0
    assert await unplaced(path) == 20


@pytest.mark.slow
async def test_a_postback_is_on_the_disk_while_another_process_has_the_ledger(path: Path) -> None:
    """A postback is stored on the disk while another process has the ledger."""
    with owner(path) as process:
        async with PostbackInbox(path) as inbox:
            assert inbox.holder() in {f"process {process.pid}", "another process"}
            await inbox.record(notice())
            await until(lambda: _is_empty(inbox))
    async with PostbackInbox(path) as inbox:
        assert inbox.holder() is None
    assert await unplaced(path) == 1


async def test_a_postback_has_the_time_at_which_it_came(path: Path) -> None:
    """A postback keeps its time of receipt until it is taken in."""
    clock = Clock()
    async with (
        SQLiteLedger(path, look_every=math.inf) as ledger,
        PostbackInbox(path, look_every=math.inf, clock=clock) as inbox,
    ):
        await inbox.record(notice(DELIVERED))
        clock.now += 1_000_000
        command = ledger._file.inbox.next()
        assert command is not None
        assert [each.received for each in command.postbacks] == [NOON]


async def test_the_settings_of_a_ledger_are_its_own(path: Path) -> None:
    """An inbox takes postbacks in with the opt-out rule that it was given."""
    rule = {"no more": True}.get
    async with PostbackInbox(path, opt_out_rule=lambda text: rule(text.text)) as inbox:
        await inbox.record(said("no more"))
        await inbox.take_in()
    async with SQLiteLedger(path) as ledger:
        assert await ledger.is_opted_out("15551234888")


async def test_an_unwritable_postback_is_answered_with_500(path: Path) -> None:
    """A postback that cannot be stored is answered with 500, and later taken."""
    async with (
        SQLiteLedger(path, look_every=math.inf),
        PostbackInbox(path, look_every=math.inf) as inbox,
    ):
        receiver = PostbackReceiver(ledger=inbox)
        connection: sqlite3.Connection = inbox._file._connection
        connection.execute("PRAGMA max_page_count = 1")
        large = notification(text="x" * 100_000)
        assert await status(receiver, content=large) == 500
        connection.execute("PRAGMA max_page_count = 1000000")
        assert await status(receiver, content=large) == 200


async def test_an_unforeseen_exception_is_raised_unchanged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception of the inbox is raised unchanged."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(InboxFile, "add", fail)
    async with PostbackInbox(path, look_every=math.inf) as inbox:
        with pytest.raises(ZeroDivisionError):
            await inbox.record(notice())


async def test_a_file_that_is_no_ledger_gets_no_inbox(tmp_path: Path) -> None:
    """A path that is no ledger is an error at the start, and no inbox is made."""
    rows = tmp_path / "rows.csv"
    write(rows, "to;name\n" * 100)
    with pytest.raises(LedgerError, match="is no ledger"):
        await PostbackInbox(rows).open()
    assert "rows.csv-inbox" not in files_in(tmp_path)
    with pytest.raises(LedgerError, match="there is no directory"):
        await PostbackInbox(tmp_path / "no" / "promo.db").open()


async def test_an_inbox_of_another_ledger_is_an_error_at_the_start(path: Path) -> None:
    """An inbox that has another ledger's postbacks is an error at the start."""
    async with PostbackInbox(path):
        pass
    async with SQLiteLedger(path, look_every=math.inf), PostbackInbox(path) as inbox:
        await inbox.record(notice())
    remove(path)
    with pytest.raises(LedgerError, match="has postbacks for another ledger"):
        await PostbackInbox(path).open()


async def test_a_ledger_that_was_moved_away_is_not_made_anew(path: Path) -> None:
    """A ledger that was moved away is not made anew; postbacks wait in the inbox."""
    elsewhere = path.with_name("elsewhere.db")
    async with PostbackInbox(path, look_every=math.inf) as inbox:
        move(path, elsewhere)
        await inbox.record(notice())
        await inbox.take_in()
        assert path.name not in files_in(path.parent)
        assert await inbox.count() == 1
        move(elsewhere, path)
        await inbox.take_in()
        assert await inbox.count() == 0


async def test_a_ledger_that_cannot_be_looked_for_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that cannot be accessed is an error, and postbacks stay in the inbox."""

    def fail(_path: Path, **_options: bool) -> None:
        raise PermissionError(13, "Permission denied")

    async with PostbackInbox(path, look_every=math.inf) as inbox:
        await inbox.record(notice())
        with monkeypatch.context() as patched:
            patched.setattr(Path, "stat", fail)
            patched.setattr(Path, "exists", lambda _path: False)  # as from Python 3.14 on
            with pytest.raises(LedgerError, match="cannot be used: Permission denied"):
                await inbox.take_in()
        assert await inbox.count() == 1


async def test_a_relative_path_is_that_of_when_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is resolved when given, also through symbolic links."""
    for name in ("one", "other"):
        make_directory(tmp_path / name)
    monkeypatch.chdir(tmp_path / "one")
    link("promo.db", tmp_path / "one" / "link.db")
    inbox = PostbackInbox("link.db", look_every=math.inf)
    monkeypatch.chdir(tmp_path / "other")
    async with inbox:
        await inbox.record(notice())
        await inbox.take_in()
        assert (inbox.holder(), await inbox.count()) == (None, 0)
    assert files_in(tmp_path / "other") == set()
    assert {"promo.db", "promo.db-inbox"} <= files_in(tmp_path / "one")


def make_directory(path: Path) -> None:
    path.mkdir()


def link(to: str, path: Path) -> None:
    path.symlink_to(to)


async def test_an_inbox_that_is_not_open_is_a_mistake_of_the_program(path: Path) -> None:
    """An inbox that is not open raises RuntimeError, and bad settings are refused."""
    inbox = PostbackInbox(path)
    with pytest.raises(RuntimeError, match="is not open"):
        await inbox.record(notice())
    with pytest.raises(TypeError, match=r"record\(\*parse_postback\(body\)\)"):
        await inbox.record((notice(),))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="look_every: 0 is not more than 0"):
        PostbackInbox(path, look_every=0)
    with pytest.raises(ConfigurationError, match="look_every: '1' is not more than 0"):
        PostbackInbox(path, look_every="1")  # type: ignore[arg-type]


@pytest.mark.slow
async def test_a_ledger_in_use_says_what_a_receiver_can_do(path: Path) -> None:
    """A receiver whose ledger is in use fails with the advice to give a path."""
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message)

    with owner(path):
        receiver = PostbackReceiver(ledger=SQLiteLedger(path))
        await receiver({"type": "lifespan"}, receive, send)
    assert "is in use" in told[0]["message"]
    assert "PostbackReceiver(ledger=PATH)" in told[0]["message"]


async def test_opening_the_ledger_waits_for_a_process_that_takes_in(path: Path) -> None:
    """Opening a ledger beside an inbox waits for a process that takes postbacks in."""
    waited: list[float] = []
    async with PostbackInbox(path, look_every=math.inf):
        ledger, taking = SQLiteLedger(path), SQLiteLedger(path, look_every=math.inf)
        await taking.open()

        async def sleep(seconds: float) -> None:
            waited.append(seconds)
            if sum(waited) > 2:
                await taking.aclose()

        ledger._sleep = sleep
        await ledger.open()
        await ledger.aclose()
        assert 2 < sum(waited) < 3
    remove(inbox_of(path))
    waited.clear()
    async with taking:
        with pytest.raises(LedgerInUse):
            await ledger.open()
    assert sum(waited) < 0.5
