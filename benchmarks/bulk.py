"""The cost of `skycore bulk` from end to end, against a short program that sends the same file.

Both send each row once, under a key, over `DirectTransport` and with a ledger in a file.  The
program reads the file with the standard library's csv, and checks nothing beforehand; the command
also makes the estimate, looks up keys, and writes rejects and the account of the run.

`python -m benchmarks.bulk WAY FILE URL FOLDER` is one side, with its ledger in FOLDER; it prints
the seconds of CPU that it took.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import anyio

from skycore_async import SMS, Accepted, DirectTransport, MessageState, SkycoreClient, SQLiteLedger
from skycore_async.cli.app import skycore

from .growth import make_rows
from .harness import Figure, at_most, medians
from .server import running

COUNT: Final = 200_000
_ROUNDS: Final = 3
# It names no recipient, as each has another.
_ANSWER: Final = (
    "<RESPONSE><STATUS>Success</STATUS><TRACKINGID>SMS_10000000</TRACKINGID></RESPONSE>"
)
_KEY: Final = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"  # the example of the provider's page


def _command(file: str, url: str) -> None:
    options = ["--text", "Hi {name}, your code is {code}", "--from", "60856", "--yes"]
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.suppress(SystemExit),  # with its exit code
    ):
        skycore(["bulk", file, *options, "--base-url", url, "--ledger", "sent.db"])


def _messages(file: str) -> Iterator[SMS]:
    with Path(file).open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            text = f"Hi {row['name']}, your code is {row['code']}"
            yield SMS(to=row["to"], text=text, from_="60856", key=f"rows:{row['to']}")


async def _send(file: str, url: str) -> None:
    async with (
        SQLiteLedger("sent.db") as ledger,
        SkycoreClient(
            api_key=_KEY, base_url=url, transport=DirectTransport(), ledger=ledger
        ) as client,
        client.send_many(_messages(file)) as outcomes,
    ):
        async for outcome in outcomes:
            assert isinstance(outcome, Accepted), outcome


def _by_hand(file: str, url: str) -> None:
    anyio.run(_send, file, url)


_WAYS: Final[dict[str, Callable[[str, str], None]]] = {"command": _command, "by_hand": _by_hand}


async def _accepted(path: Path) -> int:
    async with SQLiteLedger(path) as ledger:
        return (await ledger.summary()).states.get(MessageState.ACCEPTED, 0)


def _side(way: str, file: Path, url: str, count: int) -> float:
    """Send in a program of its own, and return the CPU of a row in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.bulk", way, str(file), url, folder]
        environment = {**os.environ, "SKYCORE_API_KEY": _KEY, "SKYCORE_HOME": folder}
        run = subprocess.run(  # noqa: S603 - our own interpreter and our own program
            command, check=True, stdout=subprocess.PIPE, env=environment
        )
        assert anyio.run(_accepted, Path(folder, "sent.db")) == count
        return float(run.stdout) / count * 1e6


def measure(count: int = COUNT) -> Iterator[Figure]:
    """Send a file in both ways."""
    with tempfile.TemporaryDirectory() as folder, running(body=_ANSWER) as url:
        file = Path(folder, "rows.csv")
        make_rows(file, count)
        ours, theirs = medians(
            functools.partial(_side, "command", file, url, count),
            functools.partial(_side, "by_hand", file, url, count),
            rounds=_ROUNDS,
        )
    yield at_most(
        1.1,
        f"`skycore bulk`, {count:,} rows: CPU of a row",
        ours=ours,
        theirs=theirs,
        unit="µs",
        against="send_many, by hand",
    )


if __name__ == "__main__":
    os.chdir(sys.argv[4])
    began = time.process_time()
    _WAYS[sys.argv[1]](sys.argv[2], sys.argv[3])
    print(time.process_time() - began)
