"""The network backend for httpcore: all bytes that a connection writes and reads pass here.

Strategy: httpcore gets its streams from our backend.  They tell what httpcore does not: whether
the request can have begun to leave, and what was received after it.

A stream buffers writes until it is read from.  httpcore writes a request's head and its body
separately, and each write is a system call and a wake-up of the server: together a fifth of the
cost of a message.

Rules:

* The request can have left from just before its first byte is given to the socket.  Bytes for a
  proxy before it are recognised by their beginning; everything else is the request.
* A request leaves once: a second one in the same exchange is stopped before its first byte.
* Any bytes left to be read, in the socket or in TLS's buffer, make a stream readable, so that
  httpcore closes it instead of using it again.
* Received bytes are read before the exchange is said to have timed out.  After the process was
  suspended for longer, as by Ctrl-Z, the event loop runs its timers before it polls its sockets.
* Failures are raised as httpcore's exceptions, as it expects of a backend.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
import httpcore
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream

from ..runtime.event_loop import now
from .base import LAST_LOOK, MAX_FRAMED
from .socket_probe import Readiness, has_more
from .tls import check_agreed, offer_http_1_1

# The beginnings of bytes for an HTTP proxy, for a SOCKS proxy, and of its password.
_TO_A_PROXY: Final = (b"CONNECT ", b"\x05", b"\x01")

# Bytes up to which everything received was seen: of more, an event loop may hold some back.  No
# more than that is kept: the framing of an answer, such as early answers, can be longer than any
# answer.
SEEN_WHOLE: Final = 16 * 1024


class Traffic:
    """The bytes over a connection in one exchange."""

    is_readable: Callable[[], bool]  # of the socket

    def __init__(self) -> None:
        self.begin()

    def begin(self, scope: anyio.CancelScope | None = None) -> None:
        """Begin an exchange, which `scope` ends: nothing has left, and nothing was received."""
        self.scope = scope
        self.request_left = False
        self.came = bytearray()
        self._count = 0

    def leaves(self, data: bytes) -> None:
        """Note that `data` is about to leave."""
        if data.startswith(_TO_A_PROXY):
            return
        if self.request_left:
            raise RuntimeError("the request was about to be sent a second time")
        self.request_left = True
        self.came.clear()
        self._count = 0

    def comes(self, data: bytes) -> None:
        """Keep received bytes, up to the size that is known to be seen whole.

        Raises httpcore.RemoteProtocolError if there are more than an answer can have.
        """
        self._count += len(data)
        if self._count > MAX_FRAMED:
            raise httpcore.RemoteProtocolError("the answer is longer than one can be")
        if len(self.came) <= SEEN_WHOLE:
            self.came += data


class NetworkBackend(httpcore.AsyncNetworkBackend):
    """Makes the streams of one connection, one at a time."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._socket: ByteStream | None = None

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *_: object, **__: object
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a host, with the usual socket options only."""
        with _connecting(), anyio.fail_after(timeout):
            self._socket = stream = await anyio.connect_tcp(host, port)
        probe = Readiness(stream.extra(SocketAttribute.raw_socket))  # noqa: S610
        self._traffic.is_readable = probe.is_readable
        return _Stream(stream, self._traffic, probe.is_readable)

    async def aclose(self) -> None:
        """Close the socket, which httpcore forgets if a handshake fails or is cancelled."""
        if self._socket is not None:
            await self._socket.aclose()


class _Stream(httpcore.AsyncNetworkStream):
    """A stream that buffers writes until it is read from."""

    def __init__(
        self, stream: ByteStream, traffic: Traffic, is_readable: Callable[[], bool]
    ) -> None:
        self._stream = stream
        self._traffic = traffic
        self._is_readable = is_readable
        self._kept = b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._kept += buffer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            if self._kept:
                kept, self._kept = self._kept, b""
                self._traffic.leaves(kept)
                await self._stream.send(kept)
            data = await self._receive(max_bytes)
        except anyio.EndOfStream:
            return b""
        except anyio.BrokenResourceError as error:
            raise httpcore.ReadError(str(error)) from None
        self._traffic.comes(data)
        return data

    async def _receive(self, max_bytes: int) -> bytes:
        """Return what comes until the exchange's time is over, or came before that."""
        traffic, scope = self._traffic, self._traffic.scope
        if scope is None or not traffic.request_left:
            return await self._stream.receive(max_bytes)
        data = None
        # Of two scopes that end at once, the outer one would win.
        deadline, scope.deadline = scope.deadline, math.inf
        with anyio.CancelScope(deadline=deadline):
            data = await self._stream.receive(max_bytes)
        if data is not None and now() < deadline:
            scope.deadline = deadline
            return data
        traffic.scope = None  # there is no other last look
        came = data is not None or traffic.is_readable()
        scope.deadline = now() + (LAST_LOOK if came else 0)
        return data if data is not None else await self._stream.receive(max_bytes)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        offer_http_1_1(ssl_context)
        with _connecting(), anyio.fail_after(timeout):
            stream = await TLSStream.wrap(
                self._stream,
                hostname=server_hostname,
                ssl_context=ssl_context,
                standard_compatible=False,
            )
        tls = stream.extra(TLSAttribute.ssl_object)  # noqa: S610
        check_agreed(tls)
        return _Stream(stream, self._traffic, lambda: has_more(tls) or self._is_readable())

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._is_readable()
        if info == "ssl_object":
            return self._stream.extra(TLSAttribute.ssl_object, None)  # noqa: S610
        return None


@contextmanager
def _connecting() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise httpcore.ConnectTimeout from None
    except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
        raise httpcore.ConnectError(str(error)) from None
