"""The doubts of a ledger that somebody is asked about, who may answer much later.

Rule: the word to send again is for the attempts that were in doubt when it was asked for.  What
came into doubt since, as by another run that had the ledger meanwhile, is asked about anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from ...errors import LedgerError
from ...ledger.base import BaseLedger
from ...ledger.model import MessageState

Doubts = frozenset[tuple[str, datetime]]  # keys, and when the attempts began


async def doubts_in(ledger: BaseLedger) -> Doubts:
    """Return what is in doubt."""
    found = ledger.deliveries(MessageState.IN_DOUBT)
    return frozenset([(each.key, each.began) async for each in found])


@asynccontextmanager
async def with_no_other(ledger: BaseLedger, asked_about: Doubts | None) -> AsyncIterator[None]:
    """Raise LedgerError where something is in doubt that nobody was asked about.

    None where nothing had to be asked.
    """
    if asked_about is not None and not await doubts_in(ledger) <= asked_about:
        raise LedgerError(
            "nothing was sent: more came into doubt while you were asked; run the same command"
            " again, which asks about that as well"
        )
    yield
