"""The bodies of requests, limited in time, in size, and in size together.

Strategy: the bytes of a body count from the first one until its request is answered.  So bodies
that wait for a slow client, for their rest, or for the ledger count as well.

Rules:

* A body that has not come in time is refused, even if its client keeps sending.
* If all bodies together are too large, those with more than their share are refused: an ordinary
  postback is read beside any number of large or unfinished ones.  The provider repeats refused
  postbacks.
* A compressed body counts as it was sent and as it is decompressed, and is not decompressed beyond
  the size that a body may have.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Self

import anyio

from ..runtime.event_loop import now
from .authorization import TOO_LARGE, HTTPAnswer

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_CLOSE: Final = (b"connection", b"close")
TOO_SLOW: Final = HTTPAnswer(
    status=408, text="The body did not come in time; try again", headers=(_CLOSE,)
)
TOO_MUCH: Final = HTTPAnswer(
    status=503,
    text="Too much at once; try again",
    headers=((b"retry-after", b"5"), _CLOSE),
)
NOT_GZIP: Final = HTTPAnswer(status=400, text="This body is not compressed as it says")
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS


class Bodies:
    """The bodies under way: `most` bytes each, `most_together` in all, `timeout` seconds each."""

    def __init__(self, *, most: int, most_together: int, timeout: float) -> None:
        self.most = most
        self.most_together = most_together
        self.timeout = timeout
        self.held = 0
        self.under_way = 0

    def one(self) -> Body:
        """Return another body, to be read inside `with`; leave that once its answer is known."""
        return Body(self)


class Body:
    """One of the bodies under way."""

    def __init__(self, all_of_them: Bodies) -> None:
        self._all = all_of_them
        self._held = 0

    def __enter__(self) -> Self:
        self._all.under_way += 1
        return self

    def __exit__(self, *_error: object) -> None:
        self._all.under_way -= 1
        self._all.held -= self._held

    async def read(self, receive: Receive, *, is_compressed: bool) -> bytes | HTTPAnswer | None:
        """Return the body, or the answer if it is refused; None if the client is gone."""
        body: bytes | HTTPAnswer | None = TOO_SLOW
        with anyio.CancelScope(deadline=now() + self._all.timeout):
            body = await self._received(receive)
        return self._decompressed(body) if is_compressed and isinstance(body, bytes) else body

    async def _received(self, receive: Receive) -> bytes | HTTPAnswer | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            if len(body) + len(part) > self._all.most:
                return TOO_LARGE
            if not self._hold(len(part)):
                return TOO_MUCH
            body += part
            if not message.get("more_body", False):
                return bytes(body)

    def _decompressed(self, body: bytes) -> bytes | HTTPAnswer:
        decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            decompressed = decompressor.decompress(body, self._all.most + 1)
        except zlib.error:
            return NOT_GZIP
        if len(decompressed) > self._all.most:
            return TOO_LARGE
        if not decompressor.eof or decompressor.unused_data:
            return NOT_GZIP
        return decompressed if self._hold(len(decompressed)) else TOO_MUCH

    def _hold(self, more: int) -> bool:
        """Count `more` bytes; return False if that is too much."""
        everyone = self._all
        if (
            everyone.held + more > everyone.most_together
            and self._held + more > everyone.most_together // everyone.under_way
        ):
            return False
        everyone.held += more
        self._held += more
        return True
