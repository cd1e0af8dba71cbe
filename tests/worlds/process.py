"""One process of a world: what it opens, what happens in it, and what it leaves."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.abc

from skycore_async import (
    LedgerError,
    LedgerInUse,
    MemoryLedger,
    MessageState,
    SkycoreClient,
    SQLiteLedger,
)

from . import rules
from .beside import Beside
from .callers import Callers, left
from .events import (
    Bulk,
    Crash,
    FullDisk,
    Jump,
    Message,
    OptOut,
    Reopen,
    Send,
    SendMany,
    Settle,
    Wait,
    number_of,
)
from .limiter import NotedLimiter
from .machine import Machine
from .notes import API_KEY, Notes, log_of_world
from .postman import Postman
from .provider import Posted, PretendTransport
from .report import settle

if TYPE_CHECKING:
    from .world import World

_WITNESS: Final = 90  # the number of messages of which nothing is unclear
_SOON: Final = 10.0  # seconds after which all that was taken is in a report
_LONG: Final = 4000.0  # seconds after which a report is sure to be taken for a proof
TIMEOUT: Final = 5.0  # seconds for a message


def _later(_: Posted) -> None:
    """Leave a postback to whoever runs next."""


def _gone(_: object) -> set[str]:
    """Write nothing any more, which nobody would see."""
    raise LedgerError("the process has ended")


class Process:
    """One process of a world."""

    def __init__(self, world: World, machine: Machine) -> None:
        self.world = world
        self.machine = machine
        self.is_gone = False
        self.ended_at = 0.0
        self.left: Callable[[Path], Machine] | None = None
        self._crash: Crash | None = None
        self._steps_left = -1
        self._notes = world.notes
        self._provider = world.provider
        self._transport = PretendTransport(world.provider)
        self._callers: Callers | None = None
        self._ledger: SQLiteLedger | MemoryLedger
        self._scope: anyio.CancelScope
        self._group: anyio.abc.TaskGroup
        self._busy = 0
        self._ended: anyio.Event  # what is waited for
        self._beside: Beside
        self._chance = Random(f"process {world.plan.chance} {world.now()}")

    @property
    def callers(self) -> Callers:
        """Those who use what is open."""
        assert self._callers is not None, "nothing was opened yet"
        return self._callers

    # How it ends.

    def on_clock(self, clock: Callable[[], float]) -> None:
        """Have the world go by the clock of this process."""
        self.world._clock = clock

    def on_step(self) -> bool:
        """Count a step, and return whether the process has ended at it."""
        if self.is_gone:
            return True
        self.world.steps += 1
        if self._steps_left > 0:
            self._steps_left -= 1
            if self._steps_left == 0 and self._crash is not None:
                self._end(self._crash)
        return self.is_gone

    def on_error(self, what: str) -> None:
        """Take in what the event loop is told."""
        if not self.is_gone:
            self._notes.break_rule(f"the event loop was told: {what}")

    def _is_to_crash(self, crash: Crash) -> None:
        self._crash = crash
        if crash.writes:
            self.machine.cut_after(crash.writes, lambda: self._end(crash))
        else:
            self._steps_left = crash.steps

    def _end(self, crash: Crash) -> None:
        if self.is_gone:
            return
        world = self.world
        world.note("crash")
        world.provider.on_post = _later
        self.left = self.machine.left(is_power=crash.is_power, chance=self._chance)
        self._transport.end()
        if isinstance(self._ledger, SQLiteLedger):
            self._ledger._file.commit = _gone  # type: ignore[method-assign, assignment]
        self._notes.crash()
        self.is_gone = True
        self.ended_at = world.now() + crash.down
        world.late += crash.down
        # Nobody sees what comes after.
        self._notes = log_of_world.notes = Notes()
        if self._callers is not None:
            self._callers.notes = self._notes
            self._callers.is_gone = True

    # What it does.

    async def main(self) -> None:
        """Live."""
        world = self.world
        self._ended = anyio.Event()
        beside = self._beside = Beside(world, self.machine, chance=self._chance)
        async with anyio.create_task_group() as group:
            self._group = group
            ledger = self._ledger = self._new_ledger()
            await beside.open()
            await self._leave_opening()
            while True:
                await beside.post_what_is_due()
                await self._open(ledger)
                client = self._new_client(ledger)
                self._callers = Callers(
                    world.provider,
                    world.notes,
                    world.names,
                    client=client,
                    ledger=ledger,
                    in_flight=world.plan.settings.in_flight,
                    beside=beside.receiver(),
                    on_beside=lambda: self._start(self._look),
                )
                if world.reads_report and not world.has_witness:
                    world.has_witness = True
                    await self._witness()
                is_over = await self._session()
                if is_over:
                    await self._end_well(client, ledger)
                await client.aclose()
                await self._until(lambda: not self._busy)  # who waited is told that it is closed
                await ledger.aclose()
                self._check_closed(client)
                self._notes.closed()
                if is_over:
                    break
            await beside.aclose()

    def _new_ledger(self) -> SQLiteLedger | MemoryLedger:
        world, capacity = self.world, self.world.plan.settings.capacity
        if capacity is not None:
            return MemoryLedger(capacity=capacity, clock=world.wall)
        return SQLiteLedger(
            self.machine.path,
            open_timeout=5,
            clock=world.wall,
            connect=self.machine.connect,
            look_every=math.inf,  # see `beside`
        )

    async def _open(self, ledger: SQLiteLedger | MemoryLedger) -> None:
        """Open the ledger, and look what is in it; again while its disk is full."""
        while True:
            try:
                await ledger.open()
                return await self._look_after_opening(ledger)
            except LedgerError:
                if not self.machine.was_full:
                    raise
            await anyio.sleep(1.0)

    async def _leave_opening(self) -> None:
        """Begin to open the ledger, and leave; nothing of that is to be in the way later."""
        after = self.world.plan.settings.leaves_opening
        if after is None:
            return
        other = SQLiteLedger(
            self.machine.path,
            clock=self.world.wall,
            connect=self.machine.connect,
            look_every=math.inf,
        )
        with contextlib.suppress(*([LedgerError] if self.machine.was_full else [])):
            if not await left(other.open, after, natively=self._chance.random() < 0.5):
                await other.aclose()

    def _new_client(self, ledger: SQLiteLedger | MemoryLedger) -> SkycoreClient:
        world, settings = self.world, self.world.plan.settings
        rate = settings.rate
        limiter = None if rate is None else NotedLimiter(rate, settings.burst, self._notes, world)
        client = SkycoreClient(
            api_key=API_KEY,
            from_="60856",
            rate=limiter,
            max_in_flight=settings.in_flight,
            timeout=TIMEOUT,
            transport=self._transport,
            ledger=ledger,
        )
        dispatcher = client._dispatcher
        dispatcher._chance = self._chance.random
        dispatcher._limiter._clock = world.now  # type: ignore[attr-defined]
        recorder = dispatcher.recorder
        assert recorder is not None
        recorder._clock = world.wall
        recorder._made_up = map("made-up-{}".format, world.names)
        return client

    async def _session(self) -> bool:
        """Do what is planned while client and ledger are open; True where all of it is done."""
        world = self.world
        self._scope = anyio.CancelScope()
        with self._scope:
            async with self._postbacks_posted():
                for event in sorted(world.left, key=lambda event: float(event.at)):
                    await anyio.sleep(max(0.0, event.at + world.late - world.now()))
                    if not self.is_gone:
                        world.left.remove(event)
                        self._happen(event)
                await self._until(lambda: not self._busy)
            return True
        return False

    @contextlib.asynccontextmanager
    async def _postbacks_posted(self) -> AsyncIterator[None]:
        """Have postbacks posted when their times have come; at the end wait for all of them."""
        provider = self._provider
        try:
            async with anyio.create_task_group() as posts:
                bundles = self.world.plan.settings.bundles
                postman = Postman(provider.now, provider.to_post, bundles=bundles)
                provider.on_post, provider.on_all_posted = postman.add, self._is_over
                posts.start_soon(postman.deliver, posts, self.callers.post)
                yield
                await self._until(lambda: not provider.to_post)
                posts.cancel_scope.cancel()
        finally:
            provider.on_post = _later

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so, which is so when it is told to be over."""
        while not is_so():
            self._ended = anyio.Event()
            await self._ended.wait()

    def _is_over(self) -> None:
        self._ended.set()

    def _happen(self, event: Any) -> None:
        """Have an event happen, which may take its time."""
        world = self.world
        if isinstance(event, Reopen):
            self._scope.cancel()
        elif isinstance(event, Crash):
            self._is_to_crash(event)
        elif isinstance(event, Jump):
            world.jump(event.seconds)
        elif isinstance(event, FullDisk):
            self.machine.fill_after(event.writes, lasts=event.lasts)
        else:
            self._start(self._done, event)

    def _start(self, run: Callable[..., Any], *args: Any) -> None:
        self._busy += 1
        self._group.start_soon(run, *args)

    async def _done(self, event: Send | SendMany | Bulk | OptOut | Settle | Wait) -> None:
        try:
            if isinstance(event, Send):
                await self.callers.send(event)
            elif isinstance(event, SendMany):
                await self.callers.send_many(event)
            elif isinstance(event, OptOut):
                await self.callers.opt_out(event)
            elif isinstance(event, Bulk):
                await self.callers.bulk(event)
            elif isinstance(event, Wait):
                await self.callers.wait(event)
            else:
                await self._settle(after=_SOON, breaks=event.breaks)
        finally:
            self._not_busy()

    def _not_busy(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._is_over()

    async def _look(self) -> None:
        try:
            await self._beside.look(self._ledger)
        except RuntimeError as error:
            self.callers.refused(error)
        finally:
            self._not_busy()

    async def _look_after_opening(self, ledger: SQLiteLedger | MemoryLedger) -> None:
        """Hold what a crash has left in doubt against what was under way."""
        doubts = {
            each.key
            async for each in ledger.deliveries(MessageState.IN_DOUBT)
            if each.info is None and each.code is None
        }
        new = {key for key in doubts - self.world.doubts if not key.startswith("made-up")}
        self.world.doubts = doubts
        if len(new) > self.world.plan.settings.in_flight:
            self._notes.break_rule(f"a crash left too many in doubt: {sorted(new)}")
        if self.machine.was_full or self.world.fills:  # what came of them may be unwritten
            self._notes.crashed_with |= new
        if others := new - self._notes.crashed_with:
            self._notes.break_rule(f"in doubt, and not under way: {sorted(others)}")

    async def _end_well(self, client: SkycoreClient, ledger: SQLiteLedger | MemoryLedger) -> None:
        """Give everything once more to a provider that behaves, and look at what is there."""
        world = self.world
        world.provider.is_well = True
        self.machine.fill_after(-1, lasts=0)
        dispatcher = client._dispatcher
        if isinstance(dispatcher._limiter, NotedLimiter):
            dispatcher._limiter.has_accidents = False
        if not self._notes.forgets:  # which would send all that was forgotten
            await self._run_again()
        if world.reads_report:
            for _ in range(2):
                await self._witness()
                await anyio.sleep(_LONG)
            await self._settle(after=3600.0)
            await self._run_again()
        await self._until(lambda: not self._busy)
        world.found = rules.Found(
            deliveries={each.key: each async for each in ledger.deliveries()},
            unplaced=[each async for each in ledger.unplaced()],
            opted_out={
                number_of(each): await ledger.is_opted_out(number_of(each))
                for each in rules.all_numbers(world.plan)
            },
        )

    async def _run_again(self) -> None:
        """Give every key once more, and have all postbacks posted."""
        world = self.world
        messages = [world.provider.mended(each) for each in rules.all_keys(world.plan)]
        async with self._postbacks_posted():
            await self.callers.send_many(SendMany(at=0, messages=tuple(messages)))

    async def _witness(self) -> None:
        """Send a message of which it is known that it was taken."""
        was_well, self._provider.is_well = self._provider.is_well, True
        await self.callers.send(Send(at=0, message=Message(None, _WITNESS)))
        self._provider.is_well = was_well

    async def _settle(self, *, after: float, breaks: bool = False) -> None:
        world = self.world
        try:
            found = await settle(
                world.provider,
                self._ledger,
                after=after,
                breaks=breaks,
                chance=self._chance,
                wall=world.wall,
            )
        except LedgerError as error:  # it is being settled already, or its disk is full
            if not isinstance(error, LedgerInUse) and not self.machine.was_full:
                raise
            return
        except RuntimeError as error:
            self.callers.refused(error)
            return
        world.note(f"settled: sent {found.sent}, not sent {found.not_sent}")
        world.open_doubts = {each.key: str(each.reason) for each in found.open}

    def _check_closed(self, client: SkycoreClient) -> None:
        free = client._dispatcher.admission._slots.value
        if free != self.world.plan.settings.in_flight:
            self._notes.break_rule(f"at the end {free} places are free")
        if self._transport.active:
            self._notes.break_rule(f"at the end {self._transport.active} exchanges are under way")
        if not self._transport.closed:
            self._notes.break_rule("the transport was not closed")
