"""The end of a world: everything is sent once more, to a provider that behaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from skycore_async import LedgerError, LedgerInUse, MemoryLedger, SkycoreClient, SQLiteLedger

from . import rules
from .events import Message, Send, SendMany, key_of, number_of
from .limiter import NotedLimiter
from .report import settle

if TYPE_CHECKING:
    from .process import Process

_WITNESS: Final = 90  # the number of messages of which nothing is unclear
_ENDED: Final = 30.0  # seconds after which all has ended that was under way before
_LONG: Final = 4000.0  # seconds after which a report is sure to be taken for a proof


async def end_well(
    process: Process, client: SkycoreClient, ledger: SQLiteLedger | MemoryLedger
) -> None:
    """Give everything once more, as a user would after all that, and look at what is there."""
    world = process.world
    world.provider.is_well = True
    process.machine.fill_after(-1, lasts=0)
    dispatcher = client._dispatcher
    if isinstance(dispatcher._limiter, NotedLimiter):
        dispatcher._limiter.has_accidents = False
    if not process.notes.forgets:  # which would send all that was forgotten
        await _run_again(process)
    if world.reads_report:
        for _ in range(2):
            await witness(process)
            await anyio.sleep(_LONG)
        await settle_doubts(process, ledger, after=3600.0)
        await _run_again(process)
    await process.idle()
    if world.plan.settings.shares_opt_outs:
        process.account.has_news()
        await anyio.sleep(2 * process.account.lag)
    numbers = list(map(number_of, rules.all_numbers(world.plan)))
    opted_out = {each: await ledger.is_opted_out(each) for each in numbers}
    world.found = rules.Found(
        deliveries={each.key: each async for each in ledger.deliveries()},
        unplaced=[each async for each in ledger.unplaced()],
        opted_out=opted_out,
        elsewhere={each: await process.account.is_opted_out(each) for each in numbers},
    )


async def _run_again(process: Process) -> None:
    """Give every key once more, and have all postbacks posted.

    Where its key is being sent with the content that it had before, a message is given again
    later: who asked for that may have left, and then it is taken back.
    """
    world, notes = process.world, process.notes
    messages = [world.provider.mended(each) for each in rules.all_keys(world.plan)]
    before = len(notes.calls)
    async with process.postbacks_posted():
        await process.callers.send_many(SendMany(at=0, messages=tuple(messages)))
        names = {call.name for call in notes.calls[before:] if call.met_another}
        if left := tuple(each for each in messages if key_of(each) in names):
            await anyio.sleep(_ENDED)
            await process.callers.send_many(SendMany(at=0, messages=left))


async def witness(process: Process) -> None:
    """Send a message of which it is known that it was taken."""
    provider = process.world.provider
    was_well, provider.is_well = provider.is_well, True
    await process.callers.send(Send(at=0, message=Message(None, _WITNESS)))
    provider.is_well = was_well


async def settle_doubts(
    process: Process,
    ledger: SQLiteLedger | MemoryLedger,
    *,
    after: float,
    breaks: bool = False,
) -> None:
    """Settle by the provider's report, which may break off."""
    world = process.world
    try:
        found = await settle(
            world.provider,
            ledger,
            after=after,
            breaks=breaks,
            chance=process.chance,
            wall=world.wall,
        )
    except LedgerError as error:  # it is being settled already, or its disk is full
        if not isinstance(error, LedgerInUse) and not process.may_fail:
            raise
        return
    except RuntimeError as error:
        process.callers.refused(error)
        return
    world.note(f"settled: sent {found.sent}, not sent {found.not_sent}")
    world.open_doubts = {each.key: str(each.reason) for each in found.open}
