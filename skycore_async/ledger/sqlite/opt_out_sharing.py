"""Share the list of opt-outs between a ledger and all other ledgers of a user.

Strategy: at the beginning the ledger takes in what it has not seen of the list, and tells the list
what that lacks.  While the ledger is open, changes of either go to the other: those of the list at
a look every second, those of the ledger at the look after it.  What other processes changed in the
ledger, as in a database that several have open, is found at every tenth look.
To compare all entries takes long where there are many, so it rests after that for as much longer;
what is new on the list is taken in meanwhile.

Rules:

* Nothing is sent before the ledger has the whole list.
* An entry is told as it came, with its own time, and each change of the list is taken in once.
  Ledger and list have the same rules of which entry counts.
* Nothing is told to a list that has changed since the last look, as the ledger's entry may be the
  older one.  So no ledger is told its own old entries again.
* If the file was replaced, as by a backup, the ledger takes in all of it, and tells it everything.
* A ledger that cannot reach the list goes on: it tells what it has at a later look, or when it is
  opened next.
* Whoever answers for an entry, as a receiver of postbacks does, tells it at once and sees an
  error: the process may be killed before the next look.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final

import anyio
import anyio.to_thread

from ...errors import LedgerError
from ...runtime.background import BackgroundTasks
from ...runtime.event_loop import now
from ..base import BaseLedger
from ..commands import GetOptOuts, TellOptOuts
from ..opt_outs import CHANGED, OptOut, is_missed, relayed
from .opt_out_list import PAGE, OptOutList
from .watching import LOOK_EVERY, ProblemLog

_ELSEWHERE: Final = 10  # looks, of which one looks for what other processes changed in the ledger
_PAUSE: Final = 10  # times as long as it took to compare both: a tenth of the time at most

_CLOSED: Final = (
    "the list of who may not be sent to lacks what was said last to a ledger that shares it, which"
    " was closed: leave share_opt_outs before the ledger. Its next opening tells it"
)

Sleep = Callable[[float], Awaitable[None]]
# Tells the list at once what the ledger has of these numbers; raises LedgerError if it cannot.
Telling = Callable[[Collection[str]], Awaitable[None]]


@asynccontextmanager
async def sharing_opt_outs(
    ledger: BaseLedger, shared: OptOutList, *, name: str, sleep: Sleep = anyio.sleep
) -> AsyncGenerator[None]:
    """Share the opt-outs of an open ledger with a list, which knows it by `name`, while entered.

    Raises LedgerError if the list or the ledger cannot be used at the beginning.
    """
    async with sharing_at_once(ledger, shared, name=name, sleep=sleep):
        yield


@asynccontextmanager
async def sharing_at_once(
    ledger: BaseLedger, shared: OptOutList, *, name: str, sleep: Sleep = anyio.sleep
) -> AsyncGenerator[Telling]:
    """Share like `sharing_opt_outs`, and yield a function that tells the list at once."""
    sharing = _Sharing(ledger, shared, name)
    with ExitStack() as watching:
        sharing.watch(watching)
        await sharing.take_all()
        await sharing.tell_all()
        # Not a task group around what the caller does: it may be left in another task than it was
        # entered in, and what is raised inside is the caller's, who knows of no group.
        tasks = BackgroundTasks(partial(sharing.look, watching), of="list of opt-outs")
        following = anyio.CancelScope()
        tasks.at_closing.add(following.cancel)
        tasks.start(sharing.follow, following, watching, sleep)
        try:
            yield sharing.tell
        finally:
            with anyio.CancelScope(shield=True):
                await tasks.close()


class _Sharing:
    def __init__(self, ledger: BaseLedger, shared: OptOutList, name: str) -> None:
        self._ledger = ledger
        self._shared = shared
        self._name = name
        self._rests = 0  # looks that compare nothing
        self._seen = 0
        self._file: object = None  # the identity of the list's file at the last look
        self._has_news = False
        self._version: object = None  # of the ledger's entries, at least when they were told
        self._problems = ProblemLog()
        self._one_at_a_time = anyio.Lock()

    async def take_all(self) -> None:
        """Take in what the ledger has not seen of the list, or has forgotten."""
        self._file, _ = await anyio.to_thread.run_sync(self._shared.last)
        seen = await anyio.to_thread.run_sync(self._shared.seen_by, self._name)
        self._seen = last = 0
        while changes := await anyio.to_thread.run_sync(self._shared.changes, last):
            numbers = tuple(change.entry.number for change in changes)
            known = await self._ledger.run(GetOptOuts(numbers=numbers))
            await self._take(
                tuple(
                    change.entry
                    for change in changes
                    if change.number > seen
                    or is_missed(change.entry, known.get(change.entry.number))
                )
            )
            last = changes[-1].number
        await self._note_seen(last)

    async def tell_all(self) -> None:
        """Tell the list every entry of the ledger that it lacks."""
        version: object = None
        with suppress(LedgerError):  # as by a statement_timeout; a later look logs it
            version = await self._ledger.opt_outs_version()
        entries: list[OptOut] = []
        async for entry in self._ledger.opt_outs():
            entries.append(entry)
            if len(entries) == PAGE:
                await self._tell(entries)
                entries = []
        await self._tell(entries)
        self._version = version

    def watch(self, watching: ExitStack) -> None:
        """Notice from now on whether an entry of the ledger changes."""
        with watching.pop_all():  # that from before ends once there is a new one
            self._changed = watching.enter_context(self._ledger.waiters.wait(CHANGED))

    async def follow(
        self, following: anyio.CancelScope, watching: ExitStack, sleep: Sleep
    ) -> None:
        """Pass changes on both ways, until `following` is cancelled."""
        looks = itertools.count(1)
        with following:
            while True:
                await sleep(LOOK_EVERY)
                tells = self._rests == 0
                self._rests = max(0, self._rests - 1)
                await self.look(watching, tells=tells, elsewhere=next(looks) % _ELSEWHERE == 0)

    async def look(
        self, watching: ExitStack, *, tells: bool = True, elsewhere: bool = False
    ) -> None:
        """Take in what has changed, and tell what the list lacks; log errors, and raise none.

        With `elsewhere`, that is also what other processes changed in the ledger.
        """
        if self._changed.is_set():
            self.watch(watching)
            self._has_news = True
        with self._problems.logged():
            try:
                async with self._one_at_a_time:
                    await self._take_changes()
                    if tells:
                        await self._tell_news(elsewhere=elsewhere)
            except RuntimeError:
                if getattr(self._ledger, "is_open", True):
                    raise
                raise LedgerError(_CLOSED) from None

    async def _tell_news(self, *, elsewhere: bool) -> None:
        began = now()
        try:
            if elsewhere and not self._has_news:
                self._has_news = await self._ledger.opt_outs_version() != self._version
            if self._has_news:
                await self.tell_all()
                self._has_news = False
        finally:
            self._rests = int(_PAUSE * (now() - began) / LOOK_EVERY)

    async def tell(self, numbers: Collection[str]) -> None:
        """Take in what has changed, then tell the list the ledger's entries of these numbers."""
        async with self._one_at_a_time:
            await self._take_changes()
            entries = await self._ledger.run(GetOptOuts(numbers=tuple(numbers)))
            await self._tell(entries.values())

    async def _take_changes(self) -> None:
        file, last = await anyio.to_thread.run_sync(self._shared.last)
        if file != self._file or last < self._seen:
            self._has_news = True
            await self.take_all()
        while changes := await anyio.to_thread.run_sync(self._shared.changes, self._seen):
            await self._take(tuple(change.entry for change in changes))
            await self._note_seen(changes[-1].number)

    async def _take(self, entries: tuple[OptOut, ...]) -> None:
        if entries:
            await self._ledger.run(TellOptOuts(entries=entries))

    async def _note_seen(self, change: int) -> None:
        if change > self._seen:
            await anyio.to_thread.run_sync(self._shared.note_seen, self._name, change)
            self._seen = change

    async def _tell(self, entries: Collection[OptOut]) -> None:
        while (seen := await anyio.to_thread.run_sync(self._write_if_unchanged, entries)) is None:
            await self._take_changes()
            numbers = tuple(entry.number for entry in entries)
            entries = (await self._ledger.run(GetOptOuts(numbers=numbers))).values()
        self._seen = seen

    def _write_if_unchanged(self, entries: Collection[OptOut]) -> int | None:
        """Write entries, and return the last change; None if the list has changed meanwhile."""
        known = self._shared.entries([entry.number for entry in entries])
        new = [entry for entry in entries if known.get(entry.number) != entry]
        return self._shared.tell(relayed(new), ledger=self._name, seen=self._seen)
