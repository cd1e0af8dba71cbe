"""The HTTP proxy that a transport goes through.

Rule: the text of one may hold a password, which is in no error, and in no frame of one.
"""

from __future__ import annotations

import base64
import ssl
from contextlib import suppress
from typing import Final

import attrs
import httpx

from ..errors import ConfigurationError
from ..runtime.secret import Secret
from .requests import Headers, Origin, origin_of
from .tls import ssl_context

_WITH_PORTS: Final = frozenset({"http", "https"})


@attrs.frozen
class HTTPProxy:
    """A proxy that forwards requests, or opens a tunnel for those over TLS."""

    origin: Origin
    headers: Headers = attrs.field(repr=False)
    ssl_context: ssl.SSLContext | None

    @classmethod
    def of(cls, proxy: httpx.Proxy) -> HTTPProxy:
        """Make it of httpx's.  Raises ConfigurationError where it is a SOCKS proxy."""
        if proxy.url.scheme not in _WITH_PORTS:
            raise ConfigurationError("proxy: for one of SOCKS there is HttpxTransport")
        headers = list(proxy.headers.raw)
        if proxy.raw_auth is not None:
            basic = base64.b64encode(b"%b:%b" % proxy.raw_auth)
            headers.append((b"Proxy-Authorization", b"Basic " + basic))
        origin = origin_of(proxy.url)
        context = proxy.ssl_context or ssl_context(verify=True) if origin.is_secure else None
        return cls(origin, tuple(headers), context)


def parse_proxy(given: Secret) -> httpx.Proxy:
    """Return the proxy of this URL.  Raises ConfigurationError where it is none."""
    proxy = None
    with suppress(httpx.InvalidURL, ValueError):
        proxy = httpx.Proxy(given.reveal())
    if proxy is None or not (proxy.url.host and given.is_utf8):
        proxy = None
        raise ConfigurationError("proxy: it is no URL of a http, https or socks5 proxy")
    return proxy
