"""The default transport, on httpx and httpcore, for asyncio and trio; and one over a client.

Strategy: our own pool.  Free connections are kept last in, first out, so that few stay open and
the others expire.  There are as many connections as concurrent exchanges, whose number the client
bounds.

Rules:

* A connection whose exchange failed, timed out or was cancelled, or on which more than the answer
  was received, is closed and never used again: see `httpcore_connection`.
* `NotSent` needs proof: on our own connection, that no byte of the request was given to its
  socket; over a caller's client, httpcore's trace, see `httpcore_trace`.  The class of an
  exception proves nothing by itself.
* An error is made in `failures`, and raised outside the `except` block.
* Modules that load httpcore are loaded when a connection is made, not with this module.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

import anyio
import httpx

from ..errors import NotSent, OutcomeUnknown
from ..runtime.secret import Secret
from .answer_body import read_body
from .base import CLOSING_TIME, Request, Response, TransportLoop, TransportUnusable
from .failures import EACH_IS_USED, failed, timed_out
from .http_client import TALKATIVE, AsyncHTTPClient, Library
from .httpcore_trace import ExchangeProgress, UsedBefore
from .library_logs import mask_library_logs
from .proxies import parse_proxy
from .tls import ssl_context

if TYPE_CHECKING:
    from .httpcore_connection import HTTPConnection

# The share of the whole timeout that waiting for a connection may take, so that httpx cleans up,
# and says what it waited for, before the whole timeout is over.
_CONNECTING_SHARE: Final = 0.8

# The most used connections that an exchange over a caller's client may meet: as many as a pool of
# httpx's may have.  Any more were made meanwhile, and so would the next be.
_MOST_USED_BEFORE: Final = 100


class HttpxTransport:
    """Send over a pool of connections, as many as the client has in flight.

    `verify` and `proxy` mean what they mean to httpx: certificate checks or an
    `ssl.SSLContext`, which can hold a client certificate, and a proxy's URL.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | bool = True,
        proxy: str | httpx.Proxy | None = None,
    ) -> None:
        given, proxy = Secret(proxy) if isinstance(proxy, str) else proxy, None
        self._verify = ssl_context(verify)
        self._proxy = parse_proxy(given) if isinstance(given, Secret) else given
        # Made here once, so that a wrong proxy raises an error here.
        self._free = [self._new_connection()]
        self._loop = TransportLoop()
        self._closed = False
        mask_library_logs(*TALKATIVE)

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send `request` within `timeout` seconds, connecting included, and return its answer.

        Raises NotSent and OutcomeUnknown as a `Transport` does, and RuntimeError if it is closed,
        or belongs to another event loop or process.
        """
        if self._closed:
            raise TransportUnusable("this transport is closed")
        self._loop.check()
        connection = await self._take()
        connecting = timeout * _CONNECTING_SHARE
        exchange = functools.partial(connection.exchange, request, connecting=connecting)
        try:
            return await _within(timeout, exchange, connection.proves_not_sent)
        finally:
            if connection.is_clean and not self._closed:
                self._free.append(connection)
            else:
                await connection.aclose()

    async def aclose(self) -> None:
        """Close every idle connection; one in use is closed when its exchange ends."""
        self._closed = True
        while self._free:
            await self._free.pop().aclose()

    def for_downloads(self) -> httpx.AsyncHTTPTransport:
        """Return a transport of httpx's with the same certificates and proxy, for streams."""
        return httpx.AsyncHTTPTransport(verify=self._verify, proxy=self._proxy)

    async def _take(self) -> HTTPConnection:
        """Return a free connection, and close those that the server no longer keeps."""
        while self._free:
            connection = self._free.pop()
            if connection.kept_until >= self._loop.clock.time():
                return connection
            await connection.aclose()
        return self._new_connection()

    def _new_connection(self) -> HTTPConnection:
        from .httpcore_connection import HTTPConnection  # noqa: PLC0415 - loads httpcore

        return HTTPConnection(ssl_context=self._verify, proxy=self._proxy)


class HttpxClientTransport:
    """Send over the caller's `AsyncClient` of httpx or httpx2, which the caller closes.

    Its pool, proxies, certificates, hooks, cookies and headers apply, except that a request's own
    headers come first.  Redirects are never followed, whatever its settings, and httpcore's
    connections refuse to send a request a second time, as digest auth or a retry would.

    Each request has a new connection, which costs a handshake.  httpcore would read bytes that a
    server sends after an answer as the answer to the next request, so a connection carries only
    one request, and none of the caller's before it.  Over HTTP/2, where an answer names its
    request, connections are shared.
    """

    def __init__(self, http_client: AsyncHTTPClient, library: Library) -> None:
        self._http_client = http_client
        self._library = library
        self._closed = False
        mask_library_logs(*TALKATIVE)

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send `request`, and return the answer, within `timeout` seconds, all waits included."""
        if self._closed or self._http_client.is_closed:
            raise TransportUnusable("this transport is closed")
        progress = ExchangeProgress(self._library.pool_timeout)
        exchange = functools.partial(self._exchange, request, timeout, progress)
        return await _within(timeout, exchange, progress.proves_not_sent)

    async def aclose(self) -> None:
        """Send nothing more; the caller closes the connections."""
        self._closed = True

    def for_downloads(self) -> httpx.AsyncBaseTransport:
        """Return a transport over the same client, for streams."""
        return _ClientDownloads(self._http_client)

    async def _exchange(
        self,
        request: Request,
        timeout: float,
        progress: ExchangeProgress,
        _scope: anyio.CancelScope,
    ) -> Response:
        response = await self._answered(request, timeout, progress)
        # Raw, because a decoder that fails leaves generators unfinished.  A hook of the caller's
        # may have read the answer already.
        read = response.aiter_bytes if response.is_stream_consumed else response.aiter_raw
        try:
            body = await read_body(read())
        finally:
            await response.aclose()
        return Response(status=response.status_code, headers=response.headers, body=body)

    async def _answered(
        self, request: Request, timeout: float, progress: ExchangeProgress
    ) -> httpx.Response:
        for _ in range(_MOST_USED_BEFORE):
            progress.look_at_the_next()
            with suppress(UsedBefore):  # each time one connection less is left from before
                return await self._begin(request, timeout, progress)
        raise RuntimeError(EACH_IS_USED)

    async def _begin(
        self, request: Request, timeout: float, progress: ExchangeProgress
    ) -> httpx.Response:
        # Writing and reading may take the whole timeout, which is enforced around them.
        connecting = timeout * _CONNECTING_SHARE
        made = self._http_client.build_request(
            request.method,
            request.target,
            headers={**request.headers, "Connection": "close"},
            content=request.body or None,
            timeout=(connecting, None, None, connecting),  # connect, read, write, pool
            extensions={"trace": progress.trace},
        )
        made.stream = self._library.byte_stream(request.body)
        progress.given_to_client = True
        try:
            answer = await self._http_client.send(made, stream=True, follow_redirects=False)
        finally:
            if progress.unfinished is not None:
                with anyio.move_on_after(CLOSING_TIME, shield=True), suppress(Exception):
                    await progress.unfinished.aclose()
        return cast("httpx.Response", answer)


class _ClientDownloads(httpx.AsyncBaseTransport):
    """Request files over a caller's client, without the credentials for the API."""

    def __init__(self, http_client: AsyncHTTPClient) -> None:
        self._http_client = http_client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer, to be read as a stream; httpx2's answers are read in the same way."""
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        made = self._http_client.build_request("GET", str(request.url), headers=headers)
        for name in ("authorization", "cookie"):
            made.headers.pop(name, None)
        answer = await self._http_client.send(made, stream=True, auth=None, follow_redirects=False)
        return cast("httpx.Response", answer)


async def _within(
    timeout: float,
    exchange: Callable[[anyio.CancelScope], Awaitable[Response]],
    proves_not_sent: Callable[[Exception | None], bool],
) -> Response:
    """Make an exchange; raise NotSent or OutcomeUnknown if it fails or takes too long."""
    if timeout <= 0:
        raise timed_out(timeout, not_sent=True)
    failure: NotSent | OutcomeUnknown | None = None
    with anyio.move_on_after(timeout) as scope:
        try:
            return await exchange(scope)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message is in doubt
            failure = failed(error, not_sent=proves_not_sent(error))
    # Raised outside of `except`, so that no context keeps the frames of the exchange.
    raise failure or timed_out(timeout, not_sent=proves_not_sent(None))
