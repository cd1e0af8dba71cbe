"""Read the body of an answer that comes in pieces, from httpx or httpcore.

Rule: their generators are run to the end, even if there are too many pieces: otherwise the
generators within would be left unfinished, which fails on trio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx

from .base import MAX_PARTS, MAX_RESPONSE


async def read_body(chunks: AsyncIterator[bytes]) -> bytes:
    """Read an answer to its end, or until it is too long for one.

    Raises httpx.RemoteProtocolError if it comes in more parts than any real answer.
    """
    body, parts = bytearray(), 0
    async for chunk in chunks:
        body += chunk
        parts += 1
        if len(body) > MAX_RESPONSE or parts > MAX_PARTS:
            await break_off(chunks)
    if parts > MAX_PARTS:
        raise httpx.RemoteProtocolError("more parts than an answer can have")
    return bytes(body)


async def break_off(chunks: AsyncIterator[bytes]) -> None:
    """Close an iterator of an answer's pieces before its end."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        _ = [chunk async for chunk in chunks]  # those that came already, and no more
