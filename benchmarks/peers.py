"""Messages sent per second, against the SDKs of other providers.

Each SDK talks to a stub of its own API on loopback, in a process of its own, and
builds the requests and parses the answers of that API.  Needs the extra `bench`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

import anyio

from skycore_async import DirectTransport
from skycore_async.runtime.extras import missing

from .harness import Figure, at_least, medians
from .sending import MESSAGE, ROUNDS, many, ours, per_second
from .server import running

_TWILIO_ANSWER: Final = (
    '{"sid": "SM0123456789", "status": "queued", "to": "+15551234888", "body": "Hello",'
    ' "date_created": "Thu, 24 Aug 2023 05:01:45 +0000"}'
)
_TELNYX_ANSWER: Final = (
    '{"data": {"record_type": "message", "id": "40385f64-5717-4562-b3fc-2c963f66afa6",'
    ' "to": [{"phone_number": "+15551234888", "status": "queued"}], "text": "Hello"}}'
)


def _peer(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise missing("bench", error) from error


def twilio(url: str, *, count: int, in_flight: int) -> float:
    """Send with twilio's asynchronous client, its requests turned to the stub."""
    base: Any = _peer("twilio.http.async_http_client").AsyncTwilioHttpClient
    rest = _peer("twilio.rest")

    class ToTheStub(base):  # type: ignore[misc]
        async def request(self, method: str, target: str, *args: Any, **options: Any) -> Any:
            stub = target.replace("https://api.twilio.com/", url)
            return await super().request(method, stub, *args, **options)

    async def run() -> float:
        async with ToTheStub() as http_client:
            client = rest.Client("AC0123456789", "a token", http_client=http_client)

            async def send() -> None:
                sent = await client.messages.create_async(
                    to="+15551234888", from_="+15550000000", body=MESSAGE.text
                )
                assert sent.sid

            await many(send, count=in_flight, in_flight=in_flight)
            return await per_second(many(send, count=count, in_flight=in_flight), count)

    return anyio.run(run)


def telnyx(url: str, *, count: int, in_flight: int) -> float:
    """Send with telnyx's asynchronous client, without retries."""
    sdk = _peer("telnyx")

    async def run() -> float:
        async with sdk.AsyncTelnyx(api_key="a key", base_url=url, max_retries=0) as client:

            async def send() -> None:
                sent = await client.messages.send(
                    to="+15551234888", from_="+15550000000", text=MESSAGE.text
                )
                assert sent.data

            await many(send, count=in_flight, in_flight=in_flight)
            return await per_second(many(send, count=count, in_flight=in_flight), count)

    return anyio.run(run)


def measure() -> Iterator[Figure]:
    """Send over the fast transport against twilio, over the default one against telnyx."""
    with running() as url, running(body=_TWILIO_ANSWER) as stub:
        mine, theirs = medians(
            functools.partial(ours, url, count=4000, in_flight=100, transport=DirectTransport),
            functools.partial(twilio, stub, count=1500, in_flight=100),
            rounds=ROUNDS,
        )
    yield at_least(
        3.5, "fast, 100 in flight", ours=mine, theirs=theirs, unit="msg/s", against="twilio"
    )
    with running() as url, running(body=_TELNYX_ANSWER) as stub:
        mine, theirs = medians(
            functools.partial(ours, url, count=1500, in_flight=100),
            functools.partial(telnyx, stub, count=500, in_flight=100),
            rounds=ROUNDS,
        )
    yield at_least(
        3.0, "default, 100 in flight", ours=mine, theirs=theirs, unit="msg/s", against="telnyx"
    )
