"""How well processes that share a rate keep it together, and how equally they share it.

Each process sends through a client and a `PostgresLimiter` of its own; the
simulator in this process notes when each message came.  `python -m
benchmarks.shared_pace URL DSN PROCESS SECONDS` is a sender: it says when it is
ready, waits for the word to start, and sends for SECONDS.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import anyio
import attrs

from skycore_async import SMS, Accepted, PostgresLimiter, SkycoreClient
from skycore_async.simulator import API_KEY, SHORT_CODE, Simulator

from . import postgres
from .harness import Figure, at_most_absolute
from .pace import most_in_a_second

PROCESSES: Final = 4
RATE: Final = 1000
BURST: Final = 20
SECONDS: Final = 10.0
IN_FLIGHT: Final = 50


@attrs.frozen(kw_only=True)
class Verdict:
    """What the simulator saw.

    `off` is how far their number is from what the rate allows in that time, and
    `unfair` how far the worst share is from the mean, both in percent; `most`
    is the most that came in any second.
    """

    off: float
    most: int
    unfair: float


async def _send(url: str, dsn: str, process: int, seconds: float) -> None:
    async with (
        PostgresLimiter(dsn, "shared", RATE, BURST) as limiter,
        SkycoreClient(
            api_key=API_KEY,
            from_=SHORT_CODE,
            base_url=url,
            rate=limiter,
            max_in_flight=IN_FLIGHT,
        ) as client,
    ):
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        async with client.send_many(_messages(process, seconds)) as outcomes:
            async for outcome in outcomes:
                assert isinstance(outcome, Accepted), outcome


def _messages(process: int, seconds: float) -> Iterator[SMS]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield SMS(to=_number(process), text="Hello")


def _number(process: int) -> str:
    return f"1555123{process:04}"


def verdict(dsn: str, *, seconds: float) -> Verdict:
    """Send for so long from all processes at once, and judge what came."""
    with Simulator(behaviours={}) as skycore, ExitStack() as stack:
        senders = [
            stack.enter_context(_sender(skycore.url, dsn, process, seconds))
            for process in range(PROCESSES)
        ]
        for sender in senders:
            assert sender.stdout is not None
            assert sender.stdout.readline() == "ready\n"
        for sender in senders:
            assert sender.stdin is not None
            sender.stdin.write("go\n")
            sender.stdin.flush()
        assert not any(sender.wait() for sender in senders), "a sender failed"
        came = [(message.to, message.time.timestamp()) for message in skycore.messages]
    return judged(came, seconds=seconds)


def judged(came: Sequence[tuple[str, float]], *, seconds: float) -> Verdict:
    """Judge what came in so many seconds: whose, and when."""
    shares = Counter(number for number, _ in came)
    fair = len(came) / PROCESSES
    worst = max(abs(shares[_number(process)] - fair) for process in range(PROCESSES))
    return Verdict(
        off=abs((len(came) - BURST) / (RATE * seconds) - 1) * 100,
        most=most_in_a_second(sorted(time for _, time in came)),
        unfair=worst / fair * 100,
    )


def _sender(url: str, dsn: str, process: int, seconds: float) -> subprocess.Popen[str]:
    command = ["-m", "benchmarks.shared_pace", url, dsn, str(process), str(seconds)]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
        [sys.executable, *command],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def measure() -> Iterator[Figure]:
    """Send for ten seconds at 1,000 a second from four processes."""
    with postgres.running() as server:
        found = verdict(server.dsn(), seconds=SECONDS)
    where = f"{PROCESSES} processes at {RATE:,} msg/s together"
    yield at_most_absolute(2, f"{where}, off", found.off, "%")
    yield at_most_absolute(RATE + BURST, f"{where}, most in 1 s", found.most, "messages")
    yield at_most_absolute(10, f"{where}, worst share off", found.unfair, "%")


if __name__ == "__main__":
    anyio.run(_send, sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
