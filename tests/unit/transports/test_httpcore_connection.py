"""What came over a connection and what can have left: rules over bytes alone."""

from __future__ import annotations

import ssl

import pytest

from skycore_async.transports.httpcore_connection import _is_all
from skycore_async.transports.network_backend import Traffic
from skycore_async.transports.socket_probe import has_more
from tests.support.fault_server import client_context, server_context

HEAD = b"HTTP/1.1 200 OK\r\nServer: a\r\n\r\n"
BODY = b"<RESPONSE/>"
CHUNKS = b"B;kind=xml\r\n<RESPONSE/>\r\n"

# What came, whether it is in chunks, and whether it is a head and BODY alone.
CAME: dict[str, tuple[bytes, bool, bool]] = {
    "an answer": (HEAD + BODY, False, True),
    "an answer whose lines end otherwise": (b"HTTP/1.1 200 OK\nServer: a\n\n" + BODY, False, True),
    "nothing": (b"", False, False),
    "a byte more": (HEAD + BODY + b"\n", False, False),
    "a second answer": (HEAD + BODY + HEAD + BODY, False, False),
    "an answer after an early one": (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + BODY, False, False),
    "more than is seen whole": (HEAD + b"\r\n\r\n" + bytes(20_000), False, False),
    "an answer in chunks": (HEAD + CHUNKS + b"0\r\n\r\n", True, True),
    "its end with zeros": (HEAD + b"0b\r\n<RESPONSE/>\r\n000\r\n\r\n", True, True),
    "two chunks": (HEAD + b"1\r\n<\r\na\r\nRESPONSE/>\r\n0\r\n\r\n", True, True),
    "a byte after the chunks": (HEAD + CHUNKS + b"0\r\n\r\nH", True, False),
    "more chunks after the last": (HEAD + (CHUNKS + b"0\r\n\r\n") * 2, True, False),
    "fields after the chunks": (HEAD + CHUNKS + b"0\r\nA: b\r\n\r\n", True, False),
    "chunks after an early answer": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + CHUNKS + b"0\r\n\r\n",
        True,
        False,
    ),
    "the last chunk is missing": (HEAD + CHUNKS, True, False),
}


@pytest.mark.parametrize(("came", "chunked", "is_all"), CAME.values(), ids=CAME)
def test_a_connection_is_clean_where_the_answer_is_all_that_came(
    came: bytes, *, chunked: bool, is_all: bool
) -> None:
    """A connection is clean only if the answer is all that came over it."""
    assert _is_all(bytearray(came), BODY, chunked=chunked) is is_all


POST = b"POST / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("first", [b"CONNECT host:443 HTTP/1.1\r\n\r\n", b"\x05\x01\x00", b"\x01"])
def test_a_handshake_with_a_proxy_is_not_the_request(first: bytes) -> None:
    """A CONNECT and SOCKS handshakes do not count as the request."""
    traffic = Traffic()
    traffic.leaves(first)
    assert not traffic.request_left
    traffic.leaves(POST)
    assert traffic.request_left


@pytest.mark.parametrize("data", [POST, b"GET /", b"\x04", b"PRI * HTTP/2.0", b"CONNECTED", b"?"])
def test_whatever_else_leaves_is_the_request(data: bytes) -> None:
    """Any other bytes that leave count as the request."""
    traffic = Traffic()
    traffic.leaves(data)
    assert traffic.request_left


def test_an_answer_of_a_proxy_is_no_part_of_the_answer() -> None:
    """A proxy's answer before the request does not count as part of the answer."""
    traffic = Traffic()
    traffic.came += b"HTTP/1.1 200 Connection established\r\n\r\n"
    traffic.leaves(POST)
    assert not traffic.came


def shaken_hands() -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return both sides of a TLS connection in memory, each writing to the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context().wrap_bio(to_server, to_client, server_side=True)
    client = client_context().wrap_bio(to_client, to_server, server_hostname="localhost")
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return client, server


def test_tls_may_have_more_than_was_read() -> None:
    """A TLS record or end that was received but not read is noticed."""
    client, server = shaken_hands()
    server.write(b"one")
    server.write(b"two")
    assert client.read(100) == b"one"
    assert has_more(client)
    assert client.read(100) == b"wo"
    assert not has_more(client)
    with pytest.raises(ssl.SSLWantReadError):
        server.unwrap()
    assert has_more(client)
