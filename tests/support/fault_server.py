"""A server that misbehaves by script, over real sockets on the loopback.

Strategy: a script is a tuple of steps, plain values that a small loop plays on
one connection; after its last step the connection is closed.  The first
connection gets the first script, and the last script is for all that follow.
Raw sockets, because no HTTP library can be made to misbehave in these ways.

Rules:

* Every complete request is in `requests`: the provider could have acted on it,
  whatever the client made of the answer.
* A step that waits ends when the client goes or the server stops; no step
  sleeps for longer than necessary.

`FAULTS` and `GOOD` are the tables: a name, and what happens on the wire.
"""

from __future__ import annotations

import functools
import gzip
import re
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs


@attrs.frozen
class Read:
    """Read one request whole."""


@attrs.frozen
class ReadHead:
    """Read the head of a request, and leave its body."""


@attrs.frozen
class Arrive:
    """Wait until a request arrives, and read none of it."""


@attrs.frozen
class Hold:
    """Wait until the test lets go."""


@attrs.frozen
class Send:
    """Send these bytes."""

    data: bytes


@attrs.frozen
class Reply:
    """Send the answer that this makes for the last complete request on this connection."""

    make: Callable[[bytes], bytes]


@attrs.frozen
class Together:
    """Send each of these in a write of its own, and so in a TLS record; they arrive at once.

    Where the kernel can hold them back until then, as on Linux; elsewhere soon after each other.
    """

    parts: tuple[bytes, ...]


@attrs.frozen
class Drip:
    """Send these bytes over and over, with a pause after each, until the client has enough."""

    data: bytes
    pause: float = 0.02


@attrs.frozen
class Wait:
    """Do nothing for a while."""

    seconds: float


@attrs.frozen
class Hang:
    """Send nothing until the client closes the connection."""


@attrs.frozen
class Reset:
    """Break the connection with a RST."""


@attrs.frozen
class Finish:
    """End this side of the connection with a FIN."""


@attrs.frozen
class Secure:
    """Speak TLS from here on, with the certificate for localhost.

    Or with one for the same name that nobody trusts; or demand one of the client.  Of `protocols`
    the first is chosen that the client offers.
    """

    trusted: bool = True
    demanding: bool = False
    protocols: tuple[str, ...] = ()


WaitingStep = Arrive | Hold | Wait | Hang
PlainStep = Read | ReadHead | Send | Reply | Together | Drip | Reset | Finish | WaitingStep
Step = PlainStep | Secure
Script = tuple[Step, ...]

SUCCESS: Final = (
    b"<RESPONSE><STATUS>Success</STATUS><TRACKINGID>SMS_12345</TRACKINGID>"
    b"<TO>15551234888</TO></RESPONSE>"
)


def answer(
    body: bytes = SUCCESS, *, status: str = "200 OK", headers: dict[str, str] | None = None
) -> bytes:
    """Write an HTTP answer."""
    fields = {"Content-Type": "text/xml", "Content-Length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def chunked(body: bytes) -> bytes:
    """Write an answer in two chunks."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = (body[:40], body[40:], b"")
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


def html(status: str, **headers: str) -> bytes:
    """Write the kind of answer that a gateway gives."""
    body = b"<html><body><h1>" + status.encode() + b"</h1></body></html>"
    return answer(body, status=status, headers={"Content-Type": "text/html", **headers})


# Each of them leaves the message in doubt.
FAULTS: Final[dict[str, Script]] = {
    "closes before reading": (),
    "reads the head and closes": (ReadHead(),),
    "reads the head and resets": (ReadHead(), Reset()),
    "reads and closes": (Read(),),
    "reads and resets": (Read(), Reset()),
    "half a status line": (Read(), Send(b"HTTP/1.1 2")),
    "headers without an end": (Read(), Send(b"HTTP/1.1 200 OK\r\nContent-Type: text/x")),
    "headers and no body": (Read(), Send(answer()[: -len(SUCCESS)])),
    "half a body": (Read(), Send(answer()[:-40])),
    "half a body, then a reset": (Read(), Send(answer()[:-40]), Reset()),
    "half a chunk": (Read(), Send(chunked(SUCCESS)[:-60])),
    "a chunk size that is no number": (
        Read(),
        Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n"),
    ),
    "no HTTP": (Read(), Send(b"220 smtp.example ESMTP\r\n")),
    "gzip that nobody asked for": (
        Read(),
        Send(answer(gzip.compress(SUCCESS), headers={"Content-Encoding": "gzip"})),
    ),
    "an endless body": (
        Read(),
        Send(b"HTTP/1.1 200 OK\r\n\r\n"),
        Drip(b"x" * 256 * 1024, pause=0),
    ),
    "204 without a body": (Read(), Send(b"HTTP/1.1 204 No Content\r\n\r\n")),
    "301": (Read(), Send(html("301 Moved Permanently", Location="/elsewhere"))),
    "307": (Read(), Send(html("307 Temporary Redirect", Location="/elsewhere"))),
    "302 to nowhere": (Read(), Send(html("302 Found", Location="https://[nowhere"))),
    "400": (Read(), Send(html("400 Bad Request"))),
    "404": (Read(), Send(html("404 Not Found"))),
    "500": (Read(), Send(html("500 Internal Server Error"))),
    "502": (Read(), Send(html("502 Bad Gateway"))),
}

# These leave it in doubt too, and take the client's whole timeout.
SLOW_FAULTS: Final[dict[str, Script]] = {
    "hangs before reading": (Hang(),),
    "drips a status line": (Read(), Send(b"HTTP/1.1 200 "), Drip(b"O")),
    "reads and hangs": (Read(), Hang()),
    "only 100 Continue": (Read(), Send(b"HTTP/1.1 100 Continue\r\n\r\n"), Hang()),
    "hangs within the body": (Read(), Send(answer()[:-40]), Hang()),
    "drips headers": (Read(), Send(b"HTTP/1.1 200 OK\r\n"), Drip(b"X-More: 1\r\n")),
    "drips a body": (
        Read(),
        Send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"),
        Drip(b" "),
    ),
}

# Unusual, and still an answer that says Success.
GOOD: Final[dict[str, Script]] = {
    "plain": (Read(), Send(answer())),
    "then closes, as it said": (Read(), Send(answer(headers={"Connection": "close"}))),
    "without a length": (Read(), Send(b"HTTP/1.0 200 OK\r\n\r\n" + SUCCESS)),
    "chunked": (Read(), Send(chunked(SUCCESS))),
    "after 100 Continue": (Read(), Send(b"HTTP/1.1 100 Continue\r\n\r\n" + answer())),
    "byte by byte": (
        Read(),
        *(Send(bytes([byte])) for byte in answer()),
    ),
    "with status 500": (Read(), Send(answer(status="500 Internal Server Error"))),
    "before reading": (Send(answer()), Read()),
}

_LENGTH: Final = re.compile(rb"^content-length: *([0-9]+)", re.IGNORECASE | re.MULTILINE)

# For localhost alone, and for no one else: its key is right here.
CERTIFICATE: Final = """\
-----BEGIN CERTIFICATE-----
MIIBZzCCAQ2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKDQ88MqkAqhLi/N
RsOisMHn7J17e5zUNchAOe1Qxl+mlvGTgjdPFFVJBh8vUnviVbioF1IzugewIaeE
3gsquqmjTjBMMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8E
BTADAQH/MB0GA1UdDgQWBBQWAoaimtzJnq6jP8lyiY0C0gSj7DAKBggqhkjOPQQD
AgNIADBFAiEAxtLrjZd6uOSPBRF8WuoAvUK+y7/79kCqpjeLD6mG6gMCIEfpN6QZ
THv/Drxa92NSwMWfQiy2nMK2TSntPMd/0XQk
-----END CERTIFICATE-----
"""
_PRIVATE_KEY: Final = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgwZ+F6zi7GtVLLBgS
DMs2WnIYDkPGTYUGGuBkWeIlguShRANCAASg0PPDKpAKoS4vzUbDorDB5+yde3uc
1DXIQDntUMZfppbxk4I3TxRVSQYfL1J74lW4qBdSM7oHsCGnhN4LKrqp
-----END PRIVATE KEY-----
"""

# For the same name, and trusted by nobody.
_STRANGER: Final = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgD+2NH/J76OTY7CZI
j2x26mVgtKMNg/4GZ9fQCKy6SNWhRANCAAQ5ptVHwJuoaUwQt1mGt/WzyQGtJWwv
1IKGMZcs0viDK9Ipc54hiH9qNVS2qVmAB3fzWhLrHrQz7sJxQCUVb1x8
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUURKNyE+BYwQeRUiJeOtHevInvuIwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjIyMTUwOVoYDzIxMjYxMDI5
MjIxNTA5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQ5ptVHwJuoaUwQt1mGt/WzyQGtJWwv1IKGMZcs0viDK9Ipc54hiH9q
NVS2qVmAB3fzWhLrHrQz7sJxQCUVb1x8o28wbTAdBgNVHQ4EFgQULz6NHNA8UXoX
ZLEHywZhaCDIJU4wHwYDVR0jBBgwFoAULz6NHNA8UXoXZLEHywZhaCDIJU4wDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSQAwRgIhALrjpX2dfC9FFWEgpZ8D540ib9/svzfap3ESbp7lqdRAAiEA
rXmCEQ6HGLCDXsP7/embi2ORT9PUOa7Gi1RHvVWqMHA=
-----END CERTIFICATE-----
"""


CHAIN: Final = _PRIVATE_KEY + CERTIFICATE


class FaultServer:
    """Play a script on each connection, from a thread, while the context is entered."""

    def __init__(self, *scripts: Script, host: str = "127.0.0.1") -> None:
        self.requests: list[bytes] = []
        self.agreed: str | None = None  # over TLS, by the last connection
        self.connections = 0
        self._scripts = scripts
        self._players: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._of_connection = threading.local()  # which has a thread of its own
        self._stopped = threading.Event()
        self._holding = threading.Event()
        self._standing = threading.Event()
        self._let_go = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/API/wxml/1.3/index.php"

    @property
    def secure_url(self) -> str:
        return f"https://localhost:{self.port}/API/wxml/1.3/index.php"

    @property
    def is_holding(self) -> bool:
        """Whether a connection is at a `Hold` step."""
        return self._holding.is_set()

    @property
    def stands_still(self) -> bool:
        """Whether a connection that received something is at a `Hang` or `Drip` step."""
        return self._standing.is_set()

    def let_go(self) -> None:
        """End the `Hold` step of every connection."""
        self._let_go.set()

    def hung_up(self, timeout: float = 2) -> bool:
        """Wait until no connection is open any more."""
        while len(self._players) < self.connections:  # one of them has just been accepted
            time.sleep(0.001)
        for player in tuple(self._players):
            player.join(timeout)
        return not any(player.is_alive() for player in self._players)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._let_go.set()
        # Closing a listener does not wake a thread that waits in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for player in self._players:
            player.join()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            # What is sent is there at once, without waiting for an acknowledgement of TLS's.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            self._opened(connection)
            player = threading.Thread(target=self._play, args=(connection, script), daemon=True)
            player.start()
            self._players.append(player)

    def _opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def _play(self, connection: socket.socket, script: Script) -> None:
        try:
            for step in script:
                if isinstance(step, Secure):
                    # The plain socket gives its file descriptor away here.
                    connection = server_context(step).wrap_socket(
                        connection, server_side=True, do_handshake_on_connect=False
                    )
                    self._opened(connection)
                else:
                    self._do(step, connection)
        except OSError:
            pass  # the client may hang up at any step
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _do(self, step: PlainStep, connection: socket.socket) -> None:
        match step:
            case Read():
                self._read(connection)
            case ReadHead():
                _read_head(connection)
            case Send() | Reply():
                connection.sendall(self._data_of(step))
            case Together(parts):
                hold_back(connection, on=True)
                for part in parts:
                    connection.sendall(part)
                hold_back(connection, on=False)
            case Drip(data, pause):
                self._standing.set()
                while not self._stopped.wait(pause):
                    connection.sendall(data)
            case Reset():
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            case Finish():
                connection.shutdown(socket.SHUT_WR)
            case _:
                self._pass(step, connection)

    def _read(self, connection: socket.socket) -> None:
        self._of_connection.request = _read(connection)
        self.requests.append(self._of_connection.request)
        if isinstance(connection, ssl.SSLSocket):
            self.agreed = connection.selected_alpn_protocol()

    def _data_of(self, step: Send | Reply) -> bytes:
        if isinstance(step, Send):
            return step.data
        return step.make(self._of_connection.request)

    def _pass(self, step: WaitingStep, connection: socket.socket) -> None:
        match step:
            case Arrive():
                connection.recv(1, socket.MSG_PEEK)
            case Hold():
                self._holding.set()
                self._let_go.wait()
            case Wait(seconds):
                self._stopped.wait(seconds)
            case Hang():
                if self.requests:
                    self._standing.set()
                while connection.recv(65536):
                    self._standing.set()


def hold_back(connection: socket.socket, *, on: bool) -> None:
    """Hold back the bytes written to a socket, or send them."""
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)


def _read(connection: socket.socket) -> bytes:
    request = b""
    while True:
        head, end, body = request.partition(b"\r\n\r\n")
        if end:
            length = _LENGTH.search(head)
            if len(body) >= (int(length[1]) if length else 0):
                return request
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("the client hung up within its request")
        request += data


def _read_head(connection: socket.socket) -> None:
    # Byte by byte, so that the body is left where it is.
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            raise ConnectionError("the client hung up within its request")
        head += byte


@functools.cache
def server_context(side: Secure = Secure()) -> ssl.SSLContext:
    """Make the server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _show(context, CHAIN if side.trusted else _STRANGER)
    if side.demanding:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=CERTIFICATE)
    if side.protocols:
        context.set_alpn_protocols(side.protocols)
    return context


def _show(context: ssl.SSLContext, chain: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "chain.pem")
        path.write_text(chain, "ascii")
        context.load_cert_chain(path)


@functools.cache
def client_context() -> ssl.SSLContext:
    """Make the client's side of TLS, which trusts this server and no other."""
    return ssl.create_default_context(cadata=CERTIFICATE)


@functools.cache
def known_client_context() -> ssl.SSLContext:
    """Make the client's side of TLS, with a certificate of its own to show."""
    context = ssl.create_default_context(cadata=CERTIFICATE)
    _show(context, CHAIN)
    return context


@contextmanager
def unreachable() -> Iterator[str]:
    """Return the URL of a server whose queue is full: connecting to it takes for ever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(2)]
        try:
            for client in waiting:
                client.setblocking(False)
                client.connect_ex(address)
            yield f"http://127.0.0.1:{address[1]}/"
        finally:
            for client in waiting:
                client.close()


@contextmanager
def refused() -> Iterator[str]:
    """Return the URL of a port where nothing listens, and nothing will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"
