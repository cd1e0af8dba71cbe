"""The download of a file that an answer of the API links to, as a stream.

Strategy: the client's transport provides the one for downloads (`for_downloads`), since its proxy
and its certificates may be the only way: httpx's own transport with both, as beneath httpx's
client, or the caller's `AsyncClient`.  The former follows no redirect, has no cookies and no
authentication, and logs no address; the secret address is all that guards a report.

Rules:

* Each address, including those of redirects, is checked before anything is sent to it: it is
  https, or has the API's own scheme, host and port.  An address with the API key in it has the
  latter.
* A compressed file is decompressed a piece at a time.
* Waiting for the next piece is bounded, each time and in all; the time that the reader takes
  between pieces does not count.
* No cancel scope stays open between two pieces.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

import anyio
import anyio.lowlevel
import httpx

from ..errors import ReportError
from ..protocol.report import Link
from ..runtime.event_loop import now
from ..runtime.secret import Secret
from ..version import __version__
from .answer_body import break_off
from .base import CLOSING_TIME, Transport
from .failures import broken_off
from .proxies import environment_proxy
from .tls import ssl_context

MAX_REDIRECTS: Final = 5
LONGEST: Final = 3600.0
"""Seconds that one download may be waited for in all."""
_AT_A_TIME: Final = 64 * 1024

_HTTP_OK: Final = 200
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PLAIN: Final = frozenset({"", "identity"})
_COMPRESSED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP: Final = b"\x1f\x8b"
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_HEADERS: Final = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip",
    # A cached report would be older, and would prove messages not sent that were sent since.
    "Cache-Control": "no-cache, no-store",
    "User-Agent": f"skycore-async/{__version__}",
}

_T = TypeVar("_T")


class Download:
    """One download: `open` it, `read` it to its end, and `aclose` it in any case.

    `timeout` is how many seconds each wait may take.
    """

    def __init__(
        self, transport: Transport, *, base_url: str, api_key: Secret, timeout: float
    ) -> None:
        self._transport = transport
        self._api = httpx.URL(base_url)
        self._api_key = api_key
        self._timeout = timeout
        self._left = LONGEST
        self._download_transport: httpx.AsyncBaseTransport | None = None
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._unpacked = Unpacked()

    async def open(self, link: Link) -> None:
        """Request the file, and follow redirects to allowed addresses.

        Raises ReportError if it cannot be had.
        """
        url = self._checked(link.url, has_key=link.has_key)
        for _ in range(MAX_REDIRECTS + 1):
            response = self._response = await self._within(partial(self._begin, url))
            if response.status_code in _REDIRECTS:
                location = response.headers.get("location", "")
                await self.aclose()
                has_key = self._api_key.hide_in(location.encode()) != location.encode()
                url = self._checked(location, has_key=has_key, base=url)
                continue
            encoding = response.headers.get("content-encoding", "").strip().lower()
            if response.status_code != _HTTP_OK or encoding not in _PLAIN | _COMPRESSED:
                raise ReportError(f"HTTP {response.status_code} in place of the report")
            # A hook of the caller's may have read it already.
            was_read = response.is_stream_consumed
            self._chunks = response.aiter_bytes() if was_read else response.aiter_raw()
            self._unpacked = Unpacked(is_compressed=encoding in _COMPRESSED and not was_read)
            return
        raise ReportError(f"the link to the report is redirected more than {MAX_REDIRECTS} times")

    async def read(self) -> bytes | None:
        """Return the next piece, or None at the end.

        Raises ReportError if the download breaks off.
        """
        chunks = self._chunks
        assert chunks is not None, "it is not open"  # noqa: S101
        while not (piece := self._unpacked.take()):
            chunk = await self._within(lambda: anext(chunks, None))
            if chunk is None:
                self._unpacked.end()
                return None
            self._unpacked.add(chunk)
        await anyio.lowlevel.checkpoint()  # as one chunk may be written out to many pieces
        return piece

    async def aclose(self) -> None:
        """Close it, even if the caller is cancelled, in bounded time and without raising."""
        with anyio.move_on_after(CLOSING_TIME, shield=True):
            if self._chunks is not None:
                with suppress(Exception):
                    await break_off(self._chunks)
            for opened in (self._response, self._download_transport):
                if opened is not None:
                    with suppress(Exception):
                        await opened.aclose()
        self._chunks = self._response = self._download_transport = None

    async def _begin(self, url: httpx.URL) -> httpx.Response:
        # Not checked by `isinstance` with a protocol, which misses methods that a wrapper passes
        # on.
        make: Callable[[], httpx.AsyncBaseTransport] | None = getattr(
            self._transport, "for_downloads", None
        )
        transport = self._download_transport = make() if make else _usual(url)
        return await transport.handle_async_request(httpx.Request("GET", url, headers=_HEADERS))

    async def _within(self, call: Callable[[], Awaitable[_T]]) -> _T:
        began, failure = now(), None
        with anyio.move_on_after(min(self._timeout, self._left)):
            try:
                return await call()
            except Exception as error:  # noqa: BLE001 - whatever it is, the rest does not come
                failure = broken_off(error)
            finally:
                self._left -= now() - began
        # Raised outside of `except`, so that no context keeps the frames of the exchange.
        raise failure or ReportError(
            f"the report breaks off: nothing came within {self._timeout:g} seconds"
        )

    def _checked(self, address: str, *, has_key: bool, base: httpx.URL | None = None) -> httpx.URL:
        """Return the URL of an address, if it is allowed."""
        url = None
        with suppress(httpx.InvalidURL, ValueError):
            url = base.join(address) if base else httpx.URL(address)
        if url is None or not url.host or url.userinfo:
            raise ReportError("the link to the report is no address of one")
        api = self._api
        if (url.scheme, url.host, url.port) == (api.scheme, api.host, api.port):
            return url
        if has_key:
            raise ReportError("the link to the report would take the API key to another host")
        if url.scheme != "https":
            raise ReportError("the link to the report leads to another host, and not by https")
        return url


def _usual(url: httpx.URL) -> httpx.AsyncHTTPTransport:
    proxy = environment_proxy(str(url))
    return httpx.AsyncHTTPTransport(verify=ssl_context(True), proxy=proxy)


class Unpacked:
    """The content of a file, a piece at a time, decompressed if it was compressed."""

    def __init__(self, *, is_compressed: bool = False) -> None:
        self._waiting = b""
        self._is_known = is_compressed
        self._inflate = zlib.decompressobj(_GZIP_OR_ZLIB) if is_compressed else None

    def add(self, chunk: bytes) -> None:
        """Add the next received bytes, once nothing is left to take."""
        self._waiting += chunk

    def take(self) -> bytes:
        """Return the next piece, empty if more has to be received first."""
        if not self._is_known:
            if len(self._waiting) < len(_GZIP):
                return b""
            self._is_known = True
            if self._waiting.startswith(_GZIP):
                self._inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
        if self._inflate is None:
            piece, self._waiting = self._waiting, b""
            return piece
        return self._written_out(self._inflate)

    def end(self) -> None:
        """Note that nothing more will be received.

        Raises ReportError if something is missing.
        """
        if self._waiting or (self._inflate is not None and not self._inflate.eof):
            raise ReportError("the report breaks off: it is compressed, and not whole")

    def _written_out(self, inflate: zlib._Decompress) -> bytes:
        failure = None
        while True:
            if inflate.eof and self._waiting:  # another one behind it
                inflate = self._inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
            try:
                piece = inflate.decompress(self._waiting, _AT_A_TIME)
            except zlib.error:
                failure = ReportError("the report is not compressed as it says")
                break
            self._waiting = inflate.unconsumed_tail or inflate.unused_data
            if piece or not (inflate.eof and self._waiting):
                return piece
        raise failure
