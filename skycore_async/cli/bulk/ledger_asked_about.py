"""The ledger that somebody was asked about, who may answer much later.

Rules:

* A yes is for what that ledger had no outcome of.  Where it was moved away meanwhile, or an older
  one put in its place, what goes out is not that: it was sent, and nothing here knows of it.
* Permission to send again is for the attempts that were in doubt when it was asked for.  What
  came into doubt since, as by another run that had the ledger meanwhile, is asked about anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import attrs

from ...errors import LedgerError
from ...ledger.base import BaseLedger
from ...ledger.model import MessageState
from ..ui.output import number_of

Doubts = frozenset[tuple[str, datetime]]  # keys, and when the attempts began


async def doubts_in(ledger: BaseLedger) -> Doubts:
    """Return what is in doubt."""
    found = ledger.deliveries(MessageState.IN_DOUBT)
    return frozenset([(each.key, each.began) async for each in found])


@attrs.frozen(kw_only=True)
class LedgerCounts:
    """How many messages a ledger has, of all campaigns, and how many of them are in doubt.

    `doubts` are these, where they are asked about.
    """

    messages: int = 0
    in_doubt: int = 0
    doubts: Doubts | None = None


@asynccontextmanager
async def as_asked_about(
    ledger: BaseLedger, known: LedgerCounts, none_begun: Callable[[], object], *, name: str
) -> AsyncIterator[None]:
    """Raise LedgerError where a ledger is not the one that is `known`, or has more in doubt.

    It had as many messages, as none is ever removed from one.  Where it has none in the end,
    `none_begun` is called.
    """
    has = (await ledger.summary()).total
    if has < known.messages:
        had = number_of(known.messages, "message")
        raise LedgerError(
            f"nothing was sent: {name} had {had} when it was read, and has {has:,} now, as it was"
            " moved, removed or replaced meanwhile. Put that one back in its place, with those"
            " beside it whose names begin with its own, and run the same command again"
        )
    if known.doubts is not None and not await doubts_in(ledger) <= known.doubts:
        raise LedgerError(
            "nothing was sent: more came into doubt while you were asked; run the same command"
            " again, which asks about that as well"
        )
    yield
    with suppress(LedgerError):  # as where it was moved, and nobody knows
        if not (await ledger.summary()).total:
            none_begun()
