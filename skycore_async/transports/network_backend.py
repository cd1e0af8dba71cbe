"""A connection that costs less: a request in one write, and a look at the socket itself.

httpcore writes a request's head and its body each for itself, and each write is a
system call and a wake-up of the server: together a fifth of what a message costs.
Here a stream keeps what is written until it is read from.

Twice a message httpcore asks whether an idle connection was closed, and anyio looks
up all that it knows of a socket to find the socket.  Here it is looked up once.

httpx has no public way to a connection's stream.  Where it is not found, as in a release
that keeps it elsewhere, requests are written as httpcore writes them, and one warning says
so: what is sent, and what is said of it, stays right.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import anyio
import httpx

from .socket_probe import Readiness


def write_at_once(connection: httpx.AsyncHTTPTransport) -> None:
    """Let a connection write each request in one piece."""
    try:
        pool: Any = connection._pool  # noqa: SLF001 - as said above
        pool._network_backend = _Backend(pool._network_backend)  # noqa: SLF001
    except AttributeError:
        warn_of_other_insides()


@functools.cache
def warn_of_other_insides() -> None:
    """Warn, once in a process, that a release of httpx or httpcore is not known well enough."""
    warnings.warn(
        f"httpx {httpx.__version__} keeps its connections in a way that this version of"
        " skycore-async does not know: messages are sent as they should be, but more slowly."
        " Upgrade skycore-async, or install the httpx that it was made for",
        RuntimeWarning,
        stacklevel=2,
    )


class _Backend:
    """What makes connections, and wraps them."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    async def connect_tcp(self, *where: Any, **how: Any) -> _Stream:
        return _Stream(await self._backend.connect_tcp(*where, **how))


class _Stream:
    """A connection that keeps what is written until it is read from."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._readiness = Readiness(stream.get_extra_info("socket"))
        self._kept = b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._kept += buffer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._kept:
            kept, self._kept = self._kept, b""
            await self._stream.write(kept, timeout)
        return bytes(await self._stream.read(max_bytes, timeout))

    async def start_tls(self, *context: Any, **how: Any) -> _Stream:
        try:
            return _Stream(await self._stream.start_tls(*context, **how))
        except BaseException:
            # Cancelled in a handshake, httpcore leaves the socket to the garbage collector.
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._readiness.is_readable()
        return self._stream.get_extra_info(info)
