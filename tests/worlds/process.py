"""One process of a world: what it opens, what happens in it, and what it leaves."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.abc

from skycore_async import LedgerError, MemoryLedger, SQLiteLedger

from .account import OURS, Account
from .beside import Beside
from .callers import Callers, Taker
from .ending import end_well, settle_doubts, witness
from .events import (
    Backup,
    Bulk,
    Crash,
    FullDisk,
    Jump,
    OptOut,
    PutBack,
    Reopen,
    Send,
    SendMany,
    Settle,
    Wait,
    Way,
)
from .log import log_of_world
from .machine import Machine
from .notes import Notes
from .opening import check_closed, leave_opening, look_after_opening, new_client, new_ledger
from .postman import Postman
from .provider import Posted
from .transport import PretendTransport

if TYPE_CHECKING:
    from .world import World

_SOON: Final = 10.0  # seconds after which all that was taken is in a report


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
        self.notes = world.notes
        self._provider = world.provider
        self.transport = PretendTransport(world.provider)
        self._callers: Callers | None = None
        self._ledger: SQLiteLedger | MemoryLedger
        self._scope: anyio.CancelScope
        self._group: anyio.abc.TaskGroup
        self._busy = 0
        self._ended: anyio.Event  # what is waited for
        self.account: Account
        self._beside: Beside
        self.chance = Random(f"process {world.plan.chance} {world.now()}")

    @property
    def callers(self) -> Callers:
        """Those who use what is open."""
        assert self._callers is not None, "nothing was opened yet"
        return self._callers

    @property
    def may_fail(self) -> bool:
        """Whether the ledger may be unable to read or to write, as what it is kept in was odd."""
        return self.machine.was_full or self.world.backups.were_open

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
            self.notes.break_rule(f"the event loop was told: {what}")

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
        self.left = self.machine.left(is_power=crash.is_power, chance=self.chance)
        self.transport.end()
        if isinstance(self._ledger, SQLiteLedger):
            self._ledger._file.commit = _gone  # type: ignore[method-assign, assignment]
        self.notes.crash()
        self.is_gone = True
        self.ended_at = world.now() + crash.down
        world.late += crash.down
        # Nobody sees what comes after.
        self.notes = log_of_world.notes = Notes()
        if self._callers is not None:
            self._callers.notes = self.notes
            self._callers.is_gone = True

    # What it does.

    async def main(self) -> None:
        """Live."""
        world = self.world
        self._ended = anyio.Event()
        beside = self._beside = Beside(world, self.machine, chance=self.chance)
        account = self.account = Account(world, self.machine, chance=self.chance)
        async with anyio.create_task_group() as group, account.other():
            self._group = group
            ledger = self._ledger = new_ledger(world, self.machine)
            world.backups.before_opening(self.machine)
            await self._open_beside()
            await leave_opening(self)
            is_over = False
            while not is_over:
                await beside.post_what_is_due()
                world.backups.before_opening(self.machine)
                await self._open(ledger)
                async with contextlib.AsyncExitStack() as sharing:
                    await account.share(sharing, ledger, OURS)
                    is_over = await self._use(ledger)
                await ledger.aclose()
            await beside.aclose()

    async def _use(self, ledger: SQLiteLedger | MemoryLedger) -> bool:
        """Do what is planned with a client; True where all of it is done."""
        world, lag = self.world, self.account.lag
        settings = world.plan.settings
        client = new_client(self, ledger)
        self._callers = Callers(
            world.provider,
            world.notes,
            world.names,
            client=client,
            ledger=ledger,
            in_flight=settings.in_flight,
            holds_up=settings.rate is not None or bool(settings.lags),
            may_be_late=world.fills,
            beside=Taker.of(self._beside.receiver(), lag=lag, on_taken=self._to_be_looked_into),
            other=Taker.of(self.account.receiver(), lag=lag, on_taken=self.account.has_news),
            on_choice=self.account.has_news,
        )
        if world.reads_report and not world.has_witness:
            world.has_witness = True
            await witness(self)
        is_over = await self._session() and not world.backups.is_open
        if is_over:
            await end_well(self, client, ledger)
        await client.aclose()
        await self.idle()  # who waited is told that it is closed
        check_closed(self, client)
        self.notes.closed()
        return is_over

    def _to_be_looked_into(self) -> None:
        self._start(self._look)

    async def _open_beside(self) -> None:
        """Open the inbox, which a ledger beside it is refused for as well."""
        try:
            await self._beside.open()
        except LedgerError:
            if not self.world.backups.put_in_order(self.machine):
                raise
            await self._beside.open()

    async def _open(self, ledger: SQLiteLedger | MemoryLedger) -> None:
        """Open the ledger, and look what is in it; again while its disk is full."""
        while True:
            try:
                await ledger.open()
                self.world.backups.opened()
                return await look_after_opening(self, ledger)
            except LedgerError:
                if self.world.backups.put_in_order(self.machine):
                    continue
                if not self.may_fail:
                    raise
            await anyio.sleep(1.0)

    async def _session(self) -> bool:
        """Do what is planned while client and ledger are open; True where all of it is done."""
        world = self.world
        self._scope = anyio.CancelScope()
        with self._scope:
            async with self.postbacks_posted():
                for event in sorted(world.left, key=lambda event: float(event.at)):
                    await anyio.sleep(max(0.0, event.at + world.late - world.now()))
                    if not self.is_gone:
                        world.left.remove(event)
                        self._happen(event)
                await self.idle()
            return True
        return False

    @contextlib.asynccontextmanager
    async def postbacks_posted(self) -> AsyncIterator[None]:
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

    async def idle(self) -> None:
        """Wait until nothing is under way that was begun by an event."""
        await self._until(lambda: not self._busy)

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
        elif isinstance(event, Backup):
            world.backups.make(self.machine, with_log=event.with_log)
        elif isinstance(event, PutBack):
            self._put_back(event)
        else:
            self._start(self._done, event)

    def _put_back(self, event: PutBack) -> None:
        """Have a backup put back, for which the ledger is closed, before that or after."""
        if not self.world.backups.put_back(self.machine, event.way):
            return
        self.world.note(f"put back: {event.way}")
        if event.way is Way.CLOSED:
            self._scope.cancel()
        else:
            log_of_world.may_fail = True
            self._start(self._notice, event.noticed)

    async def _notice(self, after: float) -> None:
        try:
            await anyio.sleep(after)
            self._scope.cancel()
        finally:
            self._not_busy()

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
                await settle_doubts(self, self._ledger, after=_SOON, breaks=event.breaks)
        finally:
            self._not_busy()

    def _not_busy(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._is_over()

    async def _look(self) -> None:
        try:
            while not await self._has_looked():
                pass
            self.account.has_news()
        except RuntimeError as error:
            self.callers.refused(error)
        finally:
            self._not_busy()

    async def _has_looked(self) -> bool:
        """Look into the inbox; False where that is to be done again, as the disk is full."""
        try:
            await self._beside.look(self._ledger)
        except LedgerError:
            if self.is_gone or not self.may_fail:
                raise
            return self.world.backups.is_open  # then the next opening takes it in
        return True
