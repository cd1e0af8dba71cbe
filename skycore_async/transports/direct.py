"""The fast transport, with its own connections, for asyncio and trio.

Strategy: HTTP/1.1, and no more of it than a message needs.  Free connections are kept by
destination, last in, first out.  There are as many connections as concurrent exchanges, whose
number the client bounds.

Rules:

* A request is one write, once.  `NotSent` needs proof: a connection notes that it writes just
  before it does, and nothing is written a second time.
* A connection whose exchange failed, timed out or was cancelled, or on which more than the answer
  was received, is closed and never used again.
* An error is made in `failures`, and raised outside the `except` block.
"""

from __future__ import annotations

import ssl
from collections import deque
from typing import Final, Protocol

import anyio
import httpx

from ..errors import NotSent, OutcomeUnknown
from ..runtime.event_loop import is_trios
from ..runtime.secret import Secret
from . import asyncio_connection, stream_connection
from .answers import AnswerReader
from .base import Request, Response, TransportLoop, TransportUnusable, idle_time
from .failures import failed, timed_out
from .proxies import HTTPProxy, parse_proxy
from .requests import Origin, write_connect, write_head
from .tls import ssl_context

# The share of the whole timeout that connecting may take, so that some is left for the answer.
_CONNECTING_SHARE: Final = 0.8

_AGREED: Final = range(200, 300)  # by the proxy, to a tunnel


class DirectConnection(Protocol):
    """A connection that carries one exchange after another, on asyncio or trio."""

    written: bool

    async def start_tls(self, context: ssl.SSLContext, hostname: str) -> None:
        """Speak TLS from here on."""

    async def exchange(
        self, request: bytes, reader: AnswerReader, timeout: float
    ) -> Response | None:
        """Write a request, once, and return its answer, or None if none comes in time."""

    def is_usable(self) -> bool:
        """Return whether it is open, and nothing was received since the last answer."""
        ...

    async def aclose(self) -> None:
        """Abort it, without notice to the other side."""


class DirectTransport:
    """The fast transport: a pool of as many connections as the client has messages in flight.

    `verify` and `proxy` mean what they mean to `HttpxTransport`: certificate checks or an
    `ssl.SSLContext`, which can hold a client certificate, and the URL of a proxy, which
    is an HTTP proxy here.

    Raises ConfigurationError if these cannot work.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | bool = True,
        proxy: str | httpx.Proxy | None = None,
    ) -> None:
        given, proxy = Secret(proxy) if isinstance(proxy, str) else proxy, None
        found = parse_proxy(given) if isinstance(given, Secret) else given
        self._downloads_proxy = found
        self._proxy = None if found is None else HTTPProxy.of(found)
        self._verify = ssl_context(verify)
        self._free: dict[Origin, deque[tuple[DirectConnection, float]]] = {}
        self._loop = TransportLoop()
        self._closed = False

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send `request` within `timeout` seconds, connecting included, and return its answer.

        Raises NotSent and OutcomeUnknown as a `Transport` does, and RuntimeError if it is closed,
        or belongs to another event loop or process.
        """
        if self._closed:
            raise TransportUnusable("this transport is closed")
        self._loop.check()
        if timeout <= 0:
            raise timed_out(timeout, not_sent=True)
        # Raised outside of `except`, so that no context keeps the frames of the exchange.
        result = await self._exchange(request, timeout)
        if isinstance(result, Response):
            return result
        raise result

    async def aclose(self) -> None:
        """Close every idle connection; one in use is closed when its exchange ends."""
        self._closed = True
        if self._free:
            self._loop.check()
        free, self._free = self._free, {}
        for connections in free.values():
            for connection, _ in connections:
                await connection.aclose()

    def for_downloads(self) -> httpx.AsyncHTTPTransport:
        """Return a transport of httpx's with the same certificates and proxy, for streams."""
        return httpx.AsyncHTTPTransport(verify=self._verify, proxy=self._downloads_proxy)

    async def _exchange(
        self, request: Request, timeout: float
    ) -> Response | NotSent | OutcomeUnknown:
        try:
            headers = None if self._proxy is None else self._proxy.headers
            written = write_head(request, for_proxy=headers)
        except Exception as error:  # noqa: BLE001 - there is nothing to send
            return failed(error, not_sent=True)
        began = self._loop.clock.time()
        connection: DirectConnection | None = None
        reader, answer = AnswerReader(request.method), None
        try:
            connection = await self._take(written.origin, began)
            if connection is None:
                connecting = timeout * _CONNECTING_SHARE
                with anyio.move_on_after(connecting):
                    connection = await self._connect(written.origin, connecting)
            left = began + timeout - self._loop.clock.time()
            if connection is not None and left > 0:
                answer = await connection.exchange(written.head + request.body, reader, left)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is in doubt
            return failed(error, not_sent=connection is None or not connection.written)
        finally:
            if connection is not None:
                if answer is not None and reader.is_clean and not self._closed:
                    free = self._free.setdefault(written.origin, deque())
                    kept = idle_time(answer.headers.get("keep-alive"))
                    free.append((connection, self._loop.clock.time() + kept))
                else:
                    await connection.aclose()
        if answer is None:
            return timed_out(timeout, not_sent=connection is None or not connection.written)
        return answer

    async def _take(self, origin: Origin, at: float) -> DirectConnection | None:
        """Return a free connection that is usable, and close those that are not."""
        free = self._free.get(origin)
        while free:
            oldest, until = free[0]
            if until < at:
                free.popleft()
                await oldest.aclose()
                continue
            connection, until = free.pop()
            if until >= at and connection.is_usable():
                connection.written = False
                return connection
            await connection.aclose()
        return None

    async def _connect(self, origin: Origin, timeout: float) -> DirectConnection:
        """Connect, and do what comes before a request: the proxy's CONNECT, and TLS."""
        proxy = self._proxy
        target = origin if proxy is None else proxy.origin
        connect = stream_connection.connect if is_trios() else asyncio_connection.connect
        connection: DirectConnection = await connect(target.host, target.port)
        try:
            if proxy is not None and proxy.ssl_context is not None:
                await connection.start_tls(proxy.ssl_context, target.host)
            if origin.is_secure:
                if proxy is not None:
                    await _open_tunnel(connection, origin, proxy, timeout)
                await connection.start_tls(self._verify, origin.host)
        except BaseException:
            await connection.aclose()
            raise
        connection.written = False
        return connection


async def _open_tunnel(
    connection: DirectConnection, origin: Origin, proxy: HTTPProxy, timeout: float
) -> None:
    reader = AnswerReader("CONNECT")
    asked = write_connect(origin, proxy.headers)
    answer = await connection.exchange(asked, reader, timeout)
    status = 0 if answer is None else answer.status
    if status not in _AGREED:
        raise httpx.ProxyError(f"{status} ")
    if not reader.is_clean:
        raise httpx.ProxyError("more came than the answer")
