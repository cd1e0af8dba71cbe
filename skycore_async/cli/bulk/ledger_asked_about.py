"""The ledger that somebody was asked about, who may answer much later.

Rules:

* A yes is for what that ledger had no outcome of.  Where it was moved away meanwhile, or an older
  one put in its place, what goes out is not that: it was sent, and nothing here knows of it.
* Permission to send again is for the attempts that were in doubt when it was asked for.  What
  came into doubt since, as by another run that had the ledger meanwhile, is asked about anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final

import anyio
import anyio.to_thread
import attrs

from ...errors import LedgerError
from ...ledger.base import BaseLedger
from ...ledger.model import MessageState
from ..ui.output import number_of

_EVERY: Final = 2.0  # seconds

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
    ledger: BaseLedger, known: LedgerCounts, note_messages: Callable[[int], object], *, name: str
) -> AsyncIterator[None]:
    """Raise LedgerError where a ledger is not the one that is `known`, or has more in doubt.

    It had as many messages, as none is ever removed from one.  `note_messages` is told how many
    it has at first and in the end.
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
    note_messages(has)
    yield
    with suppress(LedgerError):  # as where it was moved, and nobody knows
        note_messages((await ledger.summary()).total)


async def note_now_and_then(
    ledger: BaseLedger,
    note: Callable[[int], object],
    *,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> None:
    """Have it noted every few seconds how many messages a ledger has, until it is cancelled.

    What was sent within such a time before a kill is not missed in an older one.
    """
    while True:
        await sleep(_EVERY)
        with suppress(LedgerError):  # which the next message is told
            count = (await ledger.summary()).total
            await anyio.to_thread.run_sync(note, count)
