"""One side of a comparison with an earlier build: a program that sends by the build on PYTHONPATH.

`python -P benchmarks/side.py TRANSPORT URL COUNT [LEDGER]` sends COUNT messages, 100 in flight,
and prints the messages per second and the microseconds of CPU for each message.  TRANSPORT is the
name of a public class, or `at_once` for a transport that answers at once.

Rule: it uses only names that both builds have, and no other module of the benchmarks.
"""

from __future__ import annotations

import gc
import itertools
import sys
import time
from contextlib import AsyncExitStack
from typing import Any, Final

import anyio

import skycore_async
from skycore_async import SMS, Accepted, Request, Response, SkycoreClient, SQLiteLedger

IN_FLIGHT: Final = 100
KEY: Final = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"  # the example of the provider's page
ANSWER: Final = (
    b"<RESPONSE><STATUS>Success</STATUS><TRACKINGID>SMS_10000000</TRACKINGID>"
    b"<TO>15551234888</TO></RESPONSE>"
)


class AtOnce:
    """A transport that answers at once, so that what is left is the client's own work.

    Each answer has a tracking id of its own where they are recorded: a ledger takes those that
    have one in common one by one.
    """

    def __init__(self, *, is_recorded: bool = False) -> None:
        first, _, rest = ANSWER.partition(b"10000000")
        ids = itertools.count(10_000_000)
        own = (b"%b%d%b" % (first, id_, rest) for id_ in ids)
        self._answers = own if is_recorded else itertools.repeat(ANSWER)

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Answer Success."""
        return Response(status=200, headers={}, body=next(self._answers))

    async def aclose(self) -> None:
        """Close nothing."""


def _message(key: str | None) -> SMS:
    text = "Hello Jerry, Greetings from Marc"
    return SMS(to="15551234888", text=text, from_="60856", key=key)


async def _send_all(client: SkycoreClient, count: int, *, run: str, is_recorded: bool) -> None:
    messages = (_message(f"{run}-{each}" if is_recorded else None) for each in range(count))
    async with client.send_many(messages) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, Accepted), outcome


async def _measure(transport: Any, url: str, count: int, path: str | None) -> None:
    async with AsyncExitStack() as stack:
        ledger = None if path is None else await stack.enter_async_context(SQLiteLedger(path))
        client = SkycoreClient(
            api_key=KEY, base_url=url, max_in_flight=IN_FLIGHT, transport=transport, ledger=ledger
        )
        await stack.enter_async_context(client)
        is_recorded = ledger is not None
        await _send_all(client, IN_FLIGHT, run="first", is_recorded=is_recorded)  # which connects
        gc.collect()  # what is left of the start: 25 ms, which only one side may meet below
        began, used = time.perf_counter(), time.process_time()
        await _send_all(client, count, run="then", is_recorded=is_recorded)
        took, used = time.perf_counter() - began, time.process_time() - used
    print(count / took, used / count * 1e6)


def main(transport: str, url: str, count: str, path: str | None = None) -> None:
    """Send over a transport of the build that was found."""
    at_once = transport == "at_once"
    made = AtOnce(is_recorded=path is not None) if at_once else getattr(skycore_async, transport)()
    anyio.run(_measure, made, url, int(count), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
