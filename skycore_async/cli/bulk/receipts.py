"""How many receipts are awaited, while messages are sent and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

from ...ledger.base import BaseLedger
from ...ledger.model import MessageState
from .progress import BulkCounters

_LOOK_EVERY: Final = 1.0  # seconds between looks at the ledger
_AWAITED: Final = (MessageState.ACCEPTED, MessageState.SENT)


async def count_awaited(ledger: BaseLedger, counters: BulkCounters) -> None:
    """Count how many receipts are awaited, every second or so, until cancelled."""
    while True:
        counters.awaited = await _awaited(ledger)
        await anyio.sleep(_LOOK_EVERY)


async def wait_for_receipts(
    ledger: BaseLedger,
    counters: BulkCounters,
    *,
    seconds: float,
    can_end: Callable[[Callable[[], None]], None],
) -> None:
    """Wait until none is awaited, for so many seconds, or until what `can_end` gets is called."""
    if seconds:
        counters.listens_until = counters.clock() + seconds
    with anyio.move_on_after(seconds) as waiting:
        can_end(waiting.cancel)
        while True:
            counters.awaited = await _awaited(ledger)
            if not counters.awaited:
                break
            await anyio.sleep(_LOOK_EVERY)
    counters.awaited = await _awaited(ledger)


async def _awaited(ledger: BaseLedger) -> int:
    """Return how many messages were taken, and are not known to be delivered or to have failed."""
    states = (await ledger.summary()).states
    return sum(states.get(state, 0) for state in _AWAITED)
