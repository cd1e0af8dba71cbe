"""A client of the caller's, and the library that it is of: httpx, or httpx2, its continuation.

Strategy: what is used of either has the same names in both, so that one transport serves both:
it takes what it makes from the library that its client is of.

Rule: a library is never loaded here.  Who has a client of one has loaded it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import attrs

from .failures import SENT_AGAIN

LIBRARIES: Final = ("httpx", "httpx2")

# Who logs URLs or headers, with the httpcore of each; hpack is HTTP/2's.
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
    """What `httpx.AsyncClient` and `httpx2.AsyncClient` have in common, as far as it is used."""

    @property
    def is_closed(self) -> bool:
        """Whether its owner has closed it."""
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
    """The classes of httpx or httpx2 that an exchange over a client of theirs takes."""

    byte_stream: type[Any]
    pool_timeout: type[Exception]


def library_of(http_client: object) -> Library | None:
    """Return the library that has the class of a client; None where it is of neither."""
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
    """Return the class of a body in one piece, of which a library takes those of `byte_stream`.

    Its own is a generator, which a failed or cancelled write leaves half run; trio does not
    forgive that.  It is read once, so that a request which a transport of the caller's makes of
    another, without its trace, and sends again has nothing in it.
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
