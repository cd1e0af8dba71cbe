"""A ledger that shares a list of who may not be sent to with all other ledgers of a user.

Strategy: at the beginning the ledger takes in what it has not seen of the list, and tells the
list what that has not heard of.  While the ledger is open, what changes in either goes to the
other: from the list at a look every second, from the ledger once it was told of a change.

Rules:

* Nothing is sent before the ledger has the whole list.
* A word is told as it arrived, with its own time, and each change of the list arrives once;
  which of two words counts is decided by the rules of both sides, which are the same.
* Nothing is told to a list that has changed since it was looked at: what the ledger has may be
  older.  So no ledger hears its own words again, after what was said since.
* Where another list is in its place, as a backup of it, that is taken in from its beginning, and
  told all.
* A ledger that cannot reach the list goes on: what it has heard is told at a later look, or by the
  next opening.
* Who answers for a word, as to a postback, has it told at once, and hears where it cannot be: the
  process may be killed before the next look.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import ExitStack, asynccontextmanager
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

_PAUSE: Final = 10  # times as long as it took to compare both: a tenth of the time at most

_CLOSED: Final = (
    "the list of who may not be sent to lacks what was said last to a ledger that shares it, which"
    " was closed: leave share_opt_outs before the ledger. Its next opening tells it"
)

Sleep = Callable[[float], Awaitable[None]]
# Tell a list at once what a ledger has of numbers; raises LedgerError where that cannot be.
Telling = Callable[[Collection[str]], Awaitable[None]]


@asynccontextmanager
async def sharing_opt_outs(
    ledger: BaseLedger, shared: OptOutList, *, name: str, sleep: Sleep = anyio.sleep
) -> AsyncGenerator[None]:
    """Share the opt-outs of an open ledger, by its `name`, with a list while this is entered.

    Raises LedgerError where the list or the ledger cannot be used at the beginning.
    """
    async with sharing_at_once(ledger, shared, name=name, sleep=sleep):
        yield


@asynccontextmanager
async def sharing_at_once(
    ledger: BaseLedger, shared: OptOutList, *, name: str, sleep: Sleep = anyio.sleep
) -> AsyncGenerator[Telling]:
    """Do as `sharing_opt_outs` does, and yield what tells the list at once."""
    sharing = _Sharing(ledger, shared, name)
    with ExitStack() as watching:
        sharing.watch(watching)
        await sharing.take_all()
        await sharing.tell_all()
        # Not a task group around what the caller does: it may be left in another task than it was
        # entered in, and what is raised inside is the caller's, who knows of no group.
        owner = BackgroundTasks(partial(sharing.look, watching), of="list of opt-outs")
        following = anyio.CancelScope()
        owner.at_closing.add(following.cancel)
        owner.start(sharing.follow, following, watching, sleep)
        try:
            yield sharing.tell
        finally:
            with anyio.CancelScope(shield=True):
                await owner.close()


class _Sharing:
    def __init__(self, ledger: BaseLedger, shared: OptOutList, name: str) -> None:
        self._ledger = ledger
        self._shared = shared
        self._name = name
        self._seen = 0
        self._file: object = None  # which the list is in, as it was last seen
        self._has_news = False
        self._problems = ProblemLog()
        self._one_at_a_time = anyio.Lock()

    async def take_all(self) -> None:
        """Take in what the ledger has not seen of the list, or has forgotten."""
        self._file, _ = await anyio.to_thread.run_sync(self._shared.last)
        seen = await anyio.to_thread.run_sync(self._shared.seen_by, self._name)
        self._seen = last = 0
        while changes := await anyio.to_thread.run_sync(self._shared.changes, last):
            numbers = tuple(change.word.number for change in changes)
            known = await self._ledger.run(GetOptOuts(numbers=numbers))
            await self._take(
                tuple(
                    change.word
                    for change in changes
                    if change.number > seen
                    or is_missed(change.word, known.get(change.word.number))
                )
            )
            last = changes[-1].number
        await self._note_seen(last)

    async def tell_all(self) -> None:
        """Tell the list every word of the ledger's that it has not."""
        words: list[OptOut] = []
        async for word in self._ledger.opt_outs():
            words.append(word)
            if len(words) == PAGE:
                await self._tell(words)
                words = []
        await self._tell(words)

    def watch(self, watching: ExitStack) -> None:
        """Note from now on whether the ledger hears something."""
        with watching.pop_all():  # that from before ends once there is a new one
            self._changed = watching.enter_context(self._ledger.waiters.wait(CHANGED))

    async def follow(
        self, following: anyio.CancelScope, watching: ExitStack, sleep: Sleep
    ) -> None:
        """Take in and tell what changes, until `following` is cancelled."""
        pause = LOOK_EVERY
        with following:
            while True:
                await sleep(pause)
                began = now()
                await self.look(watching)
                pause = max(LOOK_EVERY, _PAUSE * (now() - began))

    async def look(self, watching: ExitStack) -> None:
        """Take in what has changed, and tell what the list has not; never raises."""
        if self._changed.is_set():
            self.watch(watching)
            self._has_news = True
        with self._problems.logged():
            try:
                async with self._one_at_a_time:
                    await self._take_changes()
                    await self._tell_news()
            except RuntimeError:
                if getattr(self._ledger, "is_open", True):
                    raise
                raise LedgerError(_CLOSED) from None

    async def _tell_news(self) -> None:
        if self._has_news:
            await self.tell_all()
            self._has_news = False

    async def tell(self, numbers: Collection[str]) -> None:
        """Tell the list what the ledger has of numbers, now that it has taken in what is new."""
        async with self._one_at_a_time:
            await self._take_changes()
            words = await self._ledger.run(GetOptOuts(numbers=tuple(numbers)))
            await self._tell(words.values())

    async def _take_changes(self) -> None:
        file, last = await anyio.to_thread.run_sync(self._shared.last)
        if file != self._file or last < self._seen:
            self._has_news = True
            await self.take_all()
        while changes := await anyio.to_thread.run_sync(self._shared.changes, self._seen):
            await self._take(tuple(change.word for change in changes))
            await self._note_seen(changes[-1].number)

    async def _take(self, words: tuple[OptOut, ...]) -> None:
        if words:
            await self._ledger.run(TellOptOuts(words=words))

    async def _note_seen(self, change: int) -> None:
        if change > self._seen:
            await anyio.to_thread.run_sync(self._shared.note_seen, self._name, change)
            self._seen = change

    async def _tell(self, words: Collection[OptOut]) -> None:
        while (seen := await anyio.to_thread.run_sync(self._told, words)) is None:
            await self._take_changes()
            numbers = tuple(word.number for word in words)
            words = (await self._ledger.run(GetOptOuts(numbers=numbers))).values()
        self._seen = seen

    def _told(self, words: Collection[OptOut]) -> int | None:
        """Tell words, and return the change that is the last one by then; None for not told."""
        known = self._shared.words([word.number for word in words])
        new = [word for word in words if known.get(word.number) != word]
        return self._shared.tell(relayed(new), ledger=self._name, seen=self._seen)
