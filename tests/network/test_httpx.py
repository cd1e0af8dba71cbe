"""A transport on httpx over real sockets.

Outcomes of faults are in `test_fault_matrix.py`; here is how the pools use connections, on asyncio
and trio, and what is particular to httpx. The server counts how many requests it read whole.
"""

from __future__ import annotations

import gc
from types import ModuleType
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import httpcore
import httpx
import pytest

from skycore_async import (
    Accepted,
    HttpxTransport,
    NotSent,
    OutcomeUnknown,
    Request,
    Response,
    SkycoreClient,
    SkycoreError,
    Transport,
)
from skycore_async.transports import httpcore_connection
from skycore_async.transports.base import KEEPALIVE_EXPIRY
from skycore_async.transports.choice import choose
from tests.conftest import TRANSPORTS, http_library
from tests.support.fault_server import (
    SUCCESS,
    Drip,
    FaultServer,
    Hang,
    Hold,
    Read,
    Script,
    Secure,
    Send,
    Wait,
    answer,
    client_context,
    html,
    refused,
)

if TYPE_CHECKING:
    from tests.conftest import OpenClient

pytestmark = pytest.mark.anyio

SHORT = 0.5  # seconds, where waiting for a timeout is the subject
ANSWERED = (Read(), Send(answer()))
KEPT_ALIVE = (*ANSWERED * 20, Hang())
SLOWLY_ANSWERED = (Read(), Wait(0.05), Send(answer()), Hang())


async def send(client: SkycoreClient) -> Accepted:
    return await client.send_sms(to="15551234888", text="Hello Jerry, Greetings from Marc")


async def post(transport: Transport, url: str, timeout: float = 5) -> Response:
    request = Request(method="POST", url=url, body=b"xml=")
    return await transport.send(request, timeout=timeout)


# --- Failures -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "library"), [("httpx", httpx), ("http_client", http_library)], ids=["own", "theirs"]
)
async def test_the_cause_is_httpxs(name: str, library: ModuleType) -> None:
    """The cause of an error is a copy of the library's exception, without frames."""
    with refused() as url:
        async with TRANSPORTS[name](url, max_attempts=1) as client:
            with pytest.raises(NotSent) as caught:
                await send(client)
    cause = caught.value.__cause__
    assert cause is not None
    assert type(cause) is library.ConnectError
    assert cause.__traceback__ is None


async def test_a_certificate_of_nobody_known_is_not_taken() -> None:
    """A self-signed certificate is NotSent with default settings."""
    with FaultServer((Secure(trusted=False), Read())) as server:
        async with SkycoreClient(
            api_key="a key", from_="60856", base_url=server.secure_url, max_attempts=1
        ) as client:
            with pytest.raises(NotSent):
                await send(client)
        assert not server.requests


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


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "script", "error"), PROXIES.values(), ids=PROXIES)
async def test_a_failed_connect_to_a_proxy_is_not_sent(
    scheme: str, script: Script, error: type[SkycoreError]
) -> None:
    """A failure of a CONNECT, before the tunnel has TLS, is NotSent."""
    with FaultServer(script) as proxy:
        transport = HttpxTransport(proxy=f"http://127.0.0.1:{proxy.port}", verify=client_context())
        async with SkycoreClient(
            api_key="a key",
            from_="60856",
            base_url=f"{scheme}://localhost/",
            transport=transport,
            timeout=SHORT,
            max_attempts=1,
        ) as client:
            with pytest.raises(error) as caught:
                await send(client)
        assert type(caught.value) is error


async def test_no_time_left_is_not_sent() -> None:
    """A message without time left is NotSent."""
    with FaultServer(ANSWERED) as server:
        transport = HttpxTransport(verify=client_context())
        with pytest.raises(NotSent):
            await post(transport, server.url, timeout=0)
        await transport.aclose()
        assert not server.requests


async def test_a_proxy_that_cannot_be_is_an_error_at_once() -> None:
    """A bad proxy is a ValueError at construction."""
    with pytest.raises(ValueError, match="proxy"):
        HttpxTransport(proxy="gopher://proxy.example")


@pytest.mark.slow
async def test_a_request_that_nobody_reads_is_in_doubt(open_client: OpenClient) -> None:
    """A request that gets stuck half written is in doubt."""
    with FaultServer((Wait(60),)) as server:
        request = Request(method="POST", url=server.url, body=bytes(16_000_000))
        async with open_client(server.url) as client:
            with pytest.raises(OutcomeUnknown):
                await client._dispatcher.transport.send(request, timeout=SHORT)
        gc.collect()  # where trio finds what was left


async def test_a_long_answer_is_not_read_to_its_end(open_client: OpenClient) -> None:
    """An answer larger than 1 MiB is read no further, and leaves the message in doubt."""
    script = (Read(), Send(b"HTTP/1.1 200 OK\r\n\r\n"), Drip(b"x" * 65536, pause=0))
    with FaultServer(script) as server:
        async with open_client(server.url, timeout=60) as client:
            with pytest.raises(OutcomeUnknown, match="larger than") as caught:
                await send(client)
            assert caught.value.http_status == 200
            assert server.hung_up()


async def test_a_get_too_long_for_a_url_is_not_sent(open_client: OpenClient) -> None:
    """A GET whose URL is too long is NotSent."""
    with FaultServer(ANSWERED) as server:
        async with open_client(server.url, method="GET", max_attempts=1) as client:
            with pytest.raises(NotSent, match="URL too long"):
                await client.send_sms(to="15551234888", text="x" * 70_000)
        assert server.connections == 0


# --- Connections --------------------------------------------------------------


async def test_connections_are_used_again(open_reusing_client: OpenClient) -> None:
    """Messages one after the other go over one connection."""
    with FaultServer(KEPT_ALIVE) as server:
        async with open_reusing_client(server.url) as client:
            for _ in range(3):
                await send(client)
        assert (server.connections, len(server.requests)) == (1, 3)


async def test_a_connection_closed_while_idle_costs_no_message(open_client: OpenClient) -> None:
    """A message after the server closed an idle connection goes over a new one."""
    with FaultServer(ANSWERED) as server:
        async with open_client(server.url) as client:
            for _ in range(3):
                await send(client)
                server.hung_up()
        assert (server.connections, len(server.requests)) == (3, 3)


async def test_a_connection_that_dies_at_its_second_use_is_not_tried_again(
    open_reusing_client: OpenClient,
) -> None:
    """A message lost on a reused connection is in doubt, and not tried again."""
    with FaultServer((*ANSWERED, Read()), ANSWERED) as server:
        async with open_reusing_client(server.url) as client:
            await send(client)
            with pytest.raises(OutcomeUnknown):
                await send(client)
            assert len(server.requests) == 2
            await send(client)
        assert (server.connections, len(server.requests)) == (2, 3)


async def test_an_idle_connection_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is not reused after `KEEPALIVE_EXPIRY`, which is below 5 seconds."""
    assert KEEPALIVE_EXPIRY < 5
    monkeypatch.setattr(httpcore_connection, "KEEPALIVE_EXPIRY", 0.01)
    with FaultServer(KEPT_ALIVE) as server:
        async with SkycoreClient(api_key="a key", from_="60856", base_url=server.url) as client:
            await send(client)
            await anyio.sleep(0.02)
            await send(client)
        assert server.connections == 2


async def test_at_most_max_in_flight_at_once(open_reusing_client: OpenClient) -> None:
    """A client has at most `max_in_flight` connections, and all messages go out."""
    with FaultServer(KEPT_ALIVE) as server:
        async with (
            open_reusing_client(server.url, max_in_flight=2) as client,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(10):
                tasks.start_soon(send, client)
        assert len(server.requests) == 10
        assert server.connections <= 2


async def has_read(server: FaultServer) -> None:
    while not server.requests:  # noqa: ASYNC110 - the server is a thread
        await anyio.sleep(0.001)


@pytest.mark.slow
async def test_there_are_as_many_connections_as_messages_under_way(
    open_client: OpenClient,
) -> None:
    """As many exchanges as `max_in_flight` can wait for answers at the same time."""
    many = 120  # and so more than there are by default
    with FaultServer(*[(Read(), Hold(), Send(answer()))] * many) as server:
        async with (
            open_client(server.url, max_in_flight=many, timeout=30) as client,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(many):
                tasks.start_soon(send, client)
            while len(server.requests) < many:  # noqa: ASYNC110 - the server is a thread
                await anyio.sleep(0.001)
            server.let_go()
        assert server.connections == many


# --- Closing: of the exchange, whoever waits for its outcome. ---


async def test_closing_within_a_cancelled_scope_closes(open_client: OpenClient) -> None:
    """Closing a client in a cancelled scope closes its idle connections."""
    with FaultServer(KEPT_ALIVE) as server:
        with anyio.CancelScope() as scope:
            async with open_client(server.url) as client:
                await send(client)
                scope.cancel()
        # In the background, so the event loop must go on.
        assert await anyio.to_thread.run_sync(server.hung_up)


async def test_closing_lets_an_exchange_end(open_client: OpenClient) -> None:
    """A transport's `aclose` lets an exchange end with its answer."""
    bodies = []
    with FaultServer(SLOWLY_ANSWERED) as server:
        async with open_client(server.url) as client, anyio.create_task_group() as tasks:
            transport = client._dispatcher.transport

            async def exchange() -> None:
                bodies.append((await post(transport, server.url)).body)

            tasks.start_soon(exchange)
            await has_read(server)
            await transport.aclose()
            assert not bodies
    assert bodies == [SUCCESS]


async def test_closing_a_client_waits_for_its_exchanges(open_client: OpenClient) -> None:
    """A client's `aclose` waits for the answers under way."""
    outcomes: list[Accepted] = []

    async def outcome(client: SkycoreClient) -> None:
        outcomes.append(await send(client))

    with FaultServer(SLOWLY_ANSWERED) as server:
        async with open_client(server.url) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(outcome, client)
            await has_read(server)
            assert not outcomes
            await client.aclose()
            await anyio.wait_all_tasks_blocked()
    assert [accepted.tracking_id for accepted in outcomes] == ["SMS_12345"]


async def test_a_connection_in_use_is_closed_after_its_answer() -> None:
    """An exchange that ends after `aclose` leaves no connection open."""
    with FaultServer(SLOWLY_ANSWERED) as server:
        transport = HttpxTransport(verify=client_context())
        request = Request(method="GET", url=server.url)

        async def exchange() -> None:
            assert (await transport.send(request, timeout=5)).status == 200

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange)
            await has_read(server)
            await transport.aclose()
        assert server.hung_up()


@pytest.mark.parametrize("ending", ["cleanly", "never", "with an error"])
async def test_a_connection_is_closed_without_fail(
    monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Closing a connection is not cancelled with its caller, ends in time and never raises."""
    closed = []
    close = httpcore.AsyncConnectionPool.aclose

    async def closing(pool: httpcore.AsyncConnectionPool) -> None:
        await close(pool)
        await anyio.lowlevel.checkpoint()
        closed.append(pool)
        if ending == "never":
            await anyio.sleep_forever()
        if ending == "with an error":
            raise OSError("not connected")

    monkeypatch.setattr(httpcore.AsyncConnectionPool, "aclose", closing)
    monkeypatch.setattr(httpcore_connection, "CLOSING_TIME", 0.05)
    with FaultServer(KEPT_ALIVE) as server, anyio.fail_after(5):
        transport = HttpxTransport(verify=client_context())
        await transport.send(Request(method="GET", url=server.url), timeout=5)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await transport.aclose()
        assert len(closed) == 1


async def test_a_closed_client_says_so(open_client: OpenClient) -> None:
    """Sending after `aclose` raises RuntimeError; closing twice is allowed."""
    with FaultServer(KEPT_ALIVE) as server:
        async with open_client(server.url) as client:
            await send(client)
            await client.aclose()
            await client.aclose()
            with pytest.raises(RuntimeError, match="closed"):
                await send(client)
            with pytest.raises(RuntimeError, match="closed"):
                await send(client.with_options(timeout=1))
        assert len(server.requests) == 1


async def test_a_transport_gives_the_answer_as_it_came() -> None:
    """A transport returns status, lower-case headers and body as they came."""
    script = (Read(), Send(answer(b"any", status="418 Teapot", headers={"X-Other": "1"})))
    http_client = http_library.AsyncClient(verify=client_context(), trust_env=False)
    ours = HttpxTransport(verify=client_context())
    async with http_client:
        for transport in (ours, choose(None, http_client, "")):
            with FaultServer(script) as server:
                request = Request(method="GET", url=server.url, query="a=b")
                response = await transport.send(request, timeout=5)
                await transport.aclose()
            assert (response.status, response.body) == (418, b"any")
            assert response.headers["x-other"] == "1"
            assert server.requests[0].startswith(b"GET /API/wxml/1.3/index.php?a=b HTTP/1.1\r\n")


async def test_a_closed_transport_is_a_clear_error() -> None:
    """A closed transport raises RuntimeError."""
    transport = HttpxTransport()
    await transport.aclose()
    with pytest.raises(RuntimeError, match="this transport is closed"):
        await transport.send(Request(method="POST", url="http://127.0.0.1:9/"), timeout=1)
