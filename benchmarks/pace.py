"""How well `send_many` keeps a rate: not slower than the rate, and never faster.

The default transport sends to a server on loopback, which runs in a process
of its own.  A start is counted when a message is handed to the transport.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from typing import Final

import anyio

from skycore_async import Accepted, HttpxTransport, Request, Response, SkycoreClient

from .harness import Figure, at_most_absolute
from .sending import KEY, MESSAGE
from .server import running

RATE: Final = 500
BURST: Final = 1
COUNT: Final = 5000
IN_FLIGHT: Final = 100


class _Noting:
    """The default transport, and when each message was handed to it."""

    def __init__(self) -> None:
        self._road = HttpxTransport()
        self.starts: list[float] = []

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Note the time, and send."""
        self.starts.append(time.monotonic())
        return await self._road.send(request, timeout=timeout)

    async def aclose(self) -> None:
        """Close the default transport."""
        await self._road.aclose()


def most_in_a_second(starts: Sequence[float]) -> int:
    """Return the most of these growing times that any [t, t + 1) holds."""
    most = first = 0
    for last, start in enumerate(starts):
        while starts[first] + 1 <= start:
            first += 1
        most = max(most, last - first + 1)
    return most


async def _send(url: str) -> tuple[float, list[float]]:
    """Send them all, and return the seconds that took and when each started."""
    transport = _Noting()
    client = SkycoreClient(
        api_key=KEY,
        base_url=url,
        rate=RATE,
        burst=BURST,
        max_in_flight=IN_FLIGHT,
        transport=transport,
    )
    began = time.monotonic()
    async with client, client.send_many(MESSAGE for _ in range(COUNT)) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, Accepted), outcome
        return time.monotonic() - began, transport.starts


def measure() -> Iterator[Figure]:
    """Send for ten seconds at 500 a second."""
    with running() as url:
        took, starts = anyio.run(functools.partial(_send, url))
    due = (COUNT - BURST) / RATE
    pace = f"{COUNT:,} at {RATE} msg/s"
    yield at_most_absolute(1, f"{pace}, time off", abs(took / due - 1) * 100, "%")
    yield at_most_absolute(
        RATE + BURST, f"{pace}, most in 1 s", most_in_a_second(starts), "starts"
    )
