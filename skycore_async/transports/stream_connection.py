"""One HTTP connection over a stream of anyio's, for trio.

The rules are those of `asyncio_connection`.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Final

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream

from .answers import AnswerReader
from .base import LAST_LOOK, Response
from .socket_probe import Readiness, has_more
from .tls import check_agreed, offer_http_1_1

_MOST: Final = 65536  # bytes of one read


class StreamConnection:
    """An open connection, which carries one exchange after another."""

    def __init__(self, stream: ByteStream) -> None:
        self.written = False
        self._stream = stream
        self._tls: list[ssl.SSLObject] = []  # one within the other, where TLS is spoken to a proxy
        self._socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610
        self._readiness = Readiness(self._socket)

    async def start_tls(self, context: ssl.SSLContext, hostname: str) -> None:
        """Speak TLS from here on."""
        offer_http_1_1(context)
        self._stream = await TLSStream.wrap(
            self._stream, hostname=hostname, ssl_context=context, standard_compatible=False
        )
        tls = self._stream.extra(TLSAttribute.ssl_object)  # noqa: S610
        self._tls.append(tls)
        check_agreed(tls)

    async def exchange(
        self, request: bytes, reader: AnswerReader, timeout: float
    ) -> Response | None:
        """Write a request, once, and return its answer, or None if none comes in time."""
        is_out = False
        with anyio.move_on_after(timeout):
            self.written = True
            await self._send(request)
            is_out = True
            return await self._answer(reader)
        if is_out and self._readiness.is_readable():
            with anyio.move_on_after(LAST_LOOK):
                return await self._answer(reader)
        return None

    async def _answer(self, reader: AnswerReader) -> Response:
        while came := await self._receive():
            answer = reader.feed(came)
            if answer is not None:
                return answer
        return reader.end()

    async def _send(self, request: bytes) -> None:
        """Send it, without waiting if the socket takes it whole, as it nearly always does."""
        if not self._tls:
            with suppress(BlockingIOError, InterruptedError):
                request = request[self._socket.send(request) :]
        if request:
            await self._stream.send(request)

    async def _receive(self) -> bytes:
        """Return received bytes, empty at the end."""
        if not self._tls:
            await anyio.wait_readable(self._socket)
            with suppress(BlockingIOError, InterruptedError):
                return self._socket.recv(_MOST)
        try:
            return await self._stream.receive(_MOST)
        except anyio.EndOfStream:
            return b""

    def is_usable(self) -> bool:
        """Return whether it is open, and nothing was received since the last answer."""
        return not (any(map(has_more, self._tls)) or self._readiness.is_readable())

    async def aclose(self) -> None:
        """Abort it, without notice to the other side, as httpx does."""
        await anyio.aclose_forcefully(self._stream)


async def connect(host: str, port: int) -> StreamConnection:
    """Connect to the first address of a host that answers.

    Raises OSError if none answers.
    """
    return StreamConnection(await anyio.connect_tcp(host, port))
