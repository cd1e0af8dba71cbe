"""A request as bytes, and the origin that it is for."""

from __future__ import annotations

import h11
import httpx
import pytest

from skycore_async import ConfigurationError, Request
from skycore_async.runtime.secret import Secret
from skycore_async.transports import requests
from skycore_async.transports.proxies import HTTPProxy, parse_proxy
from skycore_async.transports.requests import Origin, write_connect, write_head

PROXY = ((b"Proxy-Authorization", b"Basic dTpw"),)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
POST = Request(method="POST", url="http://a.example/x", body=b"xml=", headers=FORM)
GET = Request(method="GET", url="https://[::1]:8443/x", query="a=%2B+b")

WRITTEN: dict[str, tuple[Request, Origin, bytes]] = {
    "a POST": (
        POST,
        Origin("http", "a.example", 80),
        b"\r\n".join(
            [
                b"POST /x HTTP/1.1",
                b"Host: a.example",
                b"Content-Type: application/x-www-form-urlencoded",
                b"Content-Length: 4",
                b"\r\n",
            ]
        ),
    ),
    "a GET to an IPv6 address": (
        GET,
        Origin("https", "::1", 8443),
        b"GET /x?a=%2B+b HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n",
    ),
    "a name of other letters": (
        Request(method="GET", url="https://bücher.example"),
        Origin("https", "xn--bcher-kva.example", 443),
        b"GET / HTTP/1.1\r\nHost: xn--bcher-kva.example\r\n\r\n",
    ),
}


@pytest.mark.parametrize(("request_", "origin", "head"), WRITTEN.values(), ids=WRITTEN)
def test_a_request_is_written_for_its_origin(
    request_: Request, origin: Origin, head: bytes
) -> None:
    """A request's head has its host, its headers and its length, and nothing else."""
    written = write_head(request_)
    assert (written.origin, written.head) == (origin, head)


def test_a_proxy_that_forwards_is_told_where_to() -> None:
    """A forwarding proxy gets the whole URL and its own headers; a tunnel does not."""
    head = write_head(POST, for_proxy=PROXY).head
    assert head.startswith(b"POST http://a.example/x HTTP/1.1\r\nHost: a.example\r\n")
    assert b"\r\nProxy-Authorization: Basic dTpw\r\n" in head
    assert write_head(GET, for_proxy=PROXY) == write_head(GET)


@pytest.mark.parametrize(
    ("host", "target"), [("a.example", b"a.example:443"), ("::1", b"[::1]:443")]
)
def test_a_tunnel_is_asked_for(host: str, target: bytes) -> None:
    """A CONNECT names the origin's host and port, with the proxy's headers."""
    assert write_connect(Origin("https", host, 443), PROXY) == (
        b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nAccept: */*\r\n"
        b"Proxy-Authorization: Basic dTpw\r\n\r\n" % (target, target)
    )


def test_a_url_with_the_key_is_not_cached() -> None:
    """A URL with the API key is kept in no cache."""
    kept = requests._write.cache_info().currsize
    write_head(GET)
    assert requests._write.cache_info().currsize == kept


@pytest.mark.parametrize(
    "request_",
    [
        Request(method="POST", url="gopher://a.example/"),
        Request(method="POST", url="http://"),
        Request(method="POST", url="http://a.example:port/"),
        Request(method="GET", url="http://a.example/", query="x" * 70_000),
        Request(method="POST", url="http://a.example/", headers={"X": "a\r\nB: c"}),
        Request(method="PO ST", url="http://a.example/"),
    ],
    ids=["scheme", "host", "port", "length", "header", "method"],
)
def test_an_impossible_url_is_an_error(request_: Request) -> None:
    """A URL without host, of another scheme, or with a line break is an error."""
    with pytest.raises((httpx.InvalidURL, httpx.UnsupportedProtocol, h11.LocalProtocolError)):
        write_head(request_)


def test_a_proxy_has_headers_for_its_password() -> None:
    """A proxy's password becomes a header, and shows in no `repr`."""
    proxy = HTTPProxy.of(parse_proxy(Secret("http://user:p%40ss@proxy.example")))
    assert proxy.headers == ((b"Proxy-Authorization", b"Basic dXNlcjpwQHNz"),)
    assert (proxy.origin, proxy.ssl_context) == (Origin("http", "proxy.example", 80), None)
    assert "dXNlcjpwQHNz" not in repr(proxy)
    secure = HTTPProxy.of(httpx.Proxy("https://proxy.example", headers={"X-A": "1"}))
    assert secure.headers == ((b"X-A", b"1"),)
    assert secure.ssl_context is not None
    with pytest.raises(ConfigurationError, match="SOCKS"):
        HTTPProxy.of(httpx.Proxy("socks5://proxy.example"))
