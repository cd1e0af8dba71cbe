"""A caller's HTTP client, and its library: httpx, or httpx2, its continuation.

Strategy: all names used here are the same in both libraries, so one transport serves both: it
takes the classes of its requests from its client's library.

Rule: no library is loaded here.  A caller that has its client has loaded it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import attrs

from .failures import SENT_AGAIN

LIBRARIES: Final = ("httpx", "httpx2")

# The loggers that log URLs or headers, with the httpcore of each; hpack is for HTTP/2.
TALKATIVE: Final = (
    *LIBRARIES,
    *(
        f"{core}.{name}"
        for core in ("httpcore", "httpcore2")
        for name in ("connection", "http11", "http2", "proxy", "socks")
    ),
    *("hpack.hpack", "hpack.table"),
)


class AsyncHTTPClient(Protocol):
    """The methods used of both `httpx.AsyncClient` and `httpx2.AsyncClient`."""

    @property
    def is_closed(self) -> bool:
        """Whether the caller has closed it."""
        ...

    def build_request(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None = ...,
        headers: dict[str, str] = ...,
        timeout: tuple[float | None, float | None, float | None, float | None] = ...,
        extensions: dict[str, Any] = ...,
    ) -> Any:
        """Return a request, with what the client adds to each of its own."""
        ...

    async def send(
        self, request: Any, *, stream: bool = ..., auth: None = ..., follow_redirects: bool = ...
    ) -> Any:
        """Send a request, and return the answer."""
        ...


@attrs.frozen
class Library:
    """The classes of httpx or httpx2 that an exchange over their client needs."""

    byte_stream: type[Any]
    pool_timeout: type[Exception]


def library_of(http_client: object) -> Library | None:
    """Return the library of a client's class, or None if it is of neither."""
    for name in LIBRARIES:
        loaded = sys.modules.get(name)
        if loaded is not None and isinstance(http_client, loaded.AsyncClient):
            return Library(
                byte_stream=in_one_piece(loaded.AsyncByteStream),
                pool_timeout=loaded.PoolTimeout,
            )
    return None


@functools.cache
def in_one_piece(byte_stream: type[Any]) -> type[Any]:
    """Return the class for a body in one piece, derived from a library's `byte_stream`.

    The library's own iterates with a generator, which a failed or cancelled write leaves
    unfinished, and that fails on trio.  The body can be read only once, so that a request which
    a caller's transport copies, without its trace, and sends again has an empty body.
    """

    class BodyInOnePiece(byte_stream):  # type: ignore[misc]
        def __init__(self, body: bytes) -> None:
            self._left = [body]
            self._is_taken = False

        def __aiter__(self) -> AsyncIterator[bytes]:
            if self._is_taken:
                raise RuntimeError(SENT_AGAIN)
            self._is_taken = True
            return self

        async def __anext__(self) -> bytes:
            if not self._left:
                raise StopAsyncIteration
            return self._left.pop()

    return BodyInOnePiece
