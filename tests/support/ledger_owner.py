"""Another process that has a ledger open, begins messages as it is told, and can be killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from anyio import to_thread

from skycore_async import LedgerError, SQLiteLedger
from skycore_async.ledger.model import MessageState, SendIntent, Submission
from tests.support.other_process import OtherProcess, running


async def own(pipe: Connection, path: Path) -> None:
    """Begin a message for each key received, confirm it, and finish it at the next key."""
    before = None
    async with SQLiteLedger(path) as ledger:
        pipe.send("open")
        while key := cast("str", await to_thread.run_sync(pipe.recv)):
            if before:
                taken = Submission(state=MessageState.ACCEPTED, tracking_id=f"T{before}")
                await ledger.finish(before, taken)
            before, to = key, "15551234888"
            await ledger.begin(
                SendIntent(key=key, content=b"", to=to, from_=None, started_at=1.8e9)
            )
            pipe.send(key)


async def look(pipe: Connection, path: Path) -> None:
    """Send the number of messages in a ledger, or why the ledger does not open."""
    try:
        async with SQLiteLedger(path) as ledger:
            count = (await ledger.summary()).total
    except LedgerError as error:
        pipe.send(f"{type(error).__name__}: {error}")
    else:
        pipe.send(f"it has {count} messages")


@contextmanager
def owner(path: Path) -> Iterator[OtherProcess]:
    """Run an owner, whose ledger is open then."""
    with running(own, path) as process:
        assert process.pipe.recv() == "open"
        yield process


def tell(process: OtherProcess, key: str) -> None:
    """Let the owner begin a message, and wait for its confirmation."""
    process.pipe.send(key)
    assert process.pipe.recv() == key


def end(process: OtherProcess) -> None:
    """Let the owner close its ledger and end."""
    process.pipe.send("")
    assert process.exit_code() == 0


def kill(process: OtherProcess) -> None:
    """Kill the owner's process, and wait until it has ended."""
    process.process.kill()
    process.process.join()


def opened_elsewhere(path: Path) -> str:
    """Open and close the ledger in another process, and return its answer."""
    with running(look, path) as process:
        said = process.pipe.recv()
        assert process.exit_code() == 0
    assert isinstance(said, str)
    return said
