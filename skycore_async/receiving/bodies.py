"""The bodies of requests: read within a time, within a size, and within a size together.

Strategy: each body is counted in bytes from its first to the answer of its request, so that
what waits for a slow client, for the rest of a body or for the ledger is counted as well.

Rules:

* A body that is not there in time is refused, however busily its client drips.
* Where all together are too large, those are refused that have more than their share: an
  ordinary postback is read beside any number of large or unfinished ones.  The provider
  tries again what was answered so.
* What is compressed is counted as it was sent and as it is written out, and written out no
  further than a body may be large.
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
    """Those that are under way: `most` bytes each, `most_together` in all, `timeout` seconds."""

    def __init__(self, *, most: int, most_together: int, timeout: float) -> None:
        self.most = most
        self.most_together = most_together
        self.timeout = timeout
        self.held = 0
        self.under_way = 0

    def one(self) -> Body:
        """Return another, to be read inside `with`, which lasts until its answer is known."""
        return Body(self)


class Body:
    """One of them."""

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
        """Return the body, or the answer to one that is refused; None where the client is gone."""
        body: bytes | HTTPAnswer | None = TOO_SLOW
        with anyio.CancelScope(deadline=now() + self._all.timeout):
            body = await self._received(receive)
        return self._written_out(body) if is_compressed and isinstance(body, bytes) else body

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

    def _written_out(self, body: bytes) -> bytes | HTTPAnswer:
        decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            written = decompressor.decompress(body, self._all.most + 1)
        except zlib.error:
            return NOT_GZIP
        if len(written) > self._all.most:
            return TOO_LARGE
        if not decompressor.eof or decompressor.unused_data:
            return NOT_GZIP
        return written if self._hold(len(written)) else TOO_MUCH

    def _hold(self, more: int) -> bool:
        """Count so many bytes more; False where that is too much."""
        everyone = self._all
        if (
            everyone.held + more > everyone.most_together
            and self._held + more > everyone.most_together // everyone.under_way
        ):
            return False
        everyone.held += more
        self._held += more
        return True
