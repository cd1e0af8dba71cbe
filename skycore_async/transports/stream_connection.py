"""One HTTP connection over a stream of anyio's, for trio.

Rules are those of `asyncio_connection`.
"""

from __future__ import annotations

import ssl

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream

from .answers import AnswerReader
from .base import Response
from .network_backend import has_more
from .socket_probe import Readiness


class StreamConnection:
    """A connection that was made, which carries one exchange after another."""

    def __init__(self, stream: ByteStream) -> None:
        self.written = False
        self._stream = stream
        self._tls: ssl.SSLObject | None = None
        self._readiness = Readiness(stream.extra(SocketAttribute.raw_socket))  # noqa: S610

    async def start_tls(self, context: ssl.SSLContext, hostname: str) -> None:
        """Speak TLS from here on."""
        self._stream = await TLSStream.wrap(
            self._stream, hostname=hostname, ssl_context=context, standard_compatible=False
        )
        self._tls = self._stream.extra(TLSAttribute.ssl_object)  # noqa: S610

    async def exchange(
        self, request: bytes, reader: AnswerReader, timeout: float
    ) -> Response | None:
        """Write a request, once, and return its answer; None where none comes in time."""
        with anyio.move_on_after(timeout):
            self.written = True
            await self._stream.send(request)
            while True:
                try:
                    came = await self._stream.receive()
                except anyio.EndOfStream:
                    return reader.end()
                answer = reader.feed(came)
                if answer is not None:
                    return answer
        return None

    def is_usable(self) -> bool:
        """Return whether it stands, and nothing came over it since the last answer."""
        if self._tls is not None and has_more(self._tls):
            return False
        return not self._readiness.is_readable()

    async def aclose(self) -> None:
        """Break it off, without a word to the other side, as httpx does."""
        await anyio.aclose_forcefully(self._stream)


async def connect(host: str, port: int) -> StreamConnection:
    """Connect to the first address of a host that answers.

    Raises OSError where none does.
    """
    return StreamConnection(await anyio.connect_tcp(host, port))
