"""A request as bytes for the wire, and its destination.  No I/O.

Strategy: nearly all POSTs of one length have the same head, so h11, which checks it, writes it
once.  A URL with a query holds the key and a text, so the head of a GET is not cached.
"""

from __future__ import annotations

import functools
from typing import Final

import attrs
import httpx

from .base import Request

_PORTS: Final = {"http": 80, "https": 443}

Headers = tuple[tuple[bytes, bytes], ...]


@attrs.frozen(cache_hash=True)
class Origin:
    """The host that a request is for."""

    scheme: str
    host: str
    port: int

    @property
    def is_secure(self) -> bool:
        """Whether it is reached over TLS."""
        return self.scheme == "https"


@attrs.frozen
class Written:
    """A request as bytes, with its body separate, and its origin."""

    origin: Origin
    head: bytes = attrs.field(repr=False)


def write_head(request: Request, *, for_proxy: Headers | None = None) -> Written:
    """Return the head of a request; `for_proxy` has the headers for a proxy that forwards it.

    Raises httpx.InvalidURL, httpx.UnsupportedProtocol or h11.LocalProtocolError if it cannot be
    sent.
    """
    named = tuple(request.headers.items())
    if request.query:
        write = _write.__wrapped__
        return write(request.method, request.target, len(request.body), named, for_proxy)
    return _write(request.method, request.url, len(request.body), named, for_proxy)


@functools.lru_cache(maxsize=512)
def _write(
    method: str,
    target: str,
    length: int,
    named: tuple[tuple[str, str], ...],
    for_proxy: Headers | None,
) -> Written:
    url = httpx.URL(target)
    if url.scheme not in _PORTS or not url.host:
        raise httpx.UnsupportedProtocol("it is no http or https URL")
    path, headers = url.raw_path, [(b"Host", url.netloc)]
    if for_proxy is not None and url.scheme == "http":
        path = b"http://%b%b" % (url.netloc, path)
        headers += for_proxy
    headers += [(name.encode(), value.encode()) for name, value in named]
    if length:
        headers.append((b"Content-Length", b"%d" % length))
    return Written(origin_of(url), _by_h11(method, path, headers))


def origin_of(url: httpx.URL) -> Origin:
    """Return the origin of an http or https URL."""
    return Origin(url.scheme, url.raw_host.decode(), url.port or _PORTS[url.scheme])


def write_connect(origin: Origin, for_proxy: Headers) -> bytes:
    """Return the CONNECT that opens a tunnel through a proxy."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}".encode()
    headers = [(b"Host", target), (b"Accept", b"*/*"), *for_proxy]
    return _by_h11("CONNECT", target, headers)


def _by_h11(method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    import h11  # noqa: PLC0415 - not before the first request

    made = h11.Request(method=method, target=target, headers=headers)
    return bytes(h11.Connection(h11.CLIENT).send(made))
