"""One connection on httpcore, which carries one exchange after another.

Strategy: an httpcore pool of one connection.  It connects, directly or through a proxy, speaks
HTTP, and connects anew if the connection expired or ended while it was idle.  Our own streams tell
what httpcore does not tell of an exchange: see `network_backend`.

Rule: a connection is clean, and may be used again, only if all received bytes are known to be the
answer.  h11 keeps any bytes after it, and would take them for the next answer.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import re
import ssl
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import Any, Final, cast

import anyio
import httpcore
import httpx

from ..runtime.event_loop import now
from .answer_body import read_body
from .base import CLOSING_TIME, KEEPALIVE_EXPIRY, Request, Response, idle_time
from .network_backend import SEEN_WHOLE, NetworkBackend, Traffic

_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_SIZE_OF_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]+)[^\r\n]*\r\n")

# httpcore's exceptions under httpx's names, which users know.
_RAISED: Final = {
    getattr(httpcore, name): getattr(httpx, name)
    for name in (
        "ConnectError",
        "ConnectTimeout",
        "LocalProtocolError",
        "ProxyError",
        "ReadError",
        "RemoteProtocolError",
        "UnsupportedProtocol",
    )
}


class HTTPConnection:
    """A connection; `proxy` is one of the schemes http, https, socks5 and socks5h."""

    def __init__(self, *, ssl_context: ssl.SSLContext, proxy: httpx.Proxy | None) -> None:
        self._traffic = Traffic()
        self._backend = NetworkBackend(self._traffic)
        self._pool = _pool(self._backend, ssl_context, proxy)
        self.is_clean = True
        self.kept_until = math.inf  # as its server says, once it is open

    def proves_not_sent(self, _: Exception | None = None) -> bool:
        """Return whether no byte of the last request can have left."""
        return not self._traffic.request_left

    async def exchange(
        self, request: Request, scope: anyio.CancelScope, *, connecting: float
    ) -> Response:
        """Send a request and read the answer, with `connecting` seconds for each handshake.

        `scope`, which is around it, bounds it in all.
        """
        self._traffic.begin(scope)
        self.is_clean = False
        url = _parsed(request)
        made = httpcore.Request(
            request.method,
            _of_httpcore(url),
            headers=_headers(url.netloc, len(request.body), *request.headers.items()),
            content=request.body,
            extensions={"timeout": {"connect": connecting}},
        )
        try:
            answer = await self._pool.handle_async_request(made)
            try:
                body = await read_body(aiter(cast("AsyncIterable[bytes]", answer.stream)))
            finally:
                await answer.aclose()
        except Exception as error:  # noqa: BLE001 - it goes on, under the name that is known
            raised = _RAISED.get(type(error))
            raise (raised(str(error)) if raised else error) from None
        headers = {
            name.decode().lower(): value.decode("latin-1") for name, value in answer.headers
        }
        self.is_clean = _is_all(self._traffic.came, body, chunked="transfer-encoding" in headers)
        self.kept_until = now() + idle_time(headers.get("keep-alive"))
        return Response(status=answer.status, headers=headers, body=body)

    async def aclose(self) -> None:
        """Close it, even if the caller is cancelled, in bounded time and without raising."""
        with anyio.move_on_after(CLOSING_TIME, shield=True):
            for close in (self._pool.aclose, self._backend.aclose):
                with suppress(Exception):
                    await close()


def _pool(
    backend: NetworkBackend, ssl_context: ssl.SSLContext, proxy: httpx.Proxy | None
) -> httpcore.AsyncConnectionPool:
    settings: dict[str, Any] = {
        "ssl_context": ssl_context,
        "max_connections": 1,
        "keepalive_expiry": KEEPALIVE_EXPIRY,
        "network_backend": backend,
    }
    if proxy is None:
        return httpcore.AsyncConnectionPool(**settings)
    settings |= {"proxy_url": _of_httpcore(proxy.url), "proxy_auth": proxy.raw_auth}
    if proxy.url.scheme in {"http", "https"}:
        return httpcore.AsyncHTTPProxy(
            proxy_headers=proxy.headers.raw, proxy_ssl_context=proxy.ssl_context, **settings
        )
    if importlib.util.find_spec("socksio") is None:
        raise ImportError("a SOCKS proxy needs socksio: pip install 'httpx[socks]'")
    return httpcore.AsyncSOCKSProxy(**settings)


def _of_httpcore(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


def _parsed(request: Request) -> httpx.URL:
    # A URL with a query holds the key and a text, so it is not cached.
    return httpx.URL(request.target) if request.query else _url(request.url)


@functools.lru_cache(maxsize=8)
def _url(url: str) -> httpx.URL:
    return httpx.URL(url)


@functools.lru_cache(maxsize=1024)
def _headers(host: bytes, length: int, *named: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request, which most requests of its length share."""
    headers = [(b"Host", host), *((name.encode(), value.encode()) for name, value in named)]
    if length:
        headers.append((b"Content-Length", b"%d" % length))
    return headers


def _is_all(came: bytearray, body: bytes, *, chunked: bool) -> bool:
    """Return whether the received bytes are a head and this body, and nothing else."""
    head = _END_OF_HEAD.search(came)
    if head is None or len(came) > SEEN_WHOLE:
        return False
    at = head.end()
    if not chunked:
        return came[at:] == body
    while chunk := _SIZE_OF_CHUNK.match(came, at):
        size = int(chunk[1], 16)
        at = chunk.end() + size + len(b"\r\n")
        if not size:
            return at == len(came)
    return False
