"""Reading the body of an answer that comes piece by piece, from httpx or from httpcore.

Rule: a generator of theirs is run to its end, also where its pieces are too many: the
generators within it would be left half run, which trio does not forgive.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx

from .base import MAX_PARTS, MAX_RESPONSE


async def read_body(chunks: AsyncIterator[bytes]) -> bytes:
    """Read an answer to its end, or until it is too long for one.

    Raises httpx.RemoteProtocolError where it comes in more parts than one can.
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
    """End what gives an answer piece by piece, before its end."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        _ = [chunk async for chunk in chunks]  # those that came already, and no more
