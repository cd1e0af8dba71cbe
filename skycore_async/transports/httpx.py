"""The default transport, on httpx, for asyncio and trio.

Strategy: a pool of our own.  Each connection is an `httpx.AsyncHTTPTransport` that
has one; free ones are kept last in, first out, so that few stay warm and the others
expire.  There are as many as exchanges at once, which is for the client to bound.

Rules:

* A connection whose exchange broke, timed out or was cancelled, or on which more came
  than the answer, is closed and never used again.
* A request leaves in one piece: see `network_backend`.
* A request goes out once: httpcore's trace stops a second time before its first byte.
* `NotSent` takes proof, which httpcore's trace gives: see `progress`.  The class of an
  exception proves nothing by itself.
* An error is made in `failures`, and raised outside the `except` block.
"""

from __future__ import annotations

import functools
import ipaddress
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import anyio
import httpx

from ..errors import NotSent, OutcomeUnknown
from .base import KEEPALIVE_EXPIRY, MAX_RESPONSE, Request, Response
from .failures import failed, mask_keys_in_logs, timed_out
from .network_backend import warn_of_other_insides, write_at_once
from .progress import ExchangeProgress

_Extensions = dict[str, Any]

_CLOSING_TIME: Final = 1.0  # seconds for closing a connection before it is dropped

# Of the whole time, what waiting for a connection may take; so that httpx cleans
# up, and says what it waited for, before the whole time is over.
_CONNECTING_SHARE: Final = 0.8

# Who logs URLs or headers; hpack is HTTP/2's.
_TALKATIVE: Final = ("httpx", "httpcore.http11", "httpcore.http2", "hpack.hpack", "hpack.table")


class HttpxTransport:
    """Send over a pool of httpx connections, as many as the client has in flight.

    `verify` and `proxy` mean what they mean to httpx: certificate checks or an
    `ssl.SSLContext`, which can hold a client certificate, and a proxy's URL.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | bool = True,
        proxy: str | httpx.Proxy | None = None,
    ) -> None:
        self._verify = httpx.create_ssl_context(verify=verify)
        self._proxy = proxy
        # One to begin with, so that a wrong proxy is an error here.
        self._free = [self._new_connection()]
        self._closed = False
        mask_keys_in_logs(*_TALKATIVE)

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send `request` within `timeout` seconds, connecting included."""
        if self._closed:
            raise RuntimeError("this transport is closed")
        connection = self._free.pop() if self._free else self._new_connection()
        try:
            progress = ExchangeProgress(is_ours=True)
            over_connection = functools.partial(_over_connection, connection)
            response = await _exchange(over_connection, request, timeout, progress)
        except BaseException:
            await _close(connection)
            raise
        if self._closed or not _is_clean(connection):
            await _close(connection)
        else:
            self._free.append(connection)
        return response

    async def aclose(self) -> None:
        """Close every idle connection; one in use is closed when its exchange ends."""
        self._closed = True
        while self._free:
            await _close(self._free.pop())

    def _new_connection(self) -> httpx.AsyncHTTPTransport:
        connection = httpx.AsyncHTTPTransport(
            verify=self._verify,
            proxy=self._proxy,
            limits=httpx.Limits(max_connections=1, keepalive_expiry=KEEPALIVE_EXPIRY),
        )
        write_at_once(connection)
        return connection


class HttpxClientTransport:
    """Send over the caller's own `httpx.AsyncClient`, which stays the caller's to close.

    Its pool, proxies, certificates, hooks, cookies and headers apply, other
    than the headers that a request names itself.  Redirects are never followed,
    whatever its settings, and where httpcore's connections are told to send a
    request a second time, as by digest auth or a retry, they do not.
    """

    def __init__(self, http_client: httpx.AsyncClient) -> None:
        self._http_client = http_client
        self._closed = False
        mask_keys_in_logs(*_TALKATIVE)

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send `request` within `timeout` seconds, the wait for a free connection included."""
        if self._closed or self._http_client.is_closed:
            raise RuntimeError("this transport is closed")
        return await _exchange(self._over_client, request, timeout, ExchangeProgress())

    async def aclose(self) -> None:
        """Send nothing more; the connections are the caller's to close."""
        self._closed = True

    async def _over_client(self, request: Request, extensions: _Extensions) -> httpx.Response:
        made = self._http_client.build_request(
            request.method,
            _target(request),
            headers=request.headers,
            content=request.body or None,
            extensions=extensions,
        )
        made.stream = _Body(request.body)
        return await self._http_client.send(made, stream=True, follow_redirects=False)


async def _over_connection(
    connection: httpx.AsyncHTTPTransport, request: Request, extensions: _Extensions
) -> httpx.Response:
    url = _target(request)
    made = httpx.Request(
        request.method,
        url,
        headers=_headers(url.netloc, len(request.body), *request.headers.items()),
        stream=_Body(request.body),
        extensions=extensions,
    )
    return await connection.handle_async_request(made)


def _target(request: Request) -> httpx.URL:
    # A URL with a query holds the key and a text: it is not kept.
    return httpx.URL(request.target) if request.query else _url(request.url)


def environment_proxy(base_url: str) -> str | None:
    """Return the proxy that the environment names for an address.

    HTTPS_PROXY, HTTP_PROXY and ALL_PROXY name one, NO_PROXY makes exceptions, and
    what is on this machine needs none.
    """
    address = httpx.URL(base_url)
    if _is_loopback(address.host) or urllib.request.proxy_bypass(address.host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@functools.lru_cache(maxsize=8)
def _url(url: str) -> httpx.URL:
    return httpx.URL(url)


@functools.lru_cache(maxsize=1024)
def _headers(host: bytes, length: int, *named: tuple[str, str]) -> httpx.Headers:
    """Make the headers of a request, which are those of most others of its length."""
    # To add these two by itself, httpx would make the headers three times over.
    headers = [(b"Host", host), *((name.encode(), value.encode()) for name, value in named)]
    if length:
        headers.append((b"Content-Length", b"%d" % length))
    return httpx.Headers(headers)


class _Body(httpx.AsyncByteStream):
    """A body in one piece.

    httpx's own is a generator, which a failed or cancelled write leaves half run;
    trio does not forgive that.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._left = [body]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Body(self._body)

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


async def _exchange(
    send: Callable[[Request, _Extensions], Awaitable[httpx.Response]],
    request: Request,
    timeout: float,
    progress: ExchangeProgress,
) -> Response:
    if timeout <= 0:
        raise timed_out(timeout, not_sent=True)
    failure: NotSent | OutcomeUnknown | None = None
    with anyio.move_on_after(timeout):
        try:
            return await _read(await send(request, _extensions(timeout, progress)))
        except Exception as fault:  # noqa: BLE001 - whatever it is, the message is in doubt
            failure = failed(fault, not_sent=progress.proves_not_sent(fault))
    # Raised out here, so that no context keeps the frames of the exchange.
    raise failure or timed_out(timeout, not_sent=progress.proves_not_sent())


def _extensions(timeout: float, progress: ExchangeProgress) -> _Extensions:
    # Writing and reading have the whole of the time, which is kept around them.
    connecting = timeout * _CONNECTING_SHARE
    return {
        "timeout": {"connect": connecting, "pool": connecting, "read": None, "write": None},
        "trace": progress.trace,
    }


async def _read(response: httpx.Response) -> Response:
    body = bytearray()
    # Raw, because a decoder that fails leaves generators half run, as above.  A
    # caller's hook may have read the answer already.
    chunks = response.aiter_bytes() if response.is_stream_consumed else response.aiter_raw()
    try:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_RESPONSE:
                await _break_off(chunks)
    finally:
        await response.aclose()
    return Response(status=response.status_code, headers=response.headers, body=bytes(body))


async def _break_off(chunks: AsyncIterator[bytes]) -> None:
    # A `break` would end the outermost generator alone, and leave the rest half run.
    with anyio.CancelScope() as scope:
        scope.cancel()
        _ = [chunk async for chunk in chunks]  # those that came already, and no more


def _is_clean(connection: httpx.AsyncHTTPTransport) -> bool:
    """Return whether nothing came after the answer.

    What did is kept by h11, which would take it for the answer to the next request;
    nothing public shows it.  Where it cannot be seen, a connection is not used again.
    """
    try:
        for held in connection._pool.connections:  # noqa: SLF001 - as said above
            inner: Any = held
            while not hasattr(inner, "_h11_state"):
                inner = inner._connection  # noqa: SLF001
            if inner._h11_state.trailing_data[0]:  # noqa: SLF001
                return False
    except Exception:  # noqa: BLE001 - whatever it is, the answer that came must not be lost
        with suppress(RuntimeWarning):  # which a program may have made an error
            warn_of_other_insides()
        return False
    return True


async def _close(connection: httpx.AsyncHTTPTransport) -> None:
    with anyio.move_on_after(_CLOSING_TIME, shield=True), suppress(Exception):
        await connection.aclose()
