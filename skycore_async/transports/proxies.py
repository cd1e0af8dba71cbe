"""The proxy that a transport goes through: given, or named by the environment.

Rule: a proxy's URL may hold a password, which is in no error, and in no frame of a traceback.
"""

from __future__ import annotations

import base64
import ipaddress
import ssl
import urllib.request
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
        """Make it from httpx's.  Raises ConfigurationError if it is a SOCKS proxy."""
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
    """Return the proxy of this URL.  Raises ConfigurationError if it is not a proxy's."""
    proxy = None
    with suppress(httpx.InvalidURL, ValueError):
        proxy = httpx.Proxy(given.reveal())
    if proxy is None or not (proxy.url.host and given.is_utf8):
        proxy = None
        raise ConfigurationError("proxy: it is no URL of a http, https or socks5 proxy")
    return proxy


def environment_proxy(base_url: str) -> httpx.Proxy | None:
    """Return the proxy that the environment names for an address.

    HTTPS_PROXY, HTTP_PROXY and ALL_PROXY name one, NO_PROXY makes exceptions, and an address on
    this machine needs none.

    Raises ConfigurationError if the environment names no valid proxy.
    """
    named = _named_for(base_url)
    return None if named is None else parse_proxy(named)


def check_same_proxy(base_url: str, other_url: str) -> None:
    """Raise ConfigurationError if the environment names another proxy for another address."""
    first, second = _named_for(base_url), _named_for(other_url)
    if (first and first.reveal()) != (second and second.reveal()):
        raise ConfigurationError(
            "base_url: by HTTPS_PROXY, NO_PROXY and the like it is reached by another way than the"
            " client's, whose connections are all of one: make a client of its own for it"
        )


def _named_for(base_url: str) -> Secret | None:
    address = httpx.URL(base_url)
    if _is_loopback(address.host) or urllib.request.proxy_bypass(address.host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if proxy is None:
        return None
    return Secret(proxy if "://" in proxy else f"http://{proxy}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
