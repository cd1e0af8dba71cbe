"""What httpcore's trace events prove about a request."""

from __future__ import annotations

from typing import Any

import anyio
import httpcore
import httpx
import pytest

from skycore_async.transports.httpcore_trace import ExchangeProgress, UsedBefore

POST = {"request": httpcore.Request("POST", "http://127.0.0.1/")}
CONNECT = {"request": httpcore.Request("CONNECT", "http://127.0.0.1/")}


def raised_by_h2(name: str) -> dict[str, Exception]:
    """Return the trace event of an exception of h2, which need not be installed."""
    kind = type(name, (Exception,), {"__module__": "h2.exceptions"})
    return {"exception": kind()}


Events = list[tuple[str, dict[str, Any]]]
NOT_SENT: dict[str, Events] = {
    "the connection was refused": [("connection.connect_tcp.started", {})],
    "the connection failed": [
        ("connection.connect_tcp.started", {}),
        ("connection.connect_tcp.failed", {"exception": OSError()}),
        ("connection.retry.started", {}),
    ],
    "TLS failed": [
        ("connection.connect_tcp.complete", {"return_value": None}),
        ("connection.start_tls.started", {}),
    ],
    "the proxy refused": [
        ("http11.send_request_headers.started", CONNECT),
        ("http11.send_request_headers.complete", {"return_value": None}),
        ("http11.receive_response_headers.started", CONNECT),
        ("http11.response_closed.started", {}),
        ("connection.close.started", {}),
    ],
    "the preface and the settings of HTTP/2 are no request": [
        ("connection.connect_tcp.started", {}),
        ("http2.send_connection_init.started", POST),
        ("http2.send_connection_init.failed", {"exception": OSError()}),
    ],
    "the server ends a connection of HTTP/2 that it was to go over": [
        ("http2.send_request_headers.started", POST),
        ("http2.send_request_headers.failed", raised_by_h2("ProtocolError")),
        ("http2.response_closed.started", {}),
    ],
    "a connection of HTTP/2 has no room for it": [
        ("http2.send_request_headers.started", POST),
        ("http2.send_request_headers.failed", raised_by_h2("TooManyStreamsError")),
    ],
    "the SOCKS proxy refused": [("socks.setup_socks5_connection.started", {})],
}
MAYBE_SENT: dict[str, Events] = {
    "no event at all": [],
    "the request began": [
        ("connection.connect_tcp.started", {}),
        ("http11.send_request_headers.started", POST),
    ],
    "the request began on a connection of HTTP/2": [("http2.send_request_headers.started", POST)],
    "it began behind a proxy": [
        ("http11.send_request_headers.started", CONNECT),
        ("http11.send_request_headers.started", POST),
    ],
    "its beginning has another name": [
        ("connection.connect_tcp.started", {}),
        ("http11.send_head.started", POST),
    ],
    "its beginning tells of no request": [
        ("connection.connect_tcp.started", {}),
        ("http11.send_request_headers.started", {}),
    ],
    "its head broke off": [
        ("http2.send_request_headers.started", POST),
        ("http2.send_request_headers.failed", {"exception": OSError()}),
    ],
    "h2 failed once the head was written": [
        ("http2.send_request_headers.started", POST),
        ("http2.send_request_headers.failed", raised_by_h2("FlowControlError")),
    ],
    "its body did not go out": [
        ("http2.send_request_headers.started", POST),
        ("http2.send_request_headers.complete", {"return_value": None}),
        ("http2.send_request_body.failed", raised_by_h2("ProtocolError")),
    ],
    "the ending of the names is another": [("http11.send_request_headers.begin", POST)],
    "the request began on an HTTP/2 connection that was opened for it": [
        ("connection.connect_tcp.started", {}),
        ("http2.send_connection_init.started", POST),
        ("http2.send_connection_init.complete", {"return_value": None}),
        ("http2.send_request_headers.started", POST),
    ],
}


def progress_after(events: Events) -> ExchangeProgress:
    progress = ExchangeProgress(httpx.PoolTimeout)
    progress.given_to_client = True

    async def tell() -> None:
        for event, info in events:
            await progress.trace(event, info)

    anyio.run(tell)
    return progress


@pytest.mark.parametrize("case", NOT_SENT)
def test_a_failure_before_the_request_proves_that_nothing_was_sent(case: str) -> None:
    """A failure in connecting, TLS or a proxy's handshake proves that nothing was sent."""
    assert progress_after(NOT_SENT[case]).proves_not_sent(OSError())


@pytest.mark.parametrize("case", MAYBE_SENT)
def test_an_unknown_trace_event_proves_nothing(case: str) -> None:
    """Unknown trace events prove nothing, so that the message is in doubt."""
    progress = progress_after(MAYBE_SENT[case])
    assert not progress.proves_not_sent(httpx.ConnectError("refused"))
    assert not progress.proves_not_sent(httpx.InvalidURL("of a Location"))


def test_a_request_that_could_not_be_built_was_not_sent() -> None:
    """A request that could not be built was not sent."""
    assert ExchangeProgress(httpx.PoolTimeout).proves_not_sent(httpx.InvalidURL("URL too long"))


def test_a_connection_that_was_used_before_is_not_used() -> None:
    """A request on a connection used before is stopped, and is proven not to have begun."""
    progress = progress_after([])
    with pytest.raises(UsedBefore):
        anyio.run(progress.trace, "http11.send_request_headers.started", POST)
    assert progress.proves_not_sent()
    progress.look_at_the_next()
    anyio.run(progress.trace, "connection.connect_tcp.started", {})
    anyio.run(progress.trace, "http11.send_request_headers.started", POST)
    assert not progress.proves_not_sent()


def test_a_connection_is_unfinished_until_the_request_begins() -> None:
    """A connection without a request yet is kept to be closed by whoever gives up."""
    stream = object()
    connected = ("connection.connect_tcp.complete", {"return_value": stream})
    in_tls = [
        connected,
        ("connection.start_tls.started", {}),
        ("connection.start_tls.complete", {}),
    ]
    assert progress_after([]).unfinished is None
    assert progress_after(in_tls).unfinished is stream
    began = ("http11.send_request_headers.started", POST)
    assert progress_after([*in_tls, began]).unfinished is None
    shared = ("http2.send_connection_init.started", POST)
    assert progress_after([*in_tls, shared]).unfinished is None
