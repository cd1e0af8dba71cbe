"""The cost of a ledger: durable steps per second, and the memory for a million messages.

A step is durable when `begin` or `finish` has returned.  The memory for recording
is measured in processes of their own: `python -m benchmarks.ledger PATH COUNT`
records COUNT messages, and prints the peak resident memory in bytes.  The file
with a million messages is then opened, as it is and after a crash.
"""

from __future__ import annotations

import functools
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Final

import anyio
import attrs

from skycore_async import MessageState, SkycoreClient, SQLiteLedger
from skycore_async.ledger.model import SendIntent, Submission

from . import earlier
from .harness import Figure, at_least, at_least_absolute, at_most_absolute, medians, peak
from .sending import KEY, MESSAGE, ROUNDS, per_second, send_all
from .server import running

CALLERS: Final = 100
STEPS: Final = 40_000
FEW: Final = 1000
MANY: Final = 1_000_000
UNDER_WAY: Final = 50  # messages, when a program ended


async def fill(ledger: SQLiteLedger, count: int) -> None:
    """Begin and finish so many messages, by a hundred callers."""
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            key, to, tracking_id = f"order-{number}", f"1555{number:07}", f"SMS_{number}"
            intent = SendIntent(
                key=key, content=bytes(16), to=to, from_="60856", started_at=time.time()
            )
            assert await ledger.begin(intent) is None
            raw = {"STATUS": "Success", "TRACKINGID": tracking_id, "TO": to}
            state = MessageState.ACCEPTED
            await ledger.finish(key, Submission(state=state, tracking_id=tracking_id, raw=raw))

    async with anyio.create_task_group() as group:
        for _ in range(CALLERS):
            group.start_soon(caller)


def _in_a_new_ledger(steps: Callable[[SQLiteLedger], Awaitable[None]], count: int) -> float:
    """Return how many of `count` a second are done by `steps`, the ledger being open already."""

    async def run() -> float:
        with tempfile.TemporaryDirectory() as directory:
            async with SQLiteLedger(Path(directory, "ledger.db")) as ledger:
                return await per_second(steps(ledger), count)

    return anyio.run(run)


def _durable_steps() -> float:
    return _in_a_new_ledger(functools.partial(fill, count=STEPS // 2), STEPS)


def _sent(url: str, *, with_ledger: bool, count: int = 2000) -> float:
    """Send through `send_many` over the default transport, and give messages per second."""
    messages = (attrs.evolve(MESSAGE, key=f"order-{number}") for number in range(count))

    async def run() -> float:
        async with AsyncExitStack() as stack:
            ledger = None
            if with_ledger:
                path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "ledger.db")
                ledger = await stack.enter_async_context(SQLiteLedger(path))
            client = await stack.enter_async_context(
                SkycoreClient(api_key=KEY, base_url=url, max_in_flight=CALLERS, ledger=ledger)
            )
            return await per_second(send_all(client, messages), count)

    return anyio.run(run)


async def _record(path: Path, count: int) -> None:
    async with SQLiteLedger(path) as ledger:
        await fill(ledger, count)
        assert (await ledger.summary()).total == count


def _megabytes(path: Path, count: int) -> float:
    """Record so many in a process of its own, and return its peak."""
    command = [sys.executable, "-m", "benchmarks.ledger", str(path), str(count)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own
    return int(run.stdout) / 1e6


def _opened(path: Path, under_way: int) -> float:
    """Return the milliseconds that opening takes where so many were under way."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE messages SET state = 'sending' WHERE id <= ?", (under_way,))

    async def run() -> float:
        ledger = SQLiteLedger(path)
        began = time.perf_counter()
        async with ledger:
            return (time.perf_counter() - began) * 1000

    return anyio.run(run)


def measure() -> Iterator[Figure]:
    """Send with a ledger and without, count durable steps, and hold a million messages."""
    # First, as what fills a process and its disk with records slows what comes after it.
    with running() as url:
        mine, plain = medians(
            functools.partial(_sent, url, with_ledger=True),
            functools.partial(_sent, url, with_ledger=False),
            rounds=21,
        )
    measured = f"SQLiteLedger, {CALLERS} in flight"
    yield at_least(0.85, measured, ours=mine, theirs=plain, unit="msg/s", against="no ledger")
    yield from earlier.measure_ledger()
    steps = statistics.median(_durable_steps() for _ in range(ROUNDS))
    measured = f"durable intents and outcomes, {CALLERS} callers"
    yield at_least_absolute(20_000, measured, steps, "/s")
    with tempfile.TemporaryDirectory() as directory:
        few = [_megabytes(Path(directory, f"few-{number}"), FEW) for number in range(3)]
        path = Path(directory, "many")
        over = _megabytes(path, MANY) - statistics.median(few)
        yield at_most_absolute(30, f"memory of {MANY:,} recorded over {FEW:,}", over, "MB")
        for under_way in (0, UNDER_WAY):
            took = statistics.median(_opened(path, under_way) for _ in range(ROUNDS))
            measured = f"opening {MANY:,} messages, {under_way} of them under way"
            yield at_most_absolute(2000, measured, took, "ms")


if __name__ == "__main__":
    anyio.run(_record, Path(sys.argv[1]), int(sys.argv[2]))
    print(peak())
