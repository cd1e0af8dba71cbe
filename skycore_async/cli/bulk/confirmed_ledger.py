"""Whether the ledger is still the one for which the user confirmed the sending.

The user may answer long after the question.

Rules:

* A yes covers the messages that the ledger had no outcome of.  Where its file was moved away
  since, or an older one was put in its place, nothing is sent: messages that were sent would look
  as if they were not.
* Permission to send again covers the attempts that were in doubt when it was asked for.  Where
  more are in doubt by now, as after another run with the same ledger, the user is asked anew.
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
from ...ledger.list_commands import GetLastTurn
from ...ledger.model import MessageState

_EVERY: Final = 2.0  # seconds between two notes

Doubts = frozenset[tuple[str, datetime]]  # keys, and when the attempts began


async def doubts_in(ledger: BaseLedger) -> Doubts:
    """Return the attempts that are in doubt in a ledger."""
    found = ledger.deliveries(MessageState.IN_DOUBT)
    return frozenset([(each.key, each.began) async for each in found])


@attrs.frozen(kw_only=True)
class LedgerCounts:
    """How many messages a ledger has, of all campaigns, and how many of them are in doubt.

    `last_turn` is that of the attempt that was begun last.
    `doubts` are the attempts in doubt where the user is asked about them, and None elsewhere.
    """

    messages: int = 0
    in_doubt: int = 0
    last_turn: int = 0
    doubts: Doubts | None = None


@asynccontextmanager
async def confirmed(
    ledger: BaseLedger, known: LedgerCounts, note_last_turn: Callable[[int], object], *, name: str
) -> AsyncIterator[None]:
    """Send within this; `note_last_turn` is told the ledger's last turn before and after.

    Raises LedgerError where the ledger is an older one than the one that was `known`, or has other
    doubts.
    """
    turn = await ledger.run(GetLastTurn())
    if turn < known.last_turn:
        raise LedgerError(
            f"nothing was sent: {name} was moved, removed or replaced after it was read, and lacks"
            " messages now that it had then. Put that one back in its place, with those beside it"
            " whose names begin with its own, and run the same command again"
        )
    if known.doubts is not None and not await doubts_in(ledger) <= known.doubts:
        raise LedgerError(
            "nothing was sent: more came into doubt while you were asked; run the same command"
            " again, which asks about that as well"
        )
    note_last_turn(turn)
    yield
    with suppress(LedgerError):  # where it cannot be read, nobody knows
        note_last_turn(await ledger.run(GetLastTurn()))


async def note_regularly(
    ledger: BaseLedger,
    note_last_turn: Callable[[int], object],
    *,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> None:
    """Tell `note_last_turn` every few seconds the ledger's last turn, until cancelled.

    So the note of a run that is killed misses no more than the last few seconds.  While the
    ledger has no message, nothing is told: the first one may be about to begin, and only at the
    end it is known that it did not.
    """
    while True:
        await sleep(_EVERY)
        with suppress(LedgerError):  # the next message fails with it
            if turn := await ledger.run(GetLastTurn()):
                await anyio.to_thread.run_sync(note_last_turn, turn)
