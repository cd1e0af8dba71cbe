"""What is particular to the transport on aiohttp; what it makes of faults is in the matrix."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import anyio
import pytest

from skycore_async import (
    AiohttpTransport,
    ConfigurationError,
    NotSent,
    OutcomeUnknown,
    Request,
    Response,
    SkycoreError,
)
from skycore_async.transports import aiohttp as module
from skycore_async.transports.base import KEEPALIVE_EXPIRY
from tests.support.fault_server import (
    FaultServer,
    Hang,
    Read,
    Reset,
    Script,
    Secure,
    Send,
    Wait,
    answer,
    client_context,
    html,
)

pytestmark = pytest.mark.anyio

ANSWERED: Script = (Read(), Send(answer()))
KEPT_ALIVE: Script = (*ANSWERED * 20, Hang())


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone."""
    return "asyncio"


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport(**{"verify": client_context(), **settings})
    try:
        yield transport
    finally:
        await transport.aclose()


async def post(
    transport: AiohttpTransport, url: str, *, timeout: float = 5, body: bytes = b"xml="
) -> Response:
    return await transport.send(Request(method="POST", url=url, body=body), timeout=timeout)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_is_told_apart_at_once() -> None:
    """On trio sending is an error that names the other transport; closing is none."""
    async with opened() as transport:
        with pytest.raises(RuntimeError, match="asyncio alone; HttpxTransport"):
            await post(transport, "http://127.0.0.1:1/")


def test_a_second_event_loop_is_a_clear_error() -> None:
    """A transport belongs to the loop it first sent in; another is told so."""
    transport = AiohttpTransport(verify=client_context())
    with FaultServer(ANSWERED) as server:
        asyncio.run(post_and_close_session(transport, server.url))
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(post(transport, server.url))
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(transport.aclose())
        assert len(server.requests) == 1


async def post_and_close_session(transport: AiohttpTransport, url: str) -> None:
    await post(transport, url)
    assert transport._sessions
    await transport._sessions.close()  # its sockets go, while the transport stays open


@pytest.mark.parametrize(
    "settings",
    [
        {"proxy": "gopher://user:secret@proxy.example"},
        {"proxy": "nowhere secret"},
        {"proxy": "http://[secret"},
    ],
    ids=str,
)
def test_what_cannot_work_is_an_error_at_once(settings: dict[str, Any]) -> None:
    """A wrong setting fails where it is given, and shows no password."""
    with pytest.raises(ConfigurationError, match=next(iter(settings))) as caught:
        AiohttpTransport(**settings)
    assert "secret" not in repr(caught.value)


async def test_what_holds_no_request_is_not_sent() -> None:
    """No time left, and a URL that is none, are NotSent, without a connection."""
    with FaultServer(ANSWERED) as server:
        async with opened() as transport:
            with pytest.raises(NotSent):
                await post(transport, server.url, timeout=0)
            for url in ("http://", "gopher://skycore.example/"):
                with pytest.raises(NotSent, match="no connection"):
                    await post(transport, url)
        assert not server.connections


async def test_an_error_of_no_known_origin_is_in_doubt() -> None:
    """What aiohttp refuses before it asks for a connection is no proof by itself."""
    async with opened() as transport:
        with FaultServer(ANSWERED) as server:
            await post(transport, server.url)
            assert transport._sessions
            await transport._sessions.close()
            with pytest.raises(OutcomeUnknown, match="Session is closed"):
                await post(transport, server.url)


def test_without_aiohttp_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed, the import says what to install."""
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    spec = spec_from_file_location("skycore_async.transports.again", module.__file__)
    assert spec
    assert spec.loader
    with pytest.raises(ImportError, match=r"pip install 'skycore-async\[aiohttp\]'"):
        spec.loader.exec_module(module_from_spec(spec))


CONNECTED = Send(b"HTTP/1.1 200 Connection established\r\n\r\n")
PROXIES: dict[str, tuple[str, Script, type[SkycoreError]]] = {
    "tunnel refused": ("https", (Read(), Send(html("403 Forbidden"))), NotSent),
    "tunnel never opened": ("https", (Read(), Hang()), NotSent),
    "tunnel closed at once": ("https", (Read(), CONNECTED), NotSent),
    "no TLS in the tunnel": ("https", (Read(), CONNECTED, Send(b"220 smtp\r\n")), NotSent),
    "silence in the tunnel": ("https", (Read(), CONNECTED, Secure(), Read()), OutcomeUnknown),
    "forwarded, no answer": ("http", (Read(), Hang()), OutcomeUnknown),
    "forwarded, closed": ("http", (Read(),), OutcomeUnknown),
}


@pytest.mark.parametrize(("scheme", "script", "error"), PROXIES.values(), ids=PROXIES)
async def test_a_proxy_is_told_from_what_is_behind_it(
    scheme: str, script: Script, error: type[SkycoreError]
) -> None:
    """A CONNECT is not the request; and the password of the proxy is in no error."""
    with FaultServer(script) as proxy:
        async with opened(proxy=f"http://user:hidden@127.0.0.1:{proxy.port}") as transport:
            with pytest.raises(error) as caught:
                await post(transport, f"{scheme}://localhost/", timeout=0.3)
    assert type(caught.value) is error
    assert "hidden" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_an_answer_that_came_while_idle_is_nobodys() -> None:
    """A second answer to one request is never taken for that of the next request."""
    twice = (Read(), Send(answer(b"first")), Wait(0.05), Send(answer(b"stray")), Hang())
    with FaultServer(twice, (Read(), Send(answer(b"second")))) as server:
        async with opened() as transport:
            assert (await post(transport, server.url)).body == b"first"
            await anyio.sleep(0.1)
            assert (await post(transport, server.url)).body == b"second"
        assert (server.connections, len(server.requests)) == (2, 2)


async def test_an_end_that_the_loop_has_not_seen_is_seen() -> None:
    """A connection that ended while the event loop was busy is not used again."""
    with FaultServer(ANSWERED) as server:
        async with opened() as transport:
            for _ in range(2):
                await post(transport, server.url)
                assert server.hung_up()  # which holds the loop up
        assert (server.connections, len(server.requests)) == (2, 2)


async def test_a_url_too_long_is_not_sent() -> None:
    """What no server would read is not even begun."""
    request = Request(method="GET", url="http://127.0.0.1:1/", query="x" * 70_000)
    async with opened() as transport:
        with pytest.raises(NotSent, match="URL too long"):
            await transport.send(request, timeout=5)


@pytest.mark.parametrize("end", [(), (Reset(),)], ids=["FIN", "RST"])
async def test_a_get_is_not_tried_again(end: Script) -> None:
    """A GET that aiohttp would send again where a connection broke goes out once."""
    with FaultServer((*ANSWERED, Read(), *end), ANSWERED) as server:
        request = Request(method="GET", url=server.url, query="a=%2B+b")
        async with opened() as transport:
            await transport.send(request, timeout=5)
            with pytest.raises(OutcomeUnknown):
                await transport.send(request, timeout=5)
        assert (server.connections, len(server.requests)) == (1, 2)
        assert b"?a=%2B+b HTTP/1.1\r\n" in server.requests[0]


async def test_cookies_are_neither_kept_nor_sent() -> None:
    """What an answer sets is not in the next request."""
    script = (Read(), Send(answer(headers={"Set-Cookie": "a=b"}))) * 2
    with FaultServer(script) as server:
        async with opened() as transport:
            response = await post(transport, server.url)
            await post(transport, server.url)
    assert response.headers["set-cookie"] == "a=b"
    assert not any(b"cookie" in request.lower() for request in server.requests)


async def test_each_request_has_its_own_headers_alone() -> None:
    """What the first request named is in no other that does not name it."""
    first, other = {"Accept": "text/xml", "X-First": "1"}, {"X-Other": "2"}
    with FaultServer(KEPT_ALIVE) as server:
        async with opened() as transport:
            for headers in (first, other, first):
                request = Request(method="POST", url=server.url, body=b"xml=", headers=headers)
                await transport.send(request, timeout=5)
        assert server.connections == 1
    named = [(b"X-First: 1" in head, b"X-Other: 2" in head) for head in server.requests]
    assert named == [(True, False), (False, True), (True, False)]


async def test_an_idle_connection_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is not used again after `KEEPALIVE_EXPIRY`, which is under 5 seconds."""
    assert KEEPALIVE_EXPIRY < 5
    monkeypatch.setattr(module, "KEEPALIVE_EXPIRY", 0.01)
    with FaultServer(KEPT_ALIVE) as server:
        async with opened() as transport:
            await post(transport, server.url)
            await anyio.sleep(0.03)
            await post(transport, server.url)
        assert server.connections == 2


async def test_a_handshake_broken_off_closes_its_connection() -> None:
    """What is cancelled while it connects leaves no socket behind."""
    with FaultServer((Hang(),)) as server:
        async with opened() as transport:
            with pytest.raises(NotSent):
                await post(transport, server.secure_url, timeout=0.1)
            await anyio.sleep(0.01)
            assert server.hung_up()


async def test_a_body_that_nobody_reads_is_aborted() -> None:
    """A write that got stuck half way leaves no connection open."""
    with FaultServer((Wait(0.4), Hang())) as server:
        async with opened() as transport:
            with pytest.raises(OutcomeUnknown):
                await post(transport, server.url, timeout=0.3, body=bytes(16_000_000))
            await anyio.sleep(0.01)
            assert server.hung_up()


async def test_closing_waits_for_nobody_and_breaks_nothing_off() -> None:
    """An exchange under way at `aclose` ends with its answer, and then all is closed."""
    with FaultServer((Read(), Wait(0.05), Send(answer()), Hang())) as server:
        async with opened() as transport, anyio.create_task_group() as tasks:

            async def exchange() -> None:
                assert (await post(transport, server.url)).status == 200

            tasks.start_soon(exchange)
            while not server.requests:  # noqa: ASYNC110 - the server is a thread
                await anyio.sleep(0.001)
            await transport.aclose()
            with pytest.raises(RuntimeError, match="closed"):
                await post(transport, server.url)
        assert server.hung_up()


@pytest.mark.parametrize("native", [False, True], ids=["scope", "task"])
@pytest.mark.parametrize("steps", range(0, 24, 2))
async def test_cancelling_at_any_point_costs_no_other_message(steps: int, native: bool) -> None:
    """Wherever an exchange stands when it is cancelled, the next one is answered."""
    with FaultServer(KEPT_ALIVE) as server:
        async with opened() as transport, anyio.create_task_group() as tasks:
            sends = []
            with anyio.CancelScope() as scope:
                sends = [asyncio.ensure_future(post(transport, server.url)) for _ in range(2)]
                for _ in range(steps):
                    await asyncio.sleep(0)
                for task in sends:
                    task.cancel()
                if not native:
                    scope.cancel()
                await asyncio.gather(*sends, return_exceptions=True)
            await asyncio.wait(sends)
            assert (await post(transport, server.url)).status == 200
            tasks.cancel_scope.cancel()


async def test_aiohttps_loggers_mask_the_key(caplog: pytest.LogCaptureFixture) -> None:
    """What aiohttp logs of a URL has no API key in it."""
    AiohttpTransport()
    caplog.set_level(logging.DEBUG)
    logging.getLogger("aiohttp.client").warning("%s", "http://x/?api_key=secret&to=1")
    assert caplog.messages == ["http://x/?api_key=***"]


UNCLOSED = """
import asyncio
from skycore_async import AiohttpTransport, Request
transport = AiohttpTransport()
asyncio.run(transport.send(Request(method="POST", url={url!r}), timeout=5))
"""


def test_a_program_that_ends_without_closing_is_quiet() -> None:
    """Leaving without `aclose` prints nothing and hangs nowhere."""
    with FaultServer(KEPT_ALIVE) as server:
        done = subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-c", UNCLOSED.format(url=server.url)],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_transport_thrown_away_detaches() -> None:
    """The session of a transport that nobody closed is not reported as unclosed."""
    with FaultServer(KEPT_ALIVE) as server:
        asyncio.run(post(AiohttpTransport(verify=client_context()), server.url))
        gc.collect()
