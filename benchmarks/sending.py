"""Messages sent per second, against programs that use an HTTP library directly.

Every side sends the same body to the same server, which runs in a process of
its own, and parses the same answer.  Every client and its connections are made before
the clock starts, since certificates and handshakes take time.
"""

from __future__ import annotations

import functools
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import xmltodict

from skycore_async import (
    SMS,
    Accepted,
    DirectTransport,
    HttpxTransport,
    SkycoreClient,
    Transport,
)
from skycore_async.protocol import requests
from skycore_async.runtime.extras import missing
from tests.support.fault_server import CHAIN, client_context

from . import earlier
from .harness import Figure, at_least, medians
from .server import running

MESSAGE = SMS(to="15551234888", text="Hello Jerry, Greetings from Marc", from_="60856")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
KEY = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"  # the example of the provider's page
ROUNDS = 5

Send = Callable[[], Awaitable[None]]

# What `anyio.run` is told.
Loop = dict[str, Any]
ASYNCIO: Final[Loop] = {"backend": "asyncio"}
UVLOOP: Final[Loop] = {"backend": "asyncio", "backend_options": {"use_uvloop": True}}
TRIO: Final[Loop] = {"backend": "trio"}


def _parse(body: bytes) -> None:
    assert xmltodict.parse(body)["RESPONSE"]["TRACKINGID"]


async def many(send: Send, *, count: int, in_flight: int) -> None:
    """Call `send` so often, so many at a time, as a hand-written loop would."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await send()

    async with anyio.create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(worker)


async def per_second(sending: Awaitable[object], count: int) -> float:
    """Await the sending of `count` messages, and give how many a second that is."""
    began = time.perf_counter()
    await sending
    return count / (time.perf_counter() - began)


async def send_all(client: SkycoreClient, messages: Iterable[SMS]) -> None:
    """Send all of them through `send_many`, each of which is to be accepted."""
    async with client.send_many(messages) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, Accepted), outcome


def ours(
    url: str,
    *,
    count: int,
    in_flight: int,
    transport: Callable[[], Transport | None] = lambda: None,
    loop: Loop = ASYNCIO,
) -> float:
    """Send through `send_many`, and give messages per second."""

    async def run() -> float:
        client = SkycoreClient(
            api_key=KEY,
            base_url=url,
            max_in_flight=in_flight,
            transport=transport(),
        )
        async with client:
            await send_all(client, (MESSAGE for _ in range(in_flight)))
            return await per_second(send_all(client, (MESSAGE for _ in range(count))), count)

    return anyio.run(run, **loop)


def plain_httpx(url: str, *, count: int, in_flight: int) -> float:
    """Post with an `httpx.AsyncClient`, its pool as large, and parse the answer."""

    async def run() -> float:
        limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:

            async def send() -> None:
                body = requests.post_body(MESSAGE, api_key=KEY)
                _parse((await client.post(url, content=body, headers=FORM)).content)

            await many(send, count=in_flight, in_flight=in_flight)
            return await per_second(many(send, count=count, in_flight=in_flight), count)

    return anyio.run(run)


def hand_written_aiohttp(
    url: str,
    *,
    count: int,
    in_flight: int,
    loop: Loop = ASYNCIO,
    verify: ssl.SSLContext | None = None,
) -> float:
    """Post with an `aiohttp.ClientSession`, and parse the answer."""
    try:
        aiohttp: Any = import_module("aiohttp")
    except ImportError as error:
        raise missing("bench", error) from error

    async def run() -> float:
        connector = aiohttp.TCPConnector(limit=in_flight, ssl=verify or True)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def send() -> None:
                body = requests.post_body(MESSAGE, api_key=KEY)
                async with session.post(url, data=body, headers=FORM) as response:
                    _parse(await response.read())

            await many(send, count=in_flight, in_flight=in_flight)
            return await per_second(many(send, count=count, in_flight=in_flight), count)

    return anyio.run(run, **loop)


_TO_A_SERVER: Final = (
    # bound, in flight, the server's delay in seconds, and how many each side sends
    (3.0, 100, 0.0, 1500, 200),
    (12.0, 200, 0.05, 1500, 200),
)


def measure() -> Iterator[Figure]:
    """Send over either transport, against httpx, aiohttp, one another and an earlier build."""
    for bound, in_flight, delay, count, plain_count in _TO_A_SERVER:
        with running(delay=delay) as url:
            mine, plain = medians(
                functools.partial(ours, url, count=count, in_flight=in_flight),
                functools.partial(plain_httpx, url, count=plain_count, in_flight=in_flight),
                rounds=ROUNDS,
            )
        where = f"{in_flight} in flight" + (f", {delay * 1000:.0f} ms server" if delay else "")
        yield at_least(bound, where, ours=mine, theirs=plain, unit="msg/s", against="httpx")
    with running() as url:
        yield _against_aiohttp(2.2, "fast, 100 in flight", url)
        yield _against_aiohttp(2.0, "fast, uvloop", url, loop=UVLOOP)
        yield _on_trio(3.3, url)
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder, "chain.pem")
        chain.write_text(CHAIN, "ascii")
        with running(chain=str(chain)) as url:
            yield _against_aiohttp(2.2, "fast, TLS", url, verify=client_context())
    yield from earlier.measure()


def _against_aiohttp(
    bound: float,
    where: str,
    url: str,
    *,
    loop: Loop = ASYNCIO,
    verify: ssl.SSLContext | None = None,
) -> Figure:
    size: dict[str, Any] = {"count": 3000, "in_flight": 100, "loop": loop}
    transport = functools.partial(DirectTransport, verify=verify or True)
    mine, theirs = medians(
        functools.partial(ours, url, transport=transport, **size),
        functools.partial(hand_written_aiohttp, url, verify=verify, **size),
        rounds=ROUNDS,
    )
    return at_least(bound, where, ours=mine, theirs=theirs, unit="msg/s", against="aiohttp")


def _on_trio(bound: float, url: str) -> Figure:
    fast, default = medians(
        functools.partial(
            ours, url, count=4000, in_flight=100, loop=TRIO, transport=DirectTransport
        ),
        functools.partial(
            ours, url, count=1000, in_flight=100, loop=TRIO, transport=HttpxTransport
        ),
        rounds=ROUNDS,
    )
    return at_least(
        bound, "fast, trio", ours=fast, theirs=default, unit="msg/s", against="HttpxTransport"
    )
