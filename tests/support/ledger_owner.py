"""Another process that has a ledger open, begins messages as it is told, and can be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Begins a message for each line it reads, says so, and finishes it at the next line.
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
OPENING = """
import sys, anyio
from skycore_async import LedgerError, SQLiteLedger

async def main():
    async with SQLiteLedger(sys.argv[1]) as ledger:
        return (await ledger.summary()).total

try:
    print(f"it has {anyio.run(main)} messages")
except LedgerError as error:
    print(f"{type(error).__name__}: {error}")
"""


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


def kill(process: subprocess.Popen[str]) -> None:
    """End the owner where it stands, and wait until it has ended."""
    process.kill()
    process.wait()


def opened_elsewhere(path: Path) -> str:
    """Return what another process says that opens the ledger, and closes it."""
    command = [sys.executable, "-W", "error", "-c", OPENING, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.strip()
