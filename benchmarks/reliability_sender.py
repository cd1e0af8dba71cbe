"""The sender that `benchmarks reliability` kills; it imports only what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from skycore_async import SMS, SkycoreClient, SQLiteLedger
from skycore_async.simulator.account import API_KEY, SHORT_CODE

IN_FLIGHT: Final = 50


def messages(count: int) -> Iterator[SMS]:
    """Make messages to different numbers, each with a key."""
    return (
        SMS(to=f"1555{n:07}", text=f"Hello number {n}", key=f"recipient-{n}") for n in range(count)
    )


async def send(url: str, path: str, count: int, rate: float | None = None) -> None:
    """Send to all of them, through a ledger."""
    async with (
        SQLiteLedger(path) as ledger,
        SkycoreClient(
            api_key=API_KEY,
            from_=SHORT_CODE,
            base_url=url,
            ledger=ledger,
            max_in_flight=IN_FLIGHT,
            rate=rate,
        ) as client,
        client.send_many(messages(count)) as outcomes,
    ):
        async for _ in outcomes:
            pass
