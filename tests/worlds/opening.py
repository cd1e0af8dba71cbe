"""What a process opens, what it finds there, and how it leaves it."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Final

from skycore_async import LedgerError, MemoryLedger, MessageState, SkycoreClient, SQLiteLedger

from .callers import left
from .limiter import NotedLimiter
from .log import API_KEY

if TYPE_CHECKING:
    from .machine import Machine
    from .process import Process
    from .world import World

TIMEOUT: Final = 5.0  # seconds for a message


def new_ledger(world: World, machine: Machine) -> SQLiteLedger | MemoryLedger:
    """Return a ledger that is not open yet."""
    capacity = world.plan.settings.capacity
    if capacity is not None:
        return MemoryLedger(capacity=capacity, clock=world.wall)
    return SQLiteLedger(
        machine.path,
        open_timeout=5,
        clock=world.wall,
        connect=machine.connect,
        look_every=math.inf,  # see `beside`
    )


async def leave_opening(process: Process) -> None:
    """Begin to open the ledger, and leave; nothing of that is to be in the way later."""
    world, machine = process.world, process.machine
    after = world.plan.settings.leaves_opening
    if after is None:
        return
    other = SQLiteLedger(
        machine.path, clock=world.wall, connect=machine.connect, look_every=math.inf
    )
    with contextlib.suppress(*([LedgerError] if process.may_fail else [])):
        if not await left(other.open, after, natively=process.chance.random() < 0.5):
            await other.aclose()


def new_client(process: Process, ledger: SQLiteLedger | MemoryLedger) -> SkycoreClient:
    """Return a client, whose clocks are the world's."""
    world, settings = process.world, process.world.plan.settings
    rate = settings.rate
    limiter = None if rate is None else NotedLimiter(rate, settings.burst, process.notes, world)
    client = SkycoreClient(
        api_key=API_KEY,
        from_="60856",
        rate=limiter,
        max_in_flight=settings.in_flight,
        timeout=TIMEOUT,
        transport=process.transport,
        ledger=ledger,
    )
    dispatcher = client._dispatcher
    dispatcher._chance = process.chance.random
    dispatcher._limiter._clock = world.now  # type: ignore[attr-defined]
    recorder = dispatcher.recorder
    assert recorder is not None
    recorder._clock = world.wall
    recorder._made_up = map("made-up-{}".format, world.names)
    return client


async def look_after_opening(process: Process, ledger: SQLiteLedger | MemoryLedger) -> None:
    """Hold what a crash has left in doubt against what was under way."""
    world = process.world
    doubts = {
        each.key
        async for each in ledger.deliveries(MessageState.IN_DOUBT)
        if each.info is None and each.code is None
    }
    new = {key for key in doubts - world.doubts if not key.startswith("made-up")}
    world.doubts = doubts
    if len(new) > world.plan.settings.in_flight:
        process.notes.break_rule(f"a crash left too many in doubt: {sorted(new)}")
    if process.machine.was_full or world.fills:  # what came of them may be unwritten
        process.notes.crashed_with |= new
    if others := new - process.notes.crashed_with:
        process.notes.break_rule(f"in doubt, and not under way: {sorted(others)}")


def check_closed(process: Process, client: SkycoreClient) -> None:
    """See that nothing is left of what was under way."""
    free = client._dispatcher.admission._slots.value
    if free != process.world.plan.settings.in_flight:
        process.notes.break_rule(f"at the end {free} places are free")
    if process.transport.active:
        process.notes.break_rule(f"at the end {process.transport.active} exchanges are under way")
    if not process.transport.closed:
        process.notes.break_rule("the transport was not closed")
