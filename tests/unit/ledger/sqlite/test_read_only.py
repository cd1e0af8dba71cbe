"""A look at a ledger that another process has open: nothing is changed, nobody is in the way."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from skycore_async import SQLiteLedger
from skycore_async.errors import LedgerError
from skycore_async.ledger.model import MessageState, SendIntent
from skycore_async.ledger.sqlite.read_only import LedgerView, looked_at
from skycore_async.ledger.sqlite.schema import APPLICATION_ID, VERSION

pytestmark = pytest.mark.anyio

S = MessageState
# An owner that begins a message for each line it reads, tells of it, and finishes it at the next.
OWNER = """
import sys, anyio
from skycore_async import SQLiteLedger
from skycore_async.ledger.model import MessageState, SendIntent, Submission

async def main():
    before = None
    async with SQLiteLedger(sys.argv[1]) as ledger:
        print("open", flush=True)
        while line := (await anyio.to_thread.run_sync(sys.stdin.readline)).strip():
            if before:
                taken = Submission(state=MessageState.ACCEPTED, tracking_id=f"T{before}")
                await ledger.finish(before, taken)
            before = line
            to = "15551234888"
            await ledger.begin(
                SendIntent(key=line, content=b"", to=to, from_=None, started_at=1.8e9)
            )
            print(line, flush=True)

anyio.run(main)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a ledger, with what a URI has other meanings for in its name."""
    return tmp_path / "promo 50% #1?.db"


@contextmanager
def owner(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run an owner, whose ledger is open then."""
    command = [sys.executable, "-W", "error", "-c", OWNER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload] # noqa: S603
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], key: str) -> None:
    """Let the owner begin a message, and wait until it has."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{key}\n")
    process.stdin.flush()
    assert process.stdout.readline() == f"{key}\n"


async def seen(path: Path) -> dict[str, MessageState]:
    """Look at all of a ledger."""
    async with looked_at(path) as ledger:
        return {delivery.key: delivery.state async for delivery in ledger.deliveries()}


def files(path: Path) -> dict[str, bytes]:
    """Return all that is written of a ledger; the shared memory beside it has locks and marks."""
    return {
        one.name: one.read_bytes()
        for one in path.parent.iterdir()
        if not one.name.endswith("-shm")
    }


@pytest.mark.slow
async def test_it_shows_what_the_owner_has_committed(path: Path) -> None:
    """What is being sent is being sent; nothing on the disk is changed by looking."""
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


async def test_the_owner_goes_on_and_ends_in_order_while_it_is_looked_at(path: Path) -> None:
    """An onlooker sees what is new, and costs the owner nothing, not at its end either."""
    with owner(path) as process:
        async with LedgerView(path) as view:
            for key in ("a", "b", "c"):
                tell(process, key)
                found = await view.delivery(key=key)
                assert found is not None
                assert found.state is S.SENDING
            process.communicate("\n", timeout=20)
            assert process.returncode == 0
            assert (await view.summary()).states == {S.ACCEPTED: 2, S.SENDING: 1}
            async with SQLiteLedger(path) as ledger:
                assert (await ledger.summary()).states == {S.ACCEPTED: 2, S.IN_DOUBT: 1}
            assert (await view.summary()).states == {S.ACCEPTED: 2, S.IN_DOUBT: 1}
    assert await seen(path) == {"a": S.ACCEPTED, "b": S.ACCEPTED, "c": S.IN_DOUBT}
    assert sorted(files(path)) == [path.name, f"{path.name}-lock"]


@pytest.mark.slow
async def test_where_the_owner_was_killed_it_is_in_doubt(path: Path) -> None:
    """Nobody is sending any more: it is opened in order."""
    with owner(path) as process:
        tell(process, "a")
        assert await seen(path) == {"a": S.SENDING}
        process.kill()
        process.wait()
        assert await seen(path) == {"a": S.IN_DOUBT}


@pytest.mark.slow
async def test_nothing_can_be_changed_through_it(path: Path) -> None:
    """What would write is an error, and the owner's ledger is as it was."""
    with owner(path) as process:
        tell(process, "a")
        before = files(path)
        async with LedgerView(path) as view:
            another = SendIntent(
                key="z", content=b"", to="15551234888", from_=None, started_at=1.8e9
            )
            for change in (view.begin(another), view.opt_out("15551234888")):
                with pytest.raises(LedgerError, match="is in use: here it can be read"):
                    await change
        assert files(path) == before
        assert await seen(path) == {"a": S.SENDING}


async def test_one_who_starts_is_not_kept_out_by_a_short_look(path: Path) -> None:
    """Who opens a ledger waits a moment for one who has it for a moment."""
    async with SQLiteLedger(path) as short:

        async def end() -> None:
            await anyio.lowlevel.checkpoint()
            await short.aclose()

        async with anyio.create_task_group() as both:
            both.start_soon(end)
            async with SQLiteLedger(path) as long:
                assert (await long.summary()).total == 0


def make(path: Path, kind: int | None, version: int) -> None:
    """Make a database of some kind, or a file that is none."""
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
async def test_what_it_cannot_read_is_said(
    path: Path, kind: int | None, version: int, said: str
) -> None:
    """While a process has the file: a newer ledger, an older one, and what is none."""
    make(path, kind, version)
    with closing(sqlite3.connect(f"{path}-lock", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        before = files(path)
        with pytest.raises(LedgerError, match=said):
            await seen(path)
        assert files(path) == before


async def test_a_file_that_is_not_there_is_not_made(path: Path) -> None:
    """Looking never makes a ledger."""
    view = LedgerView(path)
    with pytest.raises(LedgerError, match="cannot be read"):
        await view.open()
    await LedgerView(path).aclose()
    assert files(path) == {}
