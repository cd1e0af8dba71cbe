"""The fast transport, on aiohttp, for asyncio alone.

Strategy: one connector, made at the first message, in the event loop that runs
then.  It is the pool and the limit of what is in flight, and, because every
request passes through it, the witness: see `witness`.

Rules:

* `NotSent` takes proof: the connector was asked for a connection and never gave
  one, or the URL was refused before.  From the moment that it gave one, the
  message may be out.
* A connection whose exchange broke, timed out or was cancelled is aborted.
* An error is made in `failures`, and raised outside the `except` block.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Final

import anyio

from ..errors import ConfigurationError, NotSent, OutcomeUnknown
from ..runtime.event_loop import elsewhere, is_trios
from ..runtime.extras import missing
from ..runtime.secret import Secret
from .base import KEEPALIVE_EXPIRY, MAX_RESPONSE, Request, Response, TransportUnusable
from .deadlines import Deadline, Deadlines
from .failures import failed, timed_out
from .library_logs import mask_library_logs
from .tls import ssl_context

try:
    import aiohttp
    import yarl

    from .witness import WitnessConnector, WitnessedExchange, progress_here
except ImportError as error:
    raise missing("aiohttp", error) from error

_MAX_URL: Final = 65_536  # characters, as for httpx; servers refuse far shorter ones
_LARGE_BODY: Final = 1024 * 1024  # bytes, from which aiohttp wants a file
_CLOSING_TIME: Final = 1.0  # seconds for closing the connections before they are dropped

# The whole exchange has one deadline, which is ours.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(
    total=None, connect=None, sock_read=None, sock_connect=None
)

_TALKATIVE: Final = ("aiohttp.client", "aiohttp.internal")


class AiohttpTransport:
    """Send over a pool of aiohttp connections, as many as the client has in flight.

    For asyncio alone, and there the fastest.  `verify` is True, False or an
    `ssl.SSLContext`, which can hold a client certificate, and means what it
    means to `HttpxTransport`; `proxy` is the URL of an HTTP proxy.

    Raises ConfigurationError where these cannot work.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | bool = True,
        proxy: str | None = None,
    ) -> None:
        given, proxy = None if proxy is None else Secret(proxy), None
        self._sessions: _Sessions | None = None
        # One way to find certificates, whatever the transport.
        self._verify = ssl_context(verify)
        self._proxy = None if given is None else _proxy(given)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadlines = Deadlines()
        self._in_flight = 0
        self._closed = False
        mask_library_logs(*_TALKATIVE)

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send `request` within `timeout` seconds, connecting included."""
        if self._closed:
            raise TransportUnusable("this transport is closed")
        self._check_loop()
        sessions = self._sessions or self._begin(request.headers)
        if timeout <= 0:
            raise timed_out(timeout, not_sent=True)
        if len(request.target) > _MAX_URL:
            raise NotSent("no connection: URL too long")
        self._in_flight += 1
        try:
            return await self._exchange(sessions, request, timeout)
        finally:
            self._in_flight -= 1
            if self._closed and not self._in_flight:
                await self._close(sessions)

    async def aclose(self) -> None:
        """Close the connections; where an exchange is under way, when the last one has ended."""
        self._closed = True
        if self._sessions is not None:
            self._check_loop()
            if not self._in_flight:
                await self._close(self._sessions)

    def __del__(self) -> None:
        # A program that ends without closing is not scolded for it by aiohttp.
        if self._sessions is not None:
            self._sessions.detach()

    def _check_loop(self) -> None:
        loop = _running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise TransportUnusable(*elsewhere("transport").args)

    def _begin(self, headers: Mapping[str, str]) -> _Sessions:
        connector = WitnessConnector(
            limit=0,  # which is none: it is for the client to bound what is in flight
            ssl=self._verify,
            keepalive_timeout=KEEPALIVE_EXPIRY,
        )
        self._sessions = _Sessions(connector, headers)
        return self._sessions

    async def _exchange(self, sessions: _Sessions, request: Request, timeout: float) -> Response:
        progress = WitnessedExchange()
        before = progress_here.set(progress)
        failure: NotSent | OutcomeUnknown | None = None
        try:
            with Deadline(self._deadlines, timeout):
                try:
                    answer = await _answer(sessions.request(request, proxy=self._proxy))
                except Exception as error:  # noqa: BLE001 - whatever it is, it is in doubt
                    failure = failed(error, not_sent=progress.proves_not_sent(error))
                else:
                    progress.answered = True
                    return answer
        finally:
            progress_here.reset(before)
            progress.end()
        # Raised out here, so that no context keeps the frames of the exchange.
        raise failure or timed_out(timeout, not_sent=progress.proves_not_sent())

    async def _close(self, sessions: _Sessions) -> None:
        self._sessions = None
        self._deadlines.stop()
        with anyio.move_on_after(_CLOSING_TIME, shield=True), suppress(Exception):
            await sessions.close()


class _Sessions:
    """Two sessions over one connector: one whose own headers are the usual ones, one without.

    What a session has for its own costs aiohttp far less than what a request brings along.
    """

    def __init__(self, connector: WitnessConnector, usual: Mapping[str, str]) -> None:
        self._connector = connector
        self._usual = dict(usual)
        self._with_usual = _session(connector, usual)
        self._without = _session(connector, None)

    def request(
        self, request: Request, *, proxy: yarl.URL | None
    ) -> Awaitable[aiohttp.ClientResponse]:
        is_usual = request.headers == self._usual
        session = self._with_usual if is_usual else self._without
        large = len(request.body) > _LARGE_BODY
        return session.request(
            request.method,
            yarl.URL(request.target, encoded=True),
            data=io.BytesIO(request.body) if large else request.body or None,
            headers=None if is_usual else request.headers,
            proxy=proxy,
            allow_redirects=False,
        )

    def detach(self) -> None:
        self._with_usual.detach()
        self._without.detach()

    async def close(self) -> None:
        self.detach()
        await self._connector.close()


def _session(
    connector: WitnessConnector, headers: Mapping[str, str] | None
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # an answer is read as it comes
        headers=headers,
        timeout=_NO_TIMEOUT,
    )


def _running_loop() -> asyncio.AbstractEventLoop:
    if is_trios():
        raise TransportUnusable(
            "AiohttpTransport is for asyncio alone; HttpxTransport is for trio"
        )
    return asyncio.get_running_loop()


def _proxy(given: Secret) -> yarl.URL:
    # The text may hold a password: it is in no error, and in no frame of one.
    url = None
    with suppress(ValueError, TypeError):
        url = yarl.URL(given.reveal())
    is_one = url is not None and url.scheme in {"http", "https"} and url.host
    if url is None or not (is_one and given.is_utf8):
        url = None
        raise ConfigurationError("proxy: it is no http or https URL")
    return url


async def _answer(asked: Awaitable[aiohttp.ClientResponse]) -> Response:
    # Here, and not where the error is raised, whose frame has no local that knows the URL.
    response = await asked
    try:
        return await _read(response)
    finally:
        if not response.closed:  # as it is, once it was read to its end
            response.close()


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
