"""Exchanges that are cancelled at any point, over each of the package's own transports."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from skycore_async import DirectTransport, HttpxTransport, Request, Response, Transport
from tests.network.test_direct import ASYNCIO, TRIO, UVLOOP
from tests.support.fault_server import FaultServer, Read, Reply, Script, answer, client_context

pytestmark = pytest.mark.anyio

# How far an exchange may be, in turns of the event loop; the fast one takes fewer.
TURNS = {HttpxTransport: range(0, 80, 2), DirectTransport: range(0, 24, 2)}
AT_ANY_POINT = pytest.mark.parametrize(
    ("kind", "turns"),
    [
        pytest.param(kind, turns, id=f"{kind.__name__}-{turns}")
        for kind, many in TURNS.items()
        for turns in many
    ],
)


@pytest.fixture(params=[ASYNCIO, UVLOOP, TRIO])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run each test on three event loops."""
    return request.param


async def post(transport: Transport, url: str, body: bytes = b"cancelled") -> Response:
    return await transport.send(Request(method="POST", url=url, body=body), timeout=5)


# Each answer has the body of its request, so that one which is another's is found out.
ECHOING: Script = (Read(), Reply(lambda request: answer(request.rpartition(b"\r\n")[2]))) * 20


@AT_ANY_POINT
async def test_cancelling_a_scope_costs_no_other_message(
    kind: type[HttpxTransport | DirectTransport], turns: int
) -> None:
    """After exchanges are cancelled by a scope at any point, the next message is answered."""
    transport = kind(verify=client_context())
    with FaultServer(ECHOING) as server:
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(post, transport, server.url)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert (await post(transport, server.url, b"the next")).body == b"the next"
        await transport.aclose()


@pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], indirect=True)
@AT_ANY_POINT
async def test_cancelling_a_task_costs_no_other_message(
    kind: type[HttpxTransport | DirectTransport], turns: int
) -> None:
    """After `Task.cancel()`, even twice, the next message is answered."""
    transport = kind(verify=client_context())
    with FaultServer(ECHOING) as server:
        sends = [asyncio.ensure_future(post(transport, server.url)) for _ in range(2)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(2):
            for task in sends:
                task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*sends, return_exceptions=True)
        assert (await post(transport, server.url, b"the next")).body == b"the next"
        await transport.aclose()
