"""An application served from a thread: starting, stopping, and what goes wrong with both."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from skycore_async.runtime.extras import missing
from skycore_async.simulator.asgi_thread import ServerThread, transport_of
from tests.support.fault_server import client_context


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


HELLO = Starlette(routes=[Route("/", hello)])


def serving_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("serving")]


def get(url: str) -> str:
    return httpx.get(url, verify=client_context(), trust_env=False).text


def test_a_server_serves_while_the_context_is_open() -> None:
    """Requests are answered inside the context, and refused after it."""
    with ServerThread(HELLO) as server:
        url = server.url
        assert get(url) == "hello"
    with pytest.raises(httpx.ConnectError):
        get(url)


@pytest.mark.slow
def test_a_server_starts_again_and_leaves_no_thread() -> None:
    """A server can be started and stopped repeatedly, and a second stop does nothing."""
    server = ServerThread(HELLO)
    for _ in range(3):
        with server:
            assert get(server.url) == "hello"
            assert len(serving_threads()) == 1
        assert serving_threads() == []
    server.stop()


def test_a_server_has_no_address_before_it_runs() -> None:
    """Asking a server for its address before it runs raises RuntimeError."""
    with pytest.raises(RuntimeError, match="not running"):
        _ = ServerThread(HELLO).url


def test_a_server_cannot_be_started_twice() -> None:
    """A second start is refused, and the first run goes on."""
    with ServerThread(HELLO) as server:
        with pytest.raises(RuntimeError, match="already"):
            server.start()
        assert get(server.url) == "hello"


def test_an_address_in_use_is_raised_to_the_caller() -> None:
    """Starting on a port in use raises OSError and leaves no thread."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            ServerThread(HELLO, port=port).start()
    assert serving_threads() == []


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_a_server_serves_on_ipv6() -> None:
    """A server on an IPv6 address has brackets in its URL."""
    with ServerThread(HELLO, host="::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert get(server.url) == "hello"


def test_no_part_of_an_answer_waits_to_be_acknowledged() -> None:
    """Connections are served without Nagle's algorithm, which would delay answers by 40 ms."""
    told: list[int] = []

    async def tell(request: Request) -> Response:
        connection = transport_of(request.scope).get_extra_info("socket")
        told.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return PlainTextResponse("told")

    with ServerThread(Starlette(routes=[Route("/", tell)])) as server:
        get(server.url)
    assert told == [1]


def test_an_application_that_fails_to_start_is_raised_to_the_caller() -> None:
    """A failed start raises RuntimeError with the application's own error as its cause."""

    @contextlib.asynccontextmanager
    async def broken(_: Starlette) -> AsyncIterator[None]:
        raise LookupError("no such ledger")
        yield

    with pytest.raises(RuntimeError, match="failed to start") as caught:
        ServerThread(Starlette(lifespan=broken)).start()
    assert isinstance(caught.value.__cause__, LookupError)
    assert serving_threads() == []


def test_an_idle_connection_is_closed() -> None:
    """A connection without a request is closed after the idle timeout."""
    with ServerThread(HELLO, idle_timeout=0.01) as server:
        address = server.url.removeprefix("http://").split(":")
        with socket.create_connection((address[0], int(address[1])), timeout=2) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while chunk := connection.recv(4096):
                received += chunk
        assert received.endswith(b"hello")


def is_listening(url: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)):
            return True
    except ConnectionError:
        return False


def slow_application(started: threading.Event, proceed: threading.Event) -> Starlette:
    async def slow(_: Request) -> Response:
        started.set()
        await anyio.to_thread.run_sync(proceed.wait)
        return PlainTextResponse("done")

    return Starlette(routes=[Route("/", slow)])


@pytest.mark.slow
def test_stopping_lets_a_request_in_progress_end() -> None:
    """Stopping lets a request in progress be answered within the grace period."""
    started, proceed, texts = threading.Event(), threading.Event(), list[str]()
    server = ServerThread(slow_application(started, proceed), grace=30)
    server.start()
    url = server.url
    client = threading.Thread(target=lambda: texts.append(get(url)))
    client.start()
    assert started.wait(5)
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    while is_listening(url):
        pass
    proceed.set()
    client.join(5)
    stopper.join(5)
    assert texts == ["done"]


def test_stopping_does_not_wait_longer_than_the_grace() -> None:
    """After the grace period the application sees a disconnect, and the client a reset."""
    started, ended = threading.Event(), threading.Event()

    async def hang(request: Request) -> Response:
        started.set()
        assert (await request.receive())["type"] == "http.request"
        assert (await request.receive())["type"] == "http.disconnect"
        ended.set()
        return Response()

    server = ServerThread(Starlette(routes=[Route("/", hang)]), grace=0)
    server.start()
    url, errors = server.url, list[Exception]()

    def request() -> None:
        with contextlib.suppress(httpx.ReadError):
            errors.append(AssertionError(get(url)))

    client = threading.Thread(target=request)
    client.start()
    assert started.wait(5)
    server.stop()
    client.join(5)
    assert ended.is_set()
    assert errors == []


def test_only_a_served_request_has_a_transport() -> None:
    """The scope of another server has no transport: KeyError."""
    with pytest.raises(KeyError):
        transport_of({"type": "http", "extensions": {}})


def test_requests_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The server writes no access log, which would have the query string."""
    caplog.set_level(logging.DEBUG)
    with ServerThread(HELLO) as server:
        get(f"{server.url}/?api_key=secret")
    logged = [record for record in caplog.records if record.name.startswith("uvicorn")]
    assert not any("secret" in record.getMessage() for record in logged)


def test_a_missing_extra_names_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without uvicorn, the import error says what to install."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "skycore_async.simulator.asgi_thread")
    with pytest.raises(ImportError, match=r"pip install 'skycore-async\[server\]'"):
        import skycore_async.simulator.asgi_thread  # noqa: F401


def test_the_error_of_a_missing_extra_keeps_its_cause() -> None:
    """The error of a missing extra names the missing module."""
    error = missing("server", ImportError("no", name="uvicorn"))
    assert str(error) == "uvicorn is not installed: pip install 'skycore-async[server]'"
    assert error.name == "uvicorn"
    assert str(missing("cli", ImportError("odd"))).startswith("odd is not installed")
