"""One httpcore connection over real sockets: what leaves, when it is reused, and proxies."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketStream

from skycore_async import HttpxTransport, NotSent, OutcomeUnknown, Request, Response
from skycore_async.transports.network_backend import NetworkBackend, Traffic
from tests.support.fault_server import (
    SUCCESS,
    Drip,
    FaultServer,
    Hang,
    Read,
    Script,
    Secure,
    Send,
    answer,
    chunked,
    client_context,
)

pytestmark = pytest.mark.anyio

POST = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"


@asynccontextmanager
async def opened(proxy: str | httpx.Proxy | None = None) -> AsyncIterator[HttpxTransport]:
    transport = HttpxTransport(verify=client_context(), proxy=proxy)
    try:
        yield transport
    finally:
        await transport.aclose()


async def post(transport: HttpxTransport, url: str, timeout: float = 5) -> Response:
    request = Request(method="POST", url=url, body=b"xml=" + b"x" * 400)
    return await transport.send(request, timeout=timeout)


# --- What leaves, and what is used again -----------------------------------------


async def test_a_request_leaves_in_one_piece() -> None:
    """The server's first read has the whole request."""
    read: list[bytes] = []

    async def answered(stream: SocketStream) -> None:
        read.append(await stream.receive(65536))
        await stream.send(answer())

    async with listening(answered) as port, opened() as transport:
        await post(transport, f"http://127.0.0.1:{port}/")
    assert read[0].endswith(b"\r\n\r\nxml=" + b"x" * 400)


async def test_a_request_leaves_once() -> None:
    """A second request within one exchange stops before its first byte."""
    with FaultServer((Read(), Send(answer()), Read())) as server:
        traffic = Traffic()
        backend = NetworkBackend(traffic)
        stream = await backend.connect_tcp("127.0.0.1", server.port)
        await stream.write(POST)
        assert traffic.request_left is False  # it is kept until an answer is read
        assert await stream.read(65536) == answer() == traffic.came
        await stream.write(POST)
        with pytest.raises(RuntimeError, match="about to be sent a second time"):
            await stream.read(65536)
        await backend.aclose()
    assert len(server.requests) == 1


async def test_a_stream_says_what_httpcore_asks() -> None:
    """A stream answers httpcore's questions about readability and TLS, and no others."""
    with FaultServer((Hang(),)) as server:
        backend = NetworkBackend(Traffic())
        stream = await backend.connect_tcp("127.0.0.1", server.port)
        told = [stream.get_extra_info(name) for name in ("is_readable", "ssl_object", "socket")]
        assert told == [False, None, None]
        await backend.aclose()
        assert stream.get_extra_info("is_readable")


@pytest.mark.parametrize(
    "endless",
    [
        Drip(b"HTTP/1.1 100 Continue\r\nX: " + b"x" * 50_000 + b"\r\n\r\n", pause=0),
        Drip(b"1;" + b"x" * 50_000 + b"\r\n.\r\n", pause=0),
    ],
    ids=["early answers", "what chunks say beside their sizes"],
)
async def test_the_framing_of_an_answer_fills_no_memory(endless: Drip) -> None:
    """Endless headers or chunk framing are read only so far, and not kept."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    first = () if endless.data.startswith(b"HTTP") else (Send(head),)
    with FaultServer((Read(), *first, endless)) as server:
        async with opened() as transport:
            (connection,) = transport._free  # what it keeps shows nowhere else
            with pytest.raises(OutcomeUnknown, match="no HTTP answer"):
                await post(transport, server.url, timeout=60)
    assert 0 < len(connection._traffic.came) <= 2 * 65536


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"

# What a server answers, and over how many connections two messages then go.
ANSWERS: dict[str, tuple[bytes, int]] = {
    "with its length": (answer(), 1),
    "in chunks": (chunked(SUCCESS), 1),
    "without a body": (b"HTTP/1.1 204 No Content\r\n\r\n", 1),
    "after an early one": (EARLY + answer(), 2),
    "at length": (answer(b"x" * 20_000), 2),
    "for the last time": (answer(headers={"Connection": "close"}), 2),
    "and a byte more": (answer() + b"\r", 2),
    "in chunks, and a byte more": (chunked(SUCCESS) + b"\r", 2),
}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize(("first", "connections"), ANSWERS.values(), ids=ANSWERS)
async def test_a_connection_is_used_again_where_the_answer_was_all(
    first: bytes, connections: int, *, secure: bool
) -> None:
    """A connection is reused only if the answer was all that came over it."""
    tls = (Secure(),) if secure else ()
    second = (Read(), Send(answer()), Hang())
    with FaultServer((*tls, Read(), Send(first), *second), (*tls, *second)) as server:
        url = server.secure_url if secure else server.url
        async with opened() as transport:
            assert (await post(transport, url)).status in {200, 204}
            assert (await post(transport, url)).body == SUCCESS
        assert (server.connections, len(server.requests)) == (connections, 2)


# --- Proxies ---------------------------------------------------------------------


@asynccontextmanager
async def listening(
    serve: Callable[[SocketStream], Awaitable[None]],
) -> AsyncIterator[int]:
    """Serve each connection to a port until the context is left."""

    async def served(stream: SocketStream) -> None:
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await serve(stream)

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, served)
        yield listener.extra(SocketAttribute.local_port)  # noqa: S610
        group.cancel_scope.cancel()


async def pump(source: ByteStream, sink: ByteStream) -> None:
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            await sink.send(await source.receive())
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await sink.send_eof()


class SocksProxy:
    """A SOCKS5 proxy, which connects to one port, or refuses to by this reply."""

    def __init__(self, port: int, *, reply: int = 0, password: bytes = b"") -> None:
        self.port = port
        self.reply = reply
        self.password = password
        self.asked: list[bytes] = []

    async def serve(self, stream: SocketStream) -> None:
        self.asked.append(await stream.receive())
        await stream.send(b"\x05\x02" if self.password else b"\x05\x00")
        if self.password:
            told = await stream.receive()
            self.asked.append(told)
            await stream.send(b"\x01\x00" if told.endswith(self.password) else b"\x01\x01")
        self.asked.append(await stream.receive())
        await stream.send(b"\x05%c\x00\x01\x7f\x00\x00\x01\x00\x00" % self.reply)
        async with (
            await anyio.connect_tcp("127.0.0.1", self.port) as onward,
            anyio.create_task_group() as group,
        ):
            group.start_soon(pump, stream, onward)
            await pump(onward, stream)


ANSWERED = (Read(), Send(answer()))
SOCKS: dict[str, Script] = {"http": ANSWERED * 2, "https": (Secure(), *ANSWERED * 2)}


@pytest.mark.parametrize(("scheme", "script"), SOCKS.items(), ids=SOCKS)
async def test_messages_go_through_a_socks_proxy(scheme: str, script: Script) -> None:
    """A message goes through a SOCKS proxy, once, after the proxy's handshakes."""
    with FaultServer(script) as server:
        proxy = SocksProxy(server.port, password=b"secret")
        async with (
            listening(proxy.serve) as port,
            opened(f"socks5://user:secret@127.0.0.1:{port}") as transport,
        ):
            for _ in range(2):
                url = f"{scheme}://localhost:{server.port}/"
                assert (await post(transport, url)).body == SUCCESS
        assert [asked[:1] for asked in proxy.asked] == [b"\x05", b"\x01", b"\x05"]
        assert (server.connections, len(server.requests)) == (1, 2)


@pytest.mark.parametrize("wrong", ["host", "password"])
async def test_a_request_refused_by_a_socks_proxy_is_not_sent(wrong: str) -> None:
    """A SOCKS proxy's refusal or a wrong password is NotSent."""
    with FaultServer(ANSWERED) as server:
        proxy = SocksProxy(
            server.port,
            reply=5 if wrong == "host" else 0,
            password=b"other" if wrong == "password" else b"",
        )
        user = "user:secret@" if wrong == "password" else ""
        async with (
            listening(proxy.serve) as port,
            opened(f"socks5://{user}127.0.0.1:{port}") as transport,
        ):
            with pytest.raises(NotSent, match="ProxyError") as caught:
                await post(transport, server.url)
        assert type(caught.value.__cause__) is httpx.ProxyError
        assert not server.requests


async def test_silence_of_a_socks_proxy_is_not_sent_and_leaves_no_socket() -> None:
    """A SOCKS handshake without answer is NotSent, and its socket is closed."""
    with FaultServer((Hang(),)) as proxy:
        async with opened(f"socks5://127.0.0.1:{proxy.port}") as transport:
            with pytest.raises(NotSent, match="no connection within"):
                await post(transport, "http://127.0.0.1:9/", timeout=0.1)
        assert proxy.hung_up()


async def test_silence_behind_a_socks_proxy_is_in_doubt() -> None:
    """Silence after the SOCKS handshakes leaves the message in doubt."""
    with FaultServer((Read(),)) as server:
        proxy = SocksProxy(server.port)
        async with (
            listening(proxy.serve) as port,
            opened(f"socks5h://127.0.0.1:{port}") as transport,
        ):
            with pytest.raises(OutcomeUnknown):
                await post(transport, server.url)
        assert len(server.requests) == 1


def test_a_socks_proxy_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A SOCKS proxy without `socksio` is an ImportError when the transport is made."""
    assert importlib.util.find_spec("socksio")
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(ImportError, match=r"pip install 'httpx\[socks\]'"):
        HttpxTransport(proxy="socks5://127.0.0.1:9")


async def test_a_password_to_a_proxy_and_its_headers_are_sent() -> None:
    """The password and headers of an `httpx.Proxy` are sent to the proxy."""
    with FaultServer(ANSWERED) as server:
        proxy = httpx.Proxy(f"http://user:secret@127.0.0.1:{server.port}", headers={"X-Way": "7"})
        async with opened(proxy) as transport:
            await post(transport, "http://skycore.example/api")
    head = server.requests[0].partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[0] == b"POST http://skycore.example/api HTTP/1.1"
    assert {b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=", b"X-Way: 7"} <= set(head)
    assert urlsplit(head[0].split()[1]).hostname == b"skycore.example"
