"""The fast road, on aiohttp, for asyncio alone.

Strategy: one `aiohttp.ClientSession`, made at the first message, in the event
loop that runs then.  Its connector is the pool and the limit of what is in
flight, and, because every request passes through it, the witness.

Rules:

* `NotSent` takes proof: the connector was asked for a connection and never gave
  one, or the URL was refused before.  From the moment that it gave one, the
  message may be out.
* The connector gives one connection an exchange.  aiohttp tries a GET again
  where a connection broke; it gets no second one to do so.
* A connection over which something came while it was idle is not used again:
  it is an end, or the answer to nobody's question.
* A connection whose exchange broke, timed out or was cancelled is aborted.
* An error is made in `faults`, and raised outside the `except` block.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import weakref
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, cast

import anyio
import httpx

from ..errors import ConfigurationError, NotSent, OutcomeUnknown
from ..extras import missing
from .base import KEEPALIVE_EXPIRY, MAX_RESPONSE, Request, Response
from .deadlines import Deadline, Deadlines
from .faults import failed, mask_keys_in_logs, timed_out
from .readable import Readiness

try:
    import aiohttp
    import yarl
except ImportError as error:
    raise missing("aiohttp", error) from error

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

_MAX_URL: Final = 65_536  # characters, as for httpx; servers refuse far shorter ones
_LARGE_BODY: Final = 1024 * 1024  # bytes, from which aiohttp wants a file
_CLOSING_TIME: Final = 1.0  # seconds for closing the connections before they are dropped

# The whole exchange has one deadline, which is ours.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(
    total=None, connect=None, sock_read=None, sock_connect=None
)

# What aiohttp raises of a URL, before it asks for a connection.
_BEFORE_ANY_CONNECTION: Final = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)

_TALKATIVE: Final = ("aiohttp.client", "aiohttp.internal")


class AiohttpTransport:
    """Send over a pool of aiohttp connections, at most `max_in_flight` at once.

    For asyncio alone, and there the fastest.  `verify` is True, False or an
    `ssl.SSLContext`, which can hold a client certificate, and means what it
    means to `HttpxTransport`; `proxy` is the URL of an HTTP proxy.

    Raises ConfigurationError where these cannot work.
    """

    def __init__(
        self,
        *,
        max_in_flight: int = 50,
        verify: ssl.SSLContext | bool = True,
        proxy: str | None = None,
    ) -> None:
        self._session: aiohttp.ClientSession | None = None
        if max_in_flight < 1:
            raise ConfigurationError(f"max_in_flight: {max_in_flight!r} is less than 1")
        self._max_in_flight = max_in_flight
        # One way to find certificates, whatever the road.
        self._verify = httpx.create_ssl_context(verify=verify)
        self._proxy = None if proxy is None else _proxy(proxy)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadlines = Deadlines()
        self._in_flight = 0
        self._closed = False
        mask_keys_in_logs(*_TALKATIVE)

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send `request` within `timeout` seconds, the wait for a free connection included."""
        if self._closed:
            raise RuntimeError("this transport is closed")
        session = self._session_here()
        if timeout <= 0:
            raise timed_out(timeout, not_sent=True)
        if len(request.target) > _MAX_URL:
            raise NotSent("no connection: URL too long")
        self._in_flight += 1
        try:
            return await self._exchange(session, request, timeout)
        finally:
            self._in_flight -= 1
            if self._closed and not self._in_flight:
                await self._close(session)

    async def aclose(self) -> None:
        """Close the connections; where an exchange is under way, when the last one has ended."""
        self._closed = True
        if self._session is not None:
            session = self._session_here()
            if not self._in_flight:
                await self._close(session)

    def __del__(self) -> None:
        # A program that ends without closing is not scolded for it by aiohttp.
        if self._session is not None:
            self._session.detach()

    def _session_here(self) -> aiohttp.ClientSession:
        loop = _running_loop()
        if self._session is None:
            self._loop = loop
            self._session = aiohttp.ClientSession(
                connector=_Connector(
                    limit=self._max_in_flight,
                    ssl=self._verify,
                    keepalive_timeout=KEEPALIVE_EXPIRY,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # an answer is read as it comes
                timeout=_NO_TIMEOUT,
            )
        elif self._loop is not loop:
            raise RuntimeError(
                "this transport belongs to another event loop; make one for each event loop"
            )
        return self._session

    async def _exchange(
        self, session: aiohttp.ClientSession, request: Request, timeout: float
    ) -> Response:
        progress = _Progress()
        before = _progress.set(progress)
        failure: NotSent | OutcomeUnknown | None = None
        try:
            with Deadline(self._deadlines, timeout):
                try:
                    response = await self._answer(session, request)
                    try:
                        answer = await _read(response)
                    finally:
                        response.close()  # which is nothing, once it was read to its end
                except Exception as fault:  # noqa: BLE001 - whatever it is, it is in doubt
                    failure = failed(fault, not_sent=progress.proves_not_sent(fault))
                else:
                    progress.answered = True
                    return answer
        finally:
            _progress.reset(before)
            progress.end()
        # Raised out here, so that no context keeps the frames of the exchange.
        raise failure or timed_out(timeout, not_sent=progress.proves_not_sent())

    def _answer(
        self, session: aiohttp.ClientSession, request: Request
    ) -> Awaitable[aiohttp.ClientResponse]:
        large = len(request.body) > _LARGE_BODY
        return session.request(
            request.method,
            yarl.URL(request.target, encoded=True),
            data=io.BytesIO(request.body) if large else request.body or None,
            headers=request.headers,
            proxy=self._proxy,
            allow_redirects=False,
        )

    async def _close(self, session: aiohttp.ClientSession) -> None:
        self._session = None
        self._deadlines.stop()
        with anyio.move_on_after(_CLOSING_TIME, shield=True), suppress(Exception):
            await session.close()


class _Progress:
    """How far one exchange has come, which its connector writes down."""

    def __init__(self) -> None:
        self.connecting = False
        self.connected = False
        self.transport: asyncio.Transport | None = None
        self.answered = False

    def proves_not_sent(self, fault: Exception | None = None) -> bool:
        if self.connected:
            return False
        return self.connecting or isinstance(fault, _BEFORE_ANY_CONNECTION)

    def end(self) -> None:
        # Closing would wait for what is left to write, and nobody may read that.
        if self.transport is not None and not self.answered:
            self.transport.abort()


# Of the exchange that runs in this task.
_progress: Final[ContextVar[_Progress]] = ContextVar("_progress")


class _Connector(aiohttp.TCPConnector):
    def __init__(self, *, limit: int, ssl: ssl.SSLContext, keepalive_timeout: float) -> None:
        super().__init__(limit=limit, ssl=ssl, keepalive_timeout=keepalive_timeout)
        # Of each connection that was used, and so may have come to its end.
        self._once_used: weakref.WeakKeyDictionary[ResponseHandler, Readiness] = (
            weakref.WeakKeyDictionary()
        )

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        progress = _progress.get()
        if progress.connected:
            raise aiohttp.ServerDisconnectedError
        progress.connecting = True
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = cast("ResponseHandler", connection.protocol)  # it is not closed yet
            transport = cast("asyncio.Transport", connection.transport)
            readiness = self._once_used.get(protocol)
            if readiness is None:
                self._once_used[protocol] = Readiness(transport.get_extra_info("socket"))
                break
            # The event loop may not have come round to what is there to be read.
            if not (protocol.should_close or readiness.is_readable()):
                break
            connection.close()
        progress.connected = True
        progress.transport = transport
        return connection

    def __del__(self, _warnings: object = None) -> None:
        # See AiohttpTransport; the sockets close themselves.
        pass


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "AiohttpTransport is for asyncio alone; HttpxTransport is for trio"
        ) from None


def _proxy(proxy: str) -> yarl.URL:
    # The text may hold a password: it is in no error.
    url = None
    with suppress(ValueError, TypeError):
        url = yarl.URL(proxy)
    if url is None or url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError("proxy: it is no http or https URL")
    return url


async def _read(response: aiohttp.ClientResponse) -> Response:
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > MAX_RESPONSE:
            break
    else:
        # An answer may come before the request is out, which still is to go.
        await response.wait_for_close()
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(status=response.status, headers=headers, body=bytes(body))
