"""The default transport, on httpx and its httpcore, for asyncio and trio; and one over a client.

Strategy: a pool of our own.  Free connections are kept last in, first out, so that few stay
warm and the others expire.  There are as many as exchanges at once, which is for the client
to bound.

Rules:

* A connection whose exchange broke, timed out or was cancelled, or on which more came
  than the answer, is closed and never used again: see `connection`.
* `NotSent` takes proof: of a connection of ours, that nothing of the request was given to
  its socket; of a caller's client, what httpcore's trace says, see `progress`.  The class
  of an exception proves nothing by itself.
* An error is made in `failures`, and raised outside the `except` block.
* What loads httpcore is loaded when a connection is made, and by no import.
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

# Of the whole time, what waiting for a connection may take; so that httpx cleans
# up, and says what it waited for, before the whole time is over.
_CONNECTING_SHARE: Final = 0.8

# How many connections an exchange over a caller's client finds used before: as many as a pool of
# httpx's may have.  Beyond it, each is one that was made meanwhile, and the next would be, too.
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
        # One to begin with, so that a wrong proxy is an error here.
        self._free = [self._new_connection()]
        self._loop = TransportLoop()
        self._closed = False
        mask_library_logs(*TALKATIVE)

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send `request` within `timeout` seconds, connecting included, and return its answer.

        Raises NotSent and OutcomeUnknown as a `Transport` does, and RuntimeError where it is
        closed, or belongs to another event loop or process.
        """
        if self._closed:
            raise TransportUnusable("this transport is closed")
        self._loop.check()
        connection = self._free.pop() if self._free else self._new_connection()
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
        """Return one of httpx's own, with the same certificates and proxy, for streams."""
        return httpx.AsyncHTTPTransport(verify=self._verify, proxy=self._proxy)

    def _new_connection(self) -> HTTPConnection:
        from .httpcore_connection import HTTPConnection  # noqa: PLC0415 - loads httpcore

        return HTTPConnection(ssl_context=self._verify, proxy=self._proxy)


class HttpxClientTransport:
    """Send over the caller's own `AsyncClient` of httpx or httpx2, the caller's to close.

    Its pool, proxies, certificates, hooks, cookies and headers apply, other
    than the headers that a request names itself.  Redirects are never followed,
    whatever its settings, and where httpcore's connections are told to send a
    request a second time, as by digest auth or a retry, they do not.

    Each request has a new connection of its own, which costs a handshake.  What a server sends
    after an answer is in httpcore's hands, which would read it as the answer to the next
    request; so there is no next one, nor was there one of the caller's before.  Over HTTP/2,
    where an answer names its request, connections are shared.
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
        """Send nothing more; the connections are the caller's to close."""
        self._closed = True

    def for_downloads(self) -> httpx.AsyncBaseTransport:
        """Return one over the same client, for streams."""
        return _ClientDownloads(self._http_client)

    async def _exchange(
        self, request: Request, timeout: float, progress: ExchangeProgress
    ) -> Response:
        response = await self._answered(request, timeout, progress)
        # Raw, because a decoder that fails leaves generators half run, as above.  A
        # caller's hook may have read the answer already.
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
        # Writing and reading have the whole of the time, which is kept around them.
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
    """Ask over a caller's client for files, without what authenticates to the API."""

    def __init__(self, http_client: AsyncHTTPClient) -> None:
        self._http_client = http_client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer, to be read as a stream; one of httpx2's is read alike."""
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        made = self._http_client.build_request("GET", str(request.url), headers=headers)
        for name in ("authorization", "cookie"):
            made.headers.pop(name, None)
        answer = await self._http_client.send(made, stream=True, auth=None, follow_redirects=False)
        return cast("httpx.Response", answer)


async def _within(
    timeout: float,
    exchange: Callable[[], Awaitable[Response]],
    proves_not_sent: Callable[[Exception | None], bool],
) -> Response:
    """Make an exchange, and say of one that failed or took too long what is proven of it."""
    if timeout <= 0:
        raise timed_out(timeout, not_sent=True)
    failure: NotSent | OutcomeUnknown | None = None
    with anyio.move_on_after(timeout):
        try:
            return await exchange()
        except Exception as error:  # noqa: BLE001 - whatever it is, the message is in doubt
            failure = failed(error, not_sent=proves_not_sent(error))
    # Raised out here, so that no context keeps the frames of the exchange.
    raise failure or timed_out(timeout, not_sent=proves_not_sent(None))
