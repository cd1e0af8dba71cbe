"""The body of an answer is read piece by piece to its end, within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from skycore_async.transports.answer_body import read_body
from skycore_async.transports.base import MAX_PARTS


@pytest.mark.anyio
async def test_an_answer_has_no_more_parts_than_one_can_have() -> None:
    """A body of too many parts is an error, and its source is closed."""
    ended: list[int] = []

    async def parts(count: int) -> AsyncIterator[bytes]:
        given = 0
        try:
            while given < count:
                given += 1
                yield b"x"
        finally:
            ended.append(given)

    assert await read_body(parts(MAX_PARTS)) == b"x" * MAX_PARTS
    with pytest.raises(httpx.RemoteProtocolError, match="more parts"):
        await read_body(parts(MAX_PARTS + 5))
    assert ended == [MAX_PARTS, MAX_PARTS + 5]
