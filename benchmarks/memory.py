"""The memory that `send_many` takes for a million messages, less that for ten thousand.

Each run is a process of its own, fed by a generator of distinct messages and
answered at once: `python -m benchmarks.memory COUNT` sends COUNT messages, and
prints the peak resident memory in bytes.  On Linux this is VmHWM, because
`ru_maxrss` starts there at the peak of the parent process.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import anyio

from skycore_async import SMS, Accepted, SkycoreClient

from .harness import Figure, at_most_absolute, peak
from .sending import KEY, MESSAGE
from .side import AtOnce

FEW: Final = 10_000
MANY: Final = 1_000_000
ROUNDS: Final = 3  # of the few; one of the many takes a minute


def _messages(count: int) -> Iterator[SMS]:
    for number in range(count):
        # To one number, which is that of the answer.
        yield SMS(to=MESSAGE.to, text=f"Hello, your number is {number}", from_="60856")


async def _send(count: int) -> None:
    client = SkycoreClient(api_key=KEY, max_in_flight=100, transport=AtOnce())
    async with client, client.send_many(_messages(count)) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, Accepted), outcome


def _megabytes(count: int) -> float:
    """Send so many in a process of its own, and return its peak."""
    command = [sys.executable, "-m", "benchmarks.memory", str(count)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own
    return int(run.stdout) / 1e6


def measure() -> Iterator[Figure]:
    """Send ten thousand messages, and a million."""
    few = statistics.median(_megabytes(FEW) for _ in range(ROUNDS))
    yield at_most_absolute(20, f"memory of {MANY:,} over {FEW:,}", _megabytes(MANY) - few, "MB")


if __name__ == "__main__":
    anyio.run(_send, int(sys.argv[1]))
    print(peak())
