"""A message over a caller's own client of httpx, or of httpx2 if the tests are told so.

Outcomes of faults are in `test_fault_matrix.py`; here is what the caller's client adds, and what
it would do by itself. The server counts how many requests it read whole.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from skycore_async import (
    Accepted,
    NotSent,
    OutcomeUnknown,
    Request,
    SkycoreClient,
    SkycoreError,
)
from tests.conftest import KEY, TRANSPORTS, http_library
from tests.support.fault_server import (
    SUCCESS,
    FaultServer,
    Hang,
    Read,
    Script,
    Secure,
    Send,
    answer,
    client_context,
    html,
    refused,
)

if TYPE_CHECKING:
    import httpx
else:
    httpx = http_library

pytestmark = pytest.mark.anyio

ANSWERED = (Read(), Send(answer()))
KEPT_ALIVE = (*ANSWERED * 20, Hang())


async def send(client: SkycoreClient) -> Accepted:
    return await client.send_sms(to="15551234888", text="Hello Jerry, Greetings from Marc")


async def has_read(server: FaultServer) -> None:
    while not server.requests:  # noqa: ASYNC110 - the server is a thread
        await anyio.sleep(0.001)


@asynccontextmanager
async def sending_over(
    http_client: httpx.AsyncClient, base_url: str = "http://skycore.example/", **settings: Any
) -> AsyncIterator[SkycoreClient]:
    settings = {"api_key": "a key", "from_": "60856", "timeout": 5, "max_attempts": 1, **settings}
    async with (
        http_client,
        SkycoreClient(http_client=http_client, base_url=base_url, **settings) as client,
    ):
        yield client


async def test_the_callers_client_stays_open() -> None:
    """Closing the SkycoreClient closes neither the caller's client nor its connections."""
    with FaultServer(KEPT_ALIVE) as server:
        http_client = httpx.AsyncClient(verify=client_context(), trust_env=False)
        async with sending_over(http_client, server.url) as client:
            async with client:
                await send(client)
                await http_client.post(server.url)
            assert not http_client.is_closed
            await http_client.post(server.url)
        assert (server.connections, len(server.requests)) == (2, 3)


async def test_over_the_callers_client_each_request_has_a_connection() -> None:
    """Each message has a connection of its own; the caller's own requests reuse theirs."""
    with FaultServer(KEPT_ALIVE) as server:
        http_client = httpx.AsyncClient(verify=client_context(), trust_env=False)
        async with sending_over(http_client, server.url) as client:
            for _ in range(3):
                await send(client)
                assert await anyio.to_thread.run_sync(server.hung_up)
        assert (server.connections, len(server.requests)) == (3, 3)
        assert all(b"\r\nconnection: close\r\n" in each.lower() for each in server.requests)


async def test_no_connection_of_the_callers_own_requests_is_taken() -> None:
    """Bytes after an answer to the caller's own request are not read as a message's answer."""
    stray = SUCCESS.replace(b"SMS_12345", b"SMS_666")
    first = (Read(), Send(answer(b"to the caller") + answer(stray)), Hang())
    with FaultServer(first, first, ANSWERED) as server:
        http_client = httpx.AsyncClient(verify=client_context(), trust_env=False)
        async with sending_over(http_client, server.url) as client:
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(http_client.post, server.url)
            assert (await send(client)).tracking_id == "SMS_12345"
        assert (server.connections, len(server.requests)) == (3, 3)


async def test_the_callers_closed_client_is_a_clear_error() -> None:
    """A caller's closed client raises RuntimeError, and no message is in doubt."""
    http_client = httpx.AsyncClient(verify=client_context(), trust_env=False)
    async with sending_over(http_client) as client:
        await http_client.aclose()
        with pytest.raises(RuntimeError, match="transport is closed"):
            await send(client)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"])
async def test_a_redirect_is_never_followed(status: str) -> None:
    """A redirect of a message is not followed, even if the caller's client follows redirects."""
    with FaultServer((Read(), Send(html(status, Location="/"))), ANSWERED) as server:
        http_client = httpx.AsyncClient(
            verify=client_context(), trust_env=False, follow_redirects=True
        )
        async with sending_over(http_client, server.url) as client:
            with pytest.raises(OutcomeUnknown) as caught:
                await send(client)
        assert caught.value.http_status == int(status[:3])
        assert len(server.requests) == 1


async def test_the_callers_headers_and_cookies_apply() -> None:
    """Headers, cookies and authentication of the caller's client are sent with a message."""
    with FaultServer(ANSWERED) as server:
        http_client = httpx.AsyncClient(
            verify=client_context(),
            trust_env=False,
            headers={"X-Tenant": "7", "Content-Type": "application/json"},
            cookies={"session": "abc"},
            auth=("gate", "way"),
        )
        async with sending_over(http_client, server.url) as client:
            await send(client)
    (request,) = server.requests
    headers = request.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")[1:]
    assert {
        b"x-tenant: 7",
        b"cookie: session=abc",
        b"content-type: application/x-www-form-urlencoded",
    } <= set(headers)
    assert any(header.startswith(b"authorization: basic ") for header in headers)
    assert len({header.partition(b":")[0] for header in headers}) == len(headers)


class RetriesElsewhere(httpx.AsyncBaseTransport):
    """A transport that tries a lost request again where nobody listens."""

    def __init__(self) -> None:
        self.wrapped = httpx.AsyncHTTPTransport(verify=client_context())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self.wrapped.handle_async_request(request)
        except httpx.TransportError:
            with refused() as url:
                request.url = httpx.URL(url)
                return await self.wrapped.handle_async_request(request)

    async def aclose(self) -> None:
        await self.wrapped.aclose()


async def test_a_refused_connection_proves_nothing_after_a_request() -> None:
    """A ConnectError of a second try leaves the message in doubt."""
    with FaultServer((Read(),)) as server:
        http_client = httpx.AsyncClient(transport=RetriesElsewhere())
        async with sending_over(http_client, server.url) as client:
            with pytest.raises(OutcomeUnknown, match="ConnectError"):
                await send(client)
        assert len(server.requests) == 1


class RetriesACopy(RetriesElsewhere):
    """A transport that makes its own copy of a request, and sends it again when lost."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        def copy() -> httpx.Request:
            return httpx.Request(
                request.method, request.url, headers=request.headers, stream=request.stream
            )

        try:
            return await self.wrapped.handle_async_request(copy())
        except httpx.TransportError:
            return await self.wrapped.handle_async_request(copy())


class RetriesInPlace(RetriesElsewhere):
    """A transport that tries a lost request again at the same place."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self.wrapped.handle_async_request(request)
        except httpx.TransportError:
            return await self.wrapped.handle_async_request(request)


CHALLENGED = html("401 Unauthorized", **{"WWW-Authenticate": 'Digest realm="way", nonce="1"'})
REPEATING: dict[str, tuple[Callable[[], httpx.AsyncClient], Script]] = {
    "a retry": (lambda: httpx.AsyncClient(transport=RetriesInPlace()), (Read(),)),
    "a retry of a copy": (lambda: httpx.AsyncClient(transport=RetriesACopy()), (Read(),)),
    "digest auth": (
        lambda: httpx.AsyncClient(auth=httpx.DigestAuth("gate", "way"), verify=client_context()),
        (Read(), Send(CHALLENGED)),
    ),
}


@pytest.mark.parametrize(("make", "first"), REPEATING.values(), ids=REPEATING)
async def test_a_request_that_is_to_be_repeated_is_in_doubt(
    make: Callable[[], httpx.AsyncClient], first: Script
) -> None:
    """A repetition by the caller's client is stopped, and leaves the message in doubt."""
    with FaultServer(first, ANSWERED) as server:
        async with sending_over(make(), server.url) as client:
            with pytest.raises(OutcomeUnknown, match="about to be sent a second time"):
                await send(client)
            assert len(server.requests) == 1
            await send(client)
        assert len(server.requests) == 2


class AskingForAToken(httpx.Auth):
    """An authentication that asks for a token before each request, over the same client."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        yield httpx.Request("GET", request.url)
        yield request


async def test_requests_of_the_clients_own_before_each_come_to_an_end() -> None:
    """A client that asks for a token before each request ends in NotSent with advice."""
    with FaultServer(KEPT_ALIVE) as server:
        http_client = httpx.AsyncClient(auth=AskingForAToken(), verify=client_context())
        async with sending_over(http_client, server.url) as client:
            with pytest.raises(NotSent, match="asks for a token: give that flow another client"):
                await send(client)
        assert not any(request.startswith(b"POST") for request in server.requests)
        assert len(server.requests) == 100


def raising(fault: Exception) -> httpx.AsyncClient:
    def handle(request: httpx.Request) -> httpx.Response:
        raise fault

    return httpx.AsyncClient(transport=httpx.MockTransport(handle))


class NeedsArguments(Exception):
    """An exception that cannot be made from its own `args`."""

    def __init__(self, *, url: str) -> None:
        super().__init__(f"failed for {url}")


class MadeOnce(Exception):
    """An exception that can be made only once."""

    made = 0

    def __init__(self, text: str) -> None:
        super().__init__(text)
        type(self).made += 1
        if self.made > 1:
            raise OSError("once is enough")


@pytest.mark.parametrize(
    ("fault", "error", "cause"),
    [
        # Where the name is all there is, it is no proof: some transports call a
        # connection that broke after the request a ConnectError.
        pytest.param(
            httpx.ConnectError("reset"), OutcomeUnknown, httpx.ConnectError, id="ConnectError"
        ),
        pytest.param(httpx.ReadError(""), OutcomeUnknown, httpx.ReadError, id="no text"),
        pytest.param(httpx.PoolTimeout("full"), NotSent, httpx.PoolTimeout, id="PoolTimeout"),
        pytest.param(
            ConnectionResetError(104, "reset"),
            OutcomeUnknown,
            ConnectionResetError,
            id="OSError",
        ),
        pytest.param(NeedsArguments(url="x"), OutcomeUnknown, RuntimeError, id="keyword only"),
        pytest.param(MadeOnce("x"), OutcomeUnknown, RuntimeError, id="cannot be copied"),
    ],
)
async def test_an_exception_of_a_foreign_transport_is_no_proof(
    fault: Exception, error: type[SkycoreError], cause: type[Exception]
) -> None:
    """Any exception of a foreign transport leaves the message in doubt."""
    async with sending_over(raising(fault)) as client:
        with pytest.raises(error, match=type(fault).__name__) as caught:
            await send(client)
    assert type(caught.value) is error
    assert type(caught.value.__cause__) is cause


async def test_an_answer_to_no_web_address_leaves_the_message_in_doubt() -> None:
    """A redirect to what is no web address leaves the message in doubt."""
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(303, headers={"Location": "sms:+15551234888"})

    http_client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    async with sending_over(http_client) as client:
        # The former is what httpx says of it, and httpx2 takes it for an answer.
        with pytest.raises(OutcomeUnknown, match=r"InvalidURL|HTTP 303"):
            await send(client)
    assert len(asked) == 1


async def test_silence_of_a_foreign_transport_is_no_proof() -> None:
    """A timeout of a foreign transport leaves the message in doubt."""

    async def handle(request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    http_client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    async with sending_over(http_client, timeout=0.05) as client:
        with pytest.raises(OutcomeUnknown, match=r"no answer within 0\.0\d+ seconds"):
            await send(client)


async def test_a_hook_may_read_the_answer() -> None:
    """A response hook of the caller's client may read the body."""

    async def read(response: httpx.Response) -> None:
        await response.aread()

    with FaultServer(ANSWERED) as server:
        http_client = httpx.AsyncClient(
            verify=client_context(), trust_env=False, event_hooks={"response": [read]}
        )
        async with sending_over(http_client, server.url) as client:
            assert (await send(client)).tracking_id == "SMS_12345"


@pytest.mark.slow
async def test_no_free_connection_of_the_callers_in_time_is_not_sent() -> None:
    """A message that gets no connection of the caller's pool in time is NotSent."""
    with FaultServer((Read(), Hang()), ANSWERED) as server:
        async with (
            TRANSPORTS["http_client"](server.url, max_in_flight=1, timeout=1) as client,
            anyio.create_task_group() as tasks,
        ):
            # Beside the client, which has a place for another.
            transport = client._dispatcher.transport
            request = Request(method="POST", url=server.url, body=b"xml=")
            tasks.start_soon(partial(transport.send, request, timeout=60))
            await has_read(server)
            with pytest.raises(NotSent):
                await send(client)
            tasks.cancel_scope.cancel()
        assert len(server.requests) == 1


# --- Of either library, whichever the tests above were told to take. ------------

EITHER = pytest.mark.parametrize("name", ["httpx", "httpx2"])


@asynccontextmanager
async def over(name: str, base_url: str, **settings: Any) -> AsyncIterator[SkycoreClient]:
    made = import_module(name).AsyncClient(verify=client_context(), trust_env=False)
    async with sending_over(made, base_url, **settings) as client:
        yield client


@EITHER
async def test_a_client_of_either_library_is_taken(name: str) -> None:
    """A client of httpx or httpx2 sends messages, also over TLS."""
    secure = (Secure(), *ANSWERED)
    with FaultServer(ANSWERED, ANSWERED, secure) as server:
        async with over(name, server.url) as client:
            for each in (client, client, client.with_options(base_url=server.secure_url)):
                assert (await send(each)).tracking_id == "SMS_12345"
        assert (server.connections, len(server.requests)) == (3, 3)


@EITHER
async def test_errors_of_both_clients_mean_the_same(name: str) -> None:
    """Errors of httpx and of httpx2 have the same outcomes."""
    library = import_module(name)
    with refused() as url, FaultServer((Read(),)) as server:
        async with over(name, server.url) as client:
            with pytest.raises(NotSent, match="ConnectError: Connection refused") as not_sent:
                await send(client.with_options(base_url=url))
            with pytest.raises(OutcomeUnknown, match="Server disconnected") as unknown:
                await send(client)
    assert type(not_sent.value.__cause__) is library.ConnectError
    assert type(unknown.value.__cause__) is library.RemoteProtocolError


@EITHER
async def test_no_client_logs_the_key(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The logs of httpx and httpx2 have no API key in them."""
    caplog.set_level(logging.DEBUG)
    with FaultServer(ANSWERED) as server:
        async with over(name, server.url, api_key=KEY, method="GET") as client:
            await send(client)
    of_the_library = [each for each in caplog.records if each.name.startswith(name)]
    assert any("api_key=***" in each.getMessage() for each in of_the_library)
    assert KEY not in caplog.text


@pytest.mark.slow
def test_httpx2_is_not_loaded_for_others() -> None:
    """httpx2 is not imported for clients of httpx, or without any."""
    program = (
        "import sys, httpx; from skycore_async import SkycoreClient;"
        " SkycoreClient(api_key='a key', http_client=httpx.AsyncClient(verify=False));"
        " SkycoreClient(api_key='a key');"
        " sys.exit('httpx2' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603 - our own


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_cancelled_within_a_handshake_leaves_no_socket() -> None:
    """`Task.cancel()` during a TLS handshake closes the socket."""
    with FaultServer((Hang(),)) as server:
        http_client = httpx.AsyncClient(verify=client_context(), trust_env=False)
        async with sending_over(http_client, server.secure_url) as client:
            request = Request(method="POST", url=server.secure_url, body=b"xml=")
            sending = client._dispatcher.transport.send(request, timeout=60)
            task = asyncio.ensure_future(sending)
            await connected(server)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await anyio.to_thread.run_sync(server.hung_up)


async def test_an_exchange_cancelled_within_a_handshake_leaves_no_socket() -> None:
    """A cancelled scope during a TLS handshake closes the socket."""
    with FaultServer((Hang(),)) as server:
        http_client = httpx.AsyncClient(verify=client_context(), trust_env=False)
        async with sending_over(http_client, server.secure_url) as client:
            request = Request(method="POST", url=server.secure_url, body=b"xml=")
            transport = client._dispatcher.transport
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(transport.send, request, timeout=60))
                await connected(server)
                tasks.cancel_scope.cancel()
            assert await anyio.to_thread.run_sync(server.hung_up)


async def connected(server: FaultServer) -> None:
    while not server.connections:  # noqa: ASYNC110 - the server is a thread
        await anyio.sleep(0.001)
    await anyio.sleep(0.02)  # for the handshake to begin
