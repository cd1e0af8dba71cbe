"""What is particular to DirectTransport; faults in general are in the fault matrix.

The transport has a layer for asyncio, whatever makes its event loop, and one for trio. Both have
to behave alike, so nearly all of this runs on asyncio, uvloop and trio.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

from skycore_async import (
    ConfigurationError,
    DirectTransport,
    HttpxTransport,
    NotSent,
    OutcomeUnknown,
    Request,
    Response,
    SkycoreError,
)
from skycore_async.transports import asyncio_connection, direct
from skycore_async.transports.base import KEEPALIVE_EXPIRY
from skycore_async.transports.direct import DirectConnection
from skycore_async.transports.requests import Origin
from tests.conftest import over_direct
from tests.network.test_connection import listening, pump
from tests.network.test_fault_matrix import MATRIX, outcome
from tests.support.fault_server import (
    SUCCESS,
    Drip,
    FaultServer,
    Finish,
    Hang,
    Hold,
    Read,
    Script,
    Secure,
    Send,
    Wait,
    answer,
    client_context,
    hold_back,
    html,
    refused,
    server_context,
    unreachable,
)

pytestmark = pytest.mark.anyio

ANSWERED: Script = (Read(), Send(answer()))
KEPT_ALIVE: Script = (*ANSWERED * 20, Hang())

UVLOOP = pytest.param(
    ("asyncio", {"use_uvloop": True}),
    id="uvloop",
    marks=pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not installed"),
)
ASYNCIO = pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")
TRIO = pytest.param(("trio", {}), id="trio")


@pytest.fixture(params=[ASYNCIO, UVLOOP, TRIO])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run each test on three event loops."""
    return request.param


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[DirectTransport]:
    transport = DirectTransport(**{"verify": client_context(), **settings})
    try:
        yield transport
    finally:
        await transport.aclose()


async def post(
    transport: DirectTransport, url: str, *, timeout: float = 5, body: bytes = b"xml="
) -> Response:
    return await transport.send(Request(method="POST", url=url, body=body), timeout=timeout)


async def until(when: Callable[[], object]) -> None:
    with anyio.fail_after(5):
        while not when():  # noqa: ASYNC110 - the server is a thread
            await anyio.sleep(0.001)


# --- Faults, in other ways than the matrix has them -------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("anyio_backend", "secure"),
    [
        pytest.param(*UVLOOP.values, False, id="uvloop-plain", marks=UVLOOP.marks),
        pytest.param(*UVLOOP.values, True, id="uvloop-TLS", marks=UVLOOP.marks),
        pytest.param(*ASYNCIO.values, True, id="asyncio-TLS"),
        pytest.param(*TRIO.values, True, id="trio-TLS"),
    ],
    indirect=["anyio_backend"],
)
async def test_every_fault_has_its_outcome_all_at_once(*, secure: bool) -> None:
    """Each row of the fault matrix has its outcome, over TLS and on uvloop, all at once."""
    given: dict[str, type] = {}
    # A handshake that is closed is no request.
    rows = {name: row for name, row in MATRIX.items() if row.script or not secure}

    async def meet(name: str) -> None:
        script = ((Secure(),) if secure else ()) + rows[name].script
        with FaultServer(script) as server:
            url = server.secure_url if secure else server.url
            async with over_direct(url, timeout=3 if rows[name].slow else 5) as client:
                given[name] = type(await outcome(client))
            assert len(server.requests) <= rows[name].script.count(Read())

    async with anyio.create_task_group() as tasks:
        for name in sorted(rows, key=lambda name: not rows[name].slow):  # which have least time
            tasks.start_soon(meet, name)
    assert given == {name: row.outcome for name, row in rows.items()}


@pytest.mark.slow
async def test_an_answer_counts_once_the_request_is_out() -> None:
    """An answer that comes before the whole request has left counts once it has."""
    script = (Send(answer()), Wait(0.05), Read(), Hang())
    with FaultServer(script) as server:
        async with opened() as transport:
            response = await post(transport, server.url, body=bytes(8_000_000))
            assert response.body == SUCCESS
            await until(lambda: len(server.requests) == 1)


@pytest.mark.slow
@pytest.mark.parametrize("end", [Hang, Finish])
async def test_an_answer_to_a_request_that_nobody_reads_is_in_doubt(
    end: Callable[[], Any],
) -> None:
    """An answer to a request that never left as a whole leaves the message in doubt."""
    stuck = (Send(answer()), end(), Wait(0.4))
    with FaultServer(stuck[::2] if end is Hang else stuck) as server:
        async with opened() as transport:
            with pytest.raises(OutcomeUnknown):
                await post(transport, server.url, timeout=0.3, body=bytes(16_000_000))
            await anyio.sleep(0.01)
        assert not server.requests


@pytest.mark.slow
async def test_a_request_not_written_in_time_never_goes_out() -> None:
    """The rest of a request that was not read in time is dropped."""
    with FaultServer((Wait(0.5), Read(), Hang())) as server:
        async with opened() as transport:
            with pytest.raises(OutcomeUnknown, match="no answer within"):
                await post(transport, server.url, timeout=0.2, body=bytes(16_000_000))
            assert await anyio.to_thread.run_sync(server.hung_up)
        assert not server.requests


async def test_a_request_without_time_or_address_is_not_sent() -> None:
    """A message without time left, or with a bad URL, is NotSent without a connection."""
    with FaultServer(ANSWERED) as server:
        async with opened() as transport:
            with pytest.raises(NotSent):
                await post(transport, server.url, timeout=0)
            for url in ("http://", "gopher://skycore.example/", "http://[x/"):
                with pytest.raises(NotSent, match="no connection"):
                    await post(transport, url)
        assert not server.connections


async def test_a_flood_that_nobody_asked_for_fills_no_memory() -> None:
    """What a server sends over an idle connection ends the connection, and is no answer."""
    flood = (*ANSWERED, Drip(b"x" * 65536, pause=0))
    with FaultServer(flood, ANSWERED) as server:
        async with opened() as transport:
            await post(transport, server.url)
            await anyio.sleep(0.05)
            assert (await post(transport, server.url)).body == SUCCESS
        assert server.hung_up()
        assert (server.connections, len(server.requests)) == (2, 2)


# --- Connections --------------------------------------------------------------


@pytest.mark.skipif(not socket.has_ipv6, reason="without IPv6")
async def test_messages_go_over_ipv6() -> None:
    """A message goes to an IPv6 address."""
    try:
        server = FaultServer(ANSWERED, host="::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with server:
        async with opened() as transport:
            response = await post(transport, f"http://[::1]:{server.port}/")
        assert response.body == SUCCESS
        assert b"\r\nHost: [::1]:%d\r\n" % server.port in server.requests[0]


async def test_an_answer_that_came_while_idle_is_nobodys() -> None:
    """A second answer to one request is not taken for the next request's."""
    twice = (Read(), Send(answer(b"first")), Hold(), Send(answer(b"stray")), Hang())
    with FaultServer(twice, (Read(), Send(answer(b"second")))) as server:
        async with opened() as transport:
            assert (await post(transport, server.url)).body == b"first"
            server.let_go()
            await until(lambda: server.stands_still)
            await anyio.sleep(0.01)  # until it has come
            assert (await post(transport, server.url)).body == b"second"
        assert (server.connections, len(server.requests)) == (2, 2)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_an_end_that_the_loop_has_not_seen_is_seen(*, secure: bool) -> None:
    """A connection that ended while the event loop was busy is not reused."""
    with FaultServer(((Secure(),) if secure else ()) + ANSWERED) as server:
        url = server.secure_url if secure else server.url
        async with opened() as transport:
            for _ in range(2):
                await post(transport, url)
                assert server.hung_up()  # which holds the loop up
        assert (server.connections, len(server.requests)) == (2, 2)


async def test_an_idle_connection_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle connection is not reused after `KEEPALIVE_EXPIRY`, and is closed."""
    assert KEEPALIVE_EXPIRY < 5
    monkeypatch.setattr(direct, "idle_time", lambda _: 0.01)
    with FaultServer((Read(), Hold(), Send(answer()), Hang()), *[KEPT_ALIVE] * 2) as server:
        async with opened() as transport, anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(post, transport, server.url)
            await until(lambda: len(server.requests) == 2)
            server.let_go()
            await anyio.sleep(0.05)
            await post(transport, server.url)
            await until(lambda: sum(player.is_alive() for player in server._players) == 1)
        assert server.connections == 3


async def test_each_origin_has_connections_of_its_own() -> None:
    """A connection to one origin is not used for another."""
    with FaultServer(KEPT_ALIVE) as one, FaultServer(KEPT_ALIVE) as other:
        async with opened() as transport:
            for server in (one, other, one, other):
                await post(transport, server.url)
        assert [(each.connections, len(each.requests)) for each in (one, other)] == [(1, 2)] * 2


async def test_a_handshake_broken_off_closes_its_connection() -> None:
    """A handshake that takes too long is NotSent, and its socket is closed."""
    with FaultServer((Hang(),)) as server:
        async with opened() as transport:
            with pytest.raises(NotSent, match="no connection within"):
                await post(transport, server.secure_url, timeout=0.1)
            await anyio.sleep(0.01)
            assert server.hung_up()


@pytest.mark.slow
async def test_connecting_leaves_time_for_the_answer() -> None:
    """Connecting takes at most four fifths of the timeout, and is then NotSent."""
    with unreachable() as url:
        async with opened() as transport:
            connect, given = transport._connect, list[float]()

            async def noted(origin: Origin, timeout: float) -> DirectConnection:
                given.append(anyio.current_effective_deadline() - anyio.current_time())
                return await connect(origin, timeout)

            transport._connect = noted  # type: ignore[method-assign]
            with pytest.raises(NotSent, match=r"no connection within 0\.5 seconds"):
                await post(transport, url, timeout=0.5)
    assert 0 < given[0] < 0.41  # as a clock that has run for hours is not exact


async def test_no_time_left_after_connecting_is_not_sent() -> None:
    """A message without time left after connecting is NotSent."""
    with FaultServer(ANSWERED) as server:
        async with opened() as transport:
            connect = transport._connect

            async def slowly(origin: Origin, timeout: float) -> DirectConnection:
                connection = await connect(origin, timeout)
                time.sleep(0.15)  # noqa: ASYNC251 - the subject
                return connection

            transport._connect = slowly  # type: ignore[method-assign]
            with pytest.raises(NotSent, match="no connection within"):
                await post(transport, server.url, timeout=0.1)
        assert (server.connections, len(server.requests)) == (1, 0)


async def test_closing_waits_for_nobody_and_breaks_nothing_off() -> None:
    """An exchange under way at `aclose` ends with its answer, and its connection closes."""
    with FaultServer((Read(), Wait(0.05), Send(answer()), Hang())) as server:
        async with opened() as transport, anyio.create_task_group() as tasks:

            async def exchange() -> None:
                assert (await post(transport, server.url)).status == 200

            tasks.start_soon(exchange)
            await until(lambda: server.requests)
            await transport.aclose()
            with pytest.raises(RuntimeError, match="closed"):
                await post(transport, server.url)
        assert server.hung_up()


# --- Proxies ------------------------------------------------------------------

CONNECTED = Send(b"HTTP/1.1 200 Connection established\r\n\r\n")
PROXIES: dict[str, tuple[str, Script, type[SkycoreError]]] = {
    "tunnel refused": ("https", (Read(), Send(html("407 Who Are You"))), NotSent),
    "tunnel never opened": ("https", (Read(), Hang()), NotSent),
    "tunnel closed at once": ("https", (Read(), CONNECTED), NotSent),
    "no tunnel": ("https", (Read(), Send(b"220 smtp\r\n\r\n")), NotSent),
    "a word before TLS": ("https", (Read(), Send(CONNECTED.data + b"hi"), Hang()), NotSent),
    "no TLS in the tunnel": ("https", (Read(), CONNECTED, Send(b"220 smtp\r\n")), NotSent),
    "silence in the tunnel": ("https", (Read(), CONNECTED, Secure(), Read()), OutcomeUnknown),
    "forwarded, no answer": ("http", (Read(), Hang()), OutcomeUnknown),
    "forwarded, closed": ("http", (Read(),), OutcomeUnknown),
}


@pytest.mark.parametrize(("scheme", "script", "error"), PROXIES.values(), ids=PROXIES)
async def test_a_failed_connect_to_a_proxy_is_not_sent(
    scheme: str, script: Script, error: type[SkycoreError]
) -> None:
    """A failed CONNECT is NotSent, and the proxy's password is in no error."""
    with FaultServer(script) as proxy:
        async with opened(proxy=f"http://user:hidden@127.0.0.1:{proxy.port}") as transport:
            with pytest.raises(error) as caught:
                await post(transport, f"{scheme}://localhost/", timeout=0.3)
        assert proxy.hung_up()
    assert type(caught.value) is error
    assert "hidden" not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("over", ["http", "https"])
async def test_messages_go_through_a_tunnel(over: str) -> None:
    """Messages go through one tunnel with the proxy's password, also over TLS to the proxy."""
    asked: list[bytes] = []
    with FaultServer((Secure(), *KEPT_ALIVE)) as server:

        async def serve(plain: SocketStream) -> None:
            stream: Any = plain
            if over == "https":
                stream = await TLSStream.wrap(
                    plain,
                    server_side=True,
                    ssl_context=server_context(),
                    standard_compatible=False,
                )
            asked.append(await stream.receive())
            await stream.send(CONNECTED.data)
            async with (
                await anyio.connect_tcp("127.0.0.1", server.port) as onward,
                anyio.create_task_group() as group,
            ):
                group.start_soon(pump, stream, onward)
                await pump(onward, stream)

        async with listening(serve) as port:
            proxy = httpx.Proxy(
                f"{over}://user:secret@localhost:{port}", ssl_context=client_context()
            )
            async with opened(proxy=proxy) as transport:
                for _ in range(2):
                    assert (await post(transport, server.secure_url)).body == SUCCESS
        assert (server.connections, len(server.requests)) == (1, 2)
        assert asked[0].startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % server.port)
        assert b"\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" in asked[0]
        assert b"Proxy-Authorization" not in b"".join(server.requests)


@pytest.mark.parametrize("make", [DirectTransport, HttpxTransport])
async def test_surplus_bytes_in_a_tunnel_over_tls_are_no_part_of_the_next_answer(
    make: type[DirectTransport | HttpxTransport],
) -> None:
    """Bytes after an answer in a tunnel over TLS are not taken for the next answer."""
    connections: list[int] = []

    async def secured(stream: Any) -> Any:
        return await TLSStream.wrap(
            stream, server_side=True, ssl_context=server_context(), standard_compatible=False
        )

    async def serve(plain: SocketStream) -> None:
        connections.append(number := len(connections))
        to_proxy = await secured(plain)
        await to_proxy.receive()
        await to_proxy.send(CONNECTED.data)
        stream = await secured(to_proxy)
        while True:
            await stream.receive()
            held = plain.extra(SocketAttribute.raw_socket)  # noqa: S610
            hold_back(held, on=True)
            await stream.send(answer(b"%d" % number))
            await stream.send(answer(b"nobody's"))
            hold_back(held, on=False)

    async with listening(serve) as port:
        proxy = httpx.Proxy(f"https://localhost:{port}", ssl_context=client_context())
        transport = make(proxy=proxy, verify=client_context())
        asked = Request(method="POST", url="https://localhost/", body=b"xml=")
        for number in range(3):
            assert (await transport.send(asked, timeout=5)).body == b"%d" % number
        await transport.aclose()


@pytest.mark.parametrize(
    "proxy",
    ["gopher://user:secret@proxy.example", "nowhere secret", "socks5://a:secret@b"],
)
def test_a_proxy_that_cannot_be_is_an_error_at_once(proxy: str) -> None:
    """A bad proxy is a ConfigurationError at construction, without its password."""
    with pytest.raises(ConfigurationError, match="proxy") as caught:
        DirectTransport(proxy=proxy, verify=client_context())
    assert "secret" not in repr(caught.value)


# --- Event loops --------------------------------------------------------------


def test_a_second_event_loop_is_a_clear_error() -> None:
    """A transport used in a second event loop raises RuntimeError."""
    transport = DirectTransport(verify=client_context())

    async def post_and_free(url: str) -> None:
        await post(transport, url)
        ((connection, _),) = next(iter(transport._free.values()))
        await connection.aclose()  # its socket goes, while the transport stays open

    with FaultServer(ANSWERED) as server:
        asyncio.run(post_and_free(server.url))
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(post(transport, server.url))
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(transport.aclose())
        assert len(server.requests) == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are none before Python 3.12")
def test_messages_go_out_from_eager_tasks() -> None:
    """Messages are sent from eager tasks as from others."""

    async def send_some() -> None:
        asyncio.get_running_loop().set_task_factory(vars(asyncio)["eager_task_factory"])
        async with opened() as transport:
            posts = [asyncio.create_task(post(transport, server.url)) for _ in range(3)]
            assert [response.status for response in await asyncio.gather(*posts)] == [200] * 3

    with FaultServer(KEPT_ALIVE) as server:
        asyncio.run(send_some())


# --- The layer for asyncio ------------------------------------------------------


ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], indirect=True)


@pytest.mark.slow
@ON_ASYNCIO
async def test_one_timer_serves_all_deadlines_of_a_connection() -> None:
    """One timer of a connection serves earlier and later deadlines."""
    late = (Read(), Wait(0.4), Send(answer()))
    with FaultServer((*ANSWERED, *late, *ANSWERED, Read(), Hang())) as server:
        async with opened() as transport:
            await post(transport, server.url, timeout=0.2)
            await post(transport, server.url, timeout=5)  # while it goes off for the first
            await post(transport, server.url, timeout=0.2)
            await anyio.sleep(0.3)  # and now for nobody
            with pytest.raises(OutcomeUnknown, match="no answer within"):
                await post(transport, server.url, timeout=0.1)
        assert (server.connections, len(server.requests)) == (1, 4)


def resolved(monkeypatch: pytest.MonkeyPatch, *urls: str) -> None:
    """Resolve every host name to the addresses in these URLs."""

    async def addresses(*_: object) -> list[Any]:
        await anyio.lowlevel.checkpoint()
        return [(socket.AF_INET, ("127.0.0.1", httpx.URL(url).port)) for url in urls]

    monkeypatch.setattr(asyncio_connection, "_addresses", addresses)


@ON_ASYNCIO
async def test_an_address_that_does_not_answer_costs_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next address is tried after a moment, and losing connections are closed."""
    monkeypatch.setattr(asyncio_connection, "_ATTEMPT_DELAY", 0.02)
    with unreachable() as nowhere, refused() as nobody, FaultServer(KEPT_ALIVE) as server:
        resolved(monkeypatch, nobody, nowhere, server.url, server.url)
        async with opened() as transport:
            assert (await post(transport, "http://a.example/")).body == SUCCESS
        assert server.connections == 1
        gc.collect()


@ON_ASYNCIO
async def test_of_two_addresses_that_answer_at_once_one_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two addresses that answer at once one is used, and the other connection is closed."""
    attempts: list[socket.socket] = []
    both = anyio.Event()

    async def attempt(*_: object) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", server.port))
        made.setblocking(False)
        attempts.append(made)
        if len(attempts) == 1:
            await both.wait()
        both.set()
        return made

    monkeypatch.setattr(asyncio_connection, "_ATTEMPT_DELAY", 0.01)
    monkeypatch.setattr(asyncio_connection, "_attempt", attempt)
    with FaultServer(KEPT_ALIVE) as server:
        resolved(monkeypatch, server.url, server.url)
        async with opened() as transport:
            assert (await post(transport, "http://a.example/")).body == SUCCESS
        assert server.hung_up()
        assert server.connections == 2


@ON_ASYNCIO
async def test_without_an_answering_address_the_first_error_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If no address answers, the first error is raised as NotSent."""
    with refused() as one, refused() as other:
        resolved(monkeypatch, one, other)
        async with opened() as transport:
            with pytest.raises(NotSent, match="Connection refused"):
                await post(transport, "http://a.example/")


def test_addresses_of_either_family_take_turns() -> None:
    """Addresses of IPv6 and IPv4 are tried in turn."""
    six = [(socket.AF_INET6, n) for n in range(3)]
    four = [(socket.AF_INET, n) for n in range(2)]
    expected = [six[0], four[0], six[1], four[1], six[2]]
    assert asyncio_connection.by_turns([*six, *four]) == expected


# --- Ends ---------------------------------------------------------------------

UNCLOSED = """
import asyncio
from skycore_async import DirectTransport, Request
transport = DirectTransport()
asyncio.run(transport.send(Request(method="POST", url={url!r}), timeout=5))
"""


@pytest.mark.slow
def test_a_program_that_ends_without_closing_is_quiet() -> None:
    """A program that ends without `aclose` prints nothing and does not hang."""
    with FaultServer(KEPT_ALIVE) as server:
        done = subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-c", UNCLOSED.format(url=server.url)],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    assert (done.stdout, done.stderr) == ("", "")
