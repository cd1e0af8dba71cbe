"""A view of a ledger, which another process may have open, changes and blocks nothing."""

from __future__ import annotations

import errno
import math
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from skycore_async import SQLiteLedger
from skycore_async.errors import LedgerError, LedgerInUse
from skycore_async.ledger.model import MessageState, SendIntent
from skycore_async.ledger.sqlite import read_only
from skycore_async.ledger.sqlite.inbox_file import InboxFile, KeptPostback, inbox_of
from skycore_async.ledger.sqlite.read_only import LedgerView, looked_at
from skycore_async.ledger.sqlite.schema import APPLICATION_ID, VERSION
from tests.support.ledger_cases import NOON, notice
from tests.support.ledger_owner import end, kill, opened_elsewhere, owner, tell
from tests.support.on_asyncio import anyio_backend

__all__ = ["anyio_backend"]  # asyncio alone

pytestmark = pytest.mark.anyio

S = MessageState


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a ledger with characters that have a meaning in URIs."""
    return tmp_path / "promo 50% #1?.db"


async def seen(path: Path) -> dict[str, MessageState]:
    """Return the state of each message, as a view shows it."""
    async with looked_at(path) as ledger:
        return {delivery.key: delivery.state async for delivery in ledger.deliveries()}


def files(path: Path) -> dict[str, bytes]:
    """Return the content of all files of a ledger, with its lock and shared memory."""
    return {one.name: one.read_bytes() for one in path.parent.iterdir()}


@pytest.mark.slow
async def test_a_view_shows_what_the_owner_has_committed(path: Path) -> None:
    """A view shows committed states, with `sending` as it is, and changes no file."""
    with owner(path) as process:
        assert await seen(path) == {}
        tell(process, "a")
        tell(process, "b")
        before = files(path)
        assert await seen(path) == {"a": S.ACCEPTED, "b": S.SENDING}
        assert files(path) == before
        async with looked_at(path) as ledger:
            assert (await ledger.summary()).states == {S.ACCEPTED: 1, S.SENDING: 1}
            found = await ledger.delivery("Ta")
            assert found is not None
            assert found.key == "a"


def put(path: Path, tracking_id: str) -> None:
    """Put a postback into the inbox, as a receiver does."""
    inbox = InboxFile(path)
    inbox.open()
    inbox.add([KeptPostback.of([notice(tracking_id=tracking_id)], received=NOON)])
    inbox.close()


async def test_a_view_shows_what_receivers_have_left_for_the_next_opening(path: Path) -> None:
    """A view shows the postbacks in the inbox, and leaves the inbox as it is."""
    async with SQLiteLedger(path):
        pass
    put(path, "A")
    before = files(path)
    async with looked_at(path) as ledger:
        assert (await ledger.summary()).unplaced == 1
    assert files(path) == before


async def test_a_view_leaves_out_an_inbox_that_it_cannot_read(path: Path) -> None:
    """A view leaves out an inbox that it cannot read without writing."""
    async with SQLiteLedger(path):
        pass
    overwrite(inbox_of(path), b"no database")
    before = files(path)
    async with looked_at(path) as ledger:
        assert (await ledger.summary()).unplaced == 0
    assert files(path) == before


def overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


async def test_a_view_alone_waits_for_a_receiver_only_beside_an_inbox(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view that needs the ledger alone waits only if there is an inbox."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await holding.aclose()

    monkeypatch.setattr(anyio, "sleep", sleep)
    holding = SQLiteLedger(path, look_every=math.inf)
    async with holding:
        with pytest.raises(LedgerInUse):
            async with looked_at(path, alone=True):
                raise AssertionError
        assert pauses == []
        put(path, "A")
        async with looked_at(path, alone=True) as ledger:
            assert (await ledger.summary()).unplaced == 1
        assert len(pauses) == 1


async def test_the_owner_goes_on_and_ends_in_order_while_it_is_looked_at(path: Path) -> None:
    """A view sees new messages, and the owner goes on and closes undisturbed."""
    with owner(path) as process:
        async with LedgerView(path) as view:
            for key in ("a", "b", "c"):
                tell(process, key)
                found = await view.delivery(key=key)
                assert found is not None
                assert found.state is S.SENDING
            end(process)
            assert (await view.summary()).states == {S.ACCEPTED: 2, S.SENDING: 1}
            assert opened_elsewhere(path) == "it has 3 messages"
            assert (await view.summary()).states == {S.ACCEPTED: 2, S.IN_DOUBT: 1}
    assert opened_elsewhere(path) == "it has 3 messages"
    assert sorted(files(path)) == [path.name, f"{path.name}-lock"]
    assert await seen(path) == {"a": S.ACCEPTED, "b": S.ACCEPTED, "c": S.IN_DOUBT}


@pytest.mark.slow
async def test_where_the_owner_was_killed_it_is_in_doubt_and_left_as_it_is(path: Path) -> None:
    """A view of a killed process's ledger shows doubts and leaves the files as they are."""
    with owner(path) as process:
        tell(process, "a")
        tell(process, "b")
        assert await seen(path) == {"a": S.ACCEPTED, "b": S.SENDING}
        kill(process)
    before = files(path)
    assert before.keys() == {f"{path.name}{ending}" for ending in ("", "-lock", "-wal", "-shm")}
    for _ in range(2):
        assert await seen(path) == {"a": S.ACCEPTED, "b": S.IN_DOUBT}
        assert files(path) == before
    path.with_name(f"{path.name}-shm").unlink()  # as after a reboot, or copied elsewhere
    del before[f"{path.name}-shm"]
    assert await seen(path) == {"a": S.ACCEPTED, "b": S.IN_DOUBT}
    assert files(path) == before
    async with SQLiteLedger(path) as ledger:
        assert (await ledger.summary()).states == {S.ACCEPTED: 1, S.IN_DOUBT: 1}


async def test_a_ledger_that_was_closed_is_left_as_it_is(path: Path) -> None:
    """A view of a closed ledger changes no file, and cannot write."""
    async with SQLiteLedger(path) as ledger:
        to = "15551234888"
        await ledger.begin(SendIntent(key="a", content=b"", to=to, from_=None, started_at=1.8e9))
    path.with_name(f"{path.name}-lock").unlink()
    before = files(path)
    assert await seen(path) == {"a": S.IN_DOUBT}
    assert files(path) == before
    assert before.keys() == {path.name}
    async with looked_at(path) as view:
        with pytest.raises(LedgerError, match="is only looked at here: it can be read"):
            await view.opt_out("15551234888")
    assert files(path) == before


@pytest.mark.slow
async def test_a_copy_during_which_it_was_opened_is_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view copies again if the ledger was opened meanwhile, and gives up after some tries."""
    await (first := SQLiteLedger(path)).open()
    await first.aclose()
    copies = []

    def copied(source: Path, target: Path) -> None:
        copies.append(source)
        target.write_bytes(source.read_bytes())
        if len(copies) < times:
            with owner(path) as process:
                tell(process, f"k{len(copies)}")
                end(process)

    monkeypatch.setattr(read_only, "_PAUSE", 0)
    monkeypatch.setattr(read_only, "_ATTEMPTS", 3)
    monkeypatch.setattr("shutil.copyfile", copied)
    times = 2
    assert await seen(path) == {"k1": S.IN_DOUBT}
    assert len(copies) == 2
    times = 100
    with pytest.raises(LedgerError, match="is opened and closed all the time"):
        await seen(path)


async def test_no_room_for_a_copy_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for a view's copy is an error that names TMPDIR."""
    await (first := SQLiteLedger(path)).open()
    await first.aclose()
    for number, said in (
        (errno.ENOSPC, "has no room for a copy of .*TMPDIR"),
        (errno.EACCES, "cannot be read: Permission denied"),
    ):

        def fail(_source: Path, _target: Path, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("shutil.copyfile", fail)
        with pytest.raises(LedgerError, match=said):
            await seen(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_directory_that_cannot_be_written_can_be_looked_at(path: Path) -> None:
    """A view works in a read-only directory, also after a crash."""
    with owner(path) as process:
        tell(process, "a")
        kill(process)
    path.parent.chmod(0o500)
    try:
        assert await seen(path) == {"a": S.IN_DOUBT}
    finally:
        path.parent.chmod(0o700)


@pytest.mark.slow
async def test_a_view_cannot_write(path: Path) -> None:
    """Writing through a view raises LedgerError, and the owner's ledger is unchanged."""
    with owner(path) as process:
        tell(process, "a")
        before = files(path)
        async with LedgerView(path) as view:
            another = SendIntent(
                key="z", content=b"", to="15551234888", from_=None, started_at=1.8e9
            )
            with pytest.raises(LedgerError, match="is only looked at here: it can be read"):
                await view.begin(another)
            with pytest.raises(LedgerError, match="is only looked at here: it can be read"):
                await view.opt_out("15551234888")
        assert files(path) == before
        assert await seen(path) == {"a": S.SENDING}


async def test_one_who_starts_is_not_kept_out_by_a_short_look(path: Path) -> None:
    """Opening a ledger waits a moment for another one that closes soon."""
    async with SQLiteLedger(path) as short:

        async def end() -> None:
            await anyio.lowlevel.checkpoint()
            await short.aclose()

        async with anyio.create_task_group() as both:
            both.start_soon(end)
            async with SQLiteLedger(path) as long:
                assert (await long.summary()).total == 0


def make(path: Path, kind: int | None, version: int) -> None:
    """Make a database of some kind, or a text file."""
    if kind is None:
        path.write_text("name;number\n" * 100)
        return
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"PRAGMA application_id = {kind}")
        file.execute(f"PRAGMA user_version = {version}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "version", "said"),
    [
        (APPLICATION_ID, VERSION + 1, "made by a newer skycore-async"),
        (APPLICATION_ID, VERSION - 1, "is of an older version"),
        (1, 0, "is a database of something else"),
        (None, 0, "is no ledger, or is damaged"),
    ],
)
async def test_a_file_that_a_view_cannot_read_is_named(
    path: Path, kind: int | None, version: int, said: str
) -> None:
    """A view names a newer ledger, an older one, another database and a text file."""
    make(path, kind, version)
    with closing(sqlite3.connect(f"{path}-lock", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        before = files(path)
        with pytest.raises(LedgerError, match=said):
            await seen(path)
        assert files(path) == before


async def test_a_file_that_is_not_there_is_not_made(path: Path) -> None:
    """A view of a missing file raises LedgerError and makes no file."""
    view = LedgerView(path)
    with pytest.raises(LedgerError, match="cannot be read"):
        await view.open()
    await LedgerView(path).aclose()
    assert files(path) == {}
