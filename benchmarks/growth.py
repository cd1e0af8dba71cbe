"""The cost of a large ledger: to read it, and to send while somebody reads it.

Ledgers of ten thousand to five million messages are made in a temporary folder; nine in ten
messages are delivered, each with its receipt.  Each measurement is a process of its own:
`python -m benchmarks.growth WHAT PATH` prints what it took.  Times are CPU seconds, except the
waits of `begin`, which are as a sender sees them: the longest of some thousand.

`python -m benchmarks growth --rows N` leaves out larger ledgers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio

from skycore_async import MessageState, SQLiteLedger
from skycore_async.cli.app import skycore
from skycore_async.ledger.list_commands import CountMessages
from skycore_async.ledger.model import SendIntent, Submission
from skycore_async.ledger.sqlite.schema import migrate

from .harness import Figure, at_most_absolute, machine, peak, table

ROWS: Final = (10_000, 100_000, 1_000_000, 5_000_000)
_SECONDS: Final = 5.0  # for which messages are begun while somebody looks
_CALLERS: Final = 10


def make_ledger(path: Path, count: int) -> None:
    """Make a ledger of so many messages; its indexes come last, which is quicker."""
    script = Path(__file__).with_suffix(".sql").read_text("utf-8")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        migrate(connection, 0)
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.executescript(script.replace("{count}", str(count)))
        for _, statement in indexes:
            connection.execute(statement)


def make_rows(path: Path, count: int) -> None:
    """Write a file of so many recipients."""
    with path.open("w") as rows:
        rows.write("to,name,code\n")
        rows.writelines(f"1555{n:07},Somebody {n % 977},{n}\n" for n in range(count))


# In a process of its own.


async def _do_nothing(_ledger: SQLiteLedger) -> None:
    await anyio.sleep_forever()


async def _summary(ledger: SQLiteLedger) -> None:
    await ledger.summary()


async def _deliveries(ledger: SQLiteLedger) -> None:
    async for _ in ledger.deliveries(MessageState.DELIVERED):
        pass


async def _report(ledger: SQLiteLedger) -> None:
    after: int | None = 0
    while after is not None:
        after = (await ledger.run(CountMessages(step=60, after=after))).last


LOOKS: Final[dict[str, Callable[[SQLiteLedger], Awaitable[None]]]] = {
    "nothing": _do_nothing,
    "summary": _summary,
    "deliveries": _deliveries,
    "report": _report,
}


@contextlib.asynccontextmanager
async def _looking(ledger: SQLiteLedger, look: str) -> AsyncIterator[None]:
    async def again() -> None:
        while True:
            await LOOKS[look](ledger)

    async with anyio.create_task_group() as group:
        group.start_soon(again)
        yield
        group.cancel_scope.cancel()


async def _longest_wait(path: Path, look: str, seconds: float) -> float:
    """Return the most milliseconds that a `begin` waited while somebody looks."""
    longest, until = 0.0, time.monotonic() + seconds

    async def send(ledger: SQLiteLedger, caller: int) -> None:
        nonlocal longest
        count = 0
        while time.monotonic() < until:
            key, count = f"{look}-{caller}-{count}", count + 1
            intent = SendIntent(
                key=key, content=bytes(17), to="15551234567", from_=None, started_at=time.time()
            )
            began = time.perf_counter()
            await ledger.begin(intent)
            longest = max(longest, time.perf_counter() - began)
            await ledger.finish(key, Submission(state=MessageState.ACCEPTED, tracking_id=key))

    async with (
        SQLiteLedger(path) as ledger,
        _looking(ledger, look),
        anyio.create_task_group() as group,
    ):
        for caller in range(_CALLERS):
            group.start_soon(send, ledger, caller)
    return longest * 1000


async def _summed_up(path: Path) -> float:
    """Return the milliseconds that a summary takes."""
    async with SQLiteLedger(path) as ledger:
        began = time.process_time()
        await ledger.summary()
        return (time.process_time() - began) * 1000


def _command(*arguments: str) -> float:
    """Return the seconds that a command takes, and print nothing of it."""
    began = time.process_time()
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        contextlib.suppress(SystemExit),  # with its exit code
    ):
        skycore(list(arguments))
    return time.process_time() - began


def run(what: str, path: str) -> float:
    """Do what is measured, and return what it took."""
    match what.split():
        case ["wait", look, seconds]:
            return anyio.run(_longest_wait, Path(path), look, float(seconds))
        case ["summary"]:
            return anyio.run(_summed_up, Path(path))
        case ["status"]:
            return _command("status", path, "--state", "delivered", "--json")
        case ["report"]:
            return _command("report", path, "--json")
        case _:
            return _command("bulk", path, "--text", "Hi {name}, your code is {code}", "--dry-run")


# All together.


def _took(what: str, path: Path) -> tuple[float, float]:
    """Return what was measured in a process of its own, and the megabytes that it held at most."""
    command = [sys.executable, "-m", "benchmarks.growth", what, str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own
    took, most = map(float, done.stdout.split())
    return took, most / 1e6


def measured(count: int, *, seconds: float = _SECONDS) -> Iterator[Figure]:
    """Measure all of it with so many rows."""
    millions = count / 1e6
    with tempfile.TemporaryDirectory() as directory:
        ledger, rows = Path(directory, "ledger.db"), Path(directory, "rows.csv")
        make_ledger(ledger, count)
        of = f"{count:,} messages"
        took, _ = _took("summary", ledger)
        yield at_most_absolute(100, f"{of}: `summary()`", took, "ms")
        took, most = _took("status", ledger)
        each = took * 1e6 / (count * 0.9)
        yield at_most_absolute(15 + 1e6 / count, f"{of}: `status --state`, a row", each, "µs")
        took, most = _took("report", ledger)
        yield at_most_absolute(round(1 + 4 * millions, 2), f"{of}: `report`", took, "s")
        yield at_most_absolute(60, f"{of}: `report`, memory", most, "MB")
        for look in LOOKS:
            took, _ = _took(f"wait {look} {seconds}", ledger)
            yield at_most_absolute(20, f"{of}: longest `begin` beside {look}", took, "ms")
        make_rows(rows, count)
        took, most = _took("rows", rows)
        yield at_most_absolute(round(1 + 6 * millions, 2), f"{of}: `bulk --dry-run`", took, "s")
        yield at_most_absolute(40, f"{of}: `bulk --dry-run`, memory", most, "MB")


def measure(most: int = ROWS[-1]) -> Iterator[Figure]:
    """Measure all of it with ten thousand rows, and more, up to so many."""
    for count in ROWS:
        if count <= most:
            yield from measured(count)


def main(arguments: Sequence[str]) -> int:
    """Run it for as many rows as is said, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks growth")
    parser.add_argument("--rows", type=int, default=ROWS[-1], help="the most rows")
    figures = list(measure(parser.parse_args(arguments).rows))
    print(table(figures))
    print(f"\n{machine('attrs', 'anyio')}, SQLite {sqlite3.sqlite_version}")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    print(run(sys.argv[1], sys.argv[2]), peak())
