"""The time and memory to settle a ledger of a million messages by a report of as many.

A thousand of the messages are in doubt, and half of these were sent.  The report is a file, read
as `skycore settle --report` reads one.  It runs in a process of its own:
`python -m benchmarks.settling LEDGER REPORT` prints the seconds that it took, the bytes by which
the peak resident memory grew, and how many messages were found sent and not sent.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio

from skycore_async import ReportedMessage, SQLiteLedger
from skycore_async.ledger.sqlite.schema import migrate
from skycore_async.ledger.texts import digest_of
from skycore_async.protocol.report_reader import ReportReader
from skycore_async.sending.settling import ReportSettling

from .harness import Figure, at_most_absolute, peak

MESSAGES: Final = 1_000_000
DOUBTS: Final = 1000
NOON: Final = 1_700_000_000.0
RATE: Final = 100  # messages a second
_AT_A_TIME: Final = 64 * 1024
_INSERT: Final = (
    "INSERT INTO messages (key, content, recipient, sender, state, started_at, ended_at,"
    " tracking_id, plain_id, raw, text_digest) VALUES (?, x'02', ?, '60856', ?, ?, ?, ?, ?, ?, ?)"
)


def _number(n: int) -> str:
    return f"1{2_000_000_000 + n * 7_919 % 7_999_999_993}"


def _text(n: int) -> str:
    return f"Hello number {n}, this is a message of the usual length of an SMS, and no more"


def _is_doubt(n: int, count: int, doubts: int) -> bool:
    every = count // doubts
    return n % every == every // 2


def make_ledger(path: Path, count: int, doubts: int) -> None:
    """Make a ledger of so many messages, of which so many are in doubt."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        migrate(connection, 0)
        connection.executemany(
            _INSERT,
            (
                (
                    f"k{n}",
                    _number(n),
                    "in_doubt" if (doubt := _is_doubt(n, count, doubts)) else "accepted",
                    NOON + n / RATE,
                    NOON + n / RATE + 0.1,
                    None if doubt else f"SMS_{n}",
                    None if doubt else f"SMS_{n}",
                    None if doubt else f'"{_number(n)}"',
                    digest_of(_text(n)),
                )
                for n in range(count)
            ),
        )
        connection.execute("COMMIT")


def make_report(path: Path, count: int, doubts: int) -> None:
    """Write a report of all that was accepted, and of every other doubt."""
    with path.open("w", encoding="utf-8") as file:
        file.write("<RESPONSE>\n<SENDING_LIST>\n")
        for n in range(count):
            if _is_doubt(n, count, doubts) and n * doubts // count % 2:
                continue
            when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOON + n / RATE))
            file.write(
                f'<TEXT id="{n}" to="{_number(n)}" carrier="AT&T" text="{_text(n)}">\n'
                f'<ACK gw="10" net="0" time="{when}.327558Z">\n</TEXT>\n'
            )
        file.write("</SENDING_LIST>\n</RESPONSE>\n")


async def _messages(path: Path) -> AsyncIterator[ReportedMessage]:
    reader = ReportReader()
    with path.open("rb") as file:
        while chunk := file.read(_AT_A_TIME):
            for message in reader.feed(chunk):
                yield message
    for message in reader.finish():
        yield message
    assert reader.is_complete, reader.problem


async def _settle(ledger_path: Path, report: Path) -> None:
    async with SQLiteLedger(ledger_path) as ledger:
        before, began = peak(), time.perf_counter()
        async with ReportSettling(ledger) as settling:
            await settling.read(
                _messages(report), since=NOON - 10_000, until=NOON + 1e6, made_at=NOON + 1e6
            )
            found = await settling.end()
        took = time.perf_counter() - began
        print(took, peak() - before, len(found.sent), len(found.not_sent))


def settled(count: int, doubts: int) -> tuple[float, float]:
    """Settle so many doubts, and return the seconds and the megabytes that it took."""
    with tempfile.TemporaryDirectory() as directory:
        ledger, report = Path(directory, "ledger.db"), Path(directory, "report.xml")
        make_ledger(ledger, count, doubts)
        make_report(report, count, doubts)
        command = [sys.executable, "-m", "benchmarks.settling", str(ledger), str(report)]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own
    took, grown, sent, not_sent = map(float, run.stdout.split())
    assert (sent, not_sent) == (doubts / 2, doubts / 2), (sent, not_sent)
    return took, grown / 1e6


def measure() -> Iterator[Figure]:
    """Settle a thousand doubts among a million messages."""
    took, grown = settled(MESSAGES, DOUBTS)
    measured = f"settling {DOUBTS:,} doubts of {MESSAGES:,} messages by a report of all"
    yield at_most_absolute(90, measured, took, "s")
    yield at_most_absolute(100, f"{measured}: memory", grown, "MB")


if __name__ == "__main__":
    anyio.run(_settle, Path(sys.argv[1]), Path(sys.argv[2]))
