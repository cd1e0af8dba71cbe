"""The count of awaited receipts, while messages are sent and afterwards.

Rule: where the ledger cannot be read, the last count stands, and the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

from ...errors import LedgerError
from ...ledger.base import BaseLedger
from ...ledger.model import MessageState
from .progress import BulkCounters

_LOOK_EVERY: Final = 1.0  # seconds between looks at the ledger
_AWAITED: Final = (MessageState.ACCEPTED, MessageState.SENT)


async def count_awaited(ledger: BaseLedger, counters: BulkCounters) -> None:
    """Count how many receipts are awaited, every second or so, until cancelled."""
    while True:
        await _count(ledger, counters)
        await anyio.sleep(_LOOK_EVERY)


async def wait_for_receipts(
    ledger: BaseLedger,
    counters: BulkCounters,
    *,
    seconds: float,
    give_end: Callable[[Callable[[], None]], None],
) -> None:
    """Wait until no receipt is awaited, for at most so many seconds.

    `give_end` is given a function that ends the waiting.
    """
    if seconds:
        counters.listens_until = counters.clock() + seconds
    with anyio.move_on_after(seconds) as waiting:
        give_end(waiting.cancel)
        while True:
            await _count(ledger, counters)
            if not counters.awaited:
                break
            await anyio.sleep(_LOOK_EVERY)
    await _count(ledger, counters)


async def _count(ledger: BaseLedger, counters: BulkCounters) -> None:
    """Count how many messages were taken, and are not known to be delivered or to have failed."""
    with suppress(LedgerError):
        states = (await ledger.summary()).states
        counters.awaited = sum(states.get(state, 0) for state in _AWAITED)
