"""The account's list of opt-outs, and another ledger that shares it.

Strategy: another program has a ledger of its own, which gets some of the account's postbacks.
It runs whenever a world's process does, and ends with it.

Rules:

* An opt-out that one ledger records is in the other once both have looked, and at its next
  opening.
* Each looks within a second of a change, as it would by itself.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Final

import anyio

from skycore_async import LedgerError, MemoryLedger, SQLiteLedger
from skycore_async.ledger.opt_outs import OptOut
from skycore_async.ledger.sqlite.opt_out_list import OptOutList
from skycore_async.ledger.sqlite.opt_out_sharing import sharing_opt_outs
from skycore_async.receiving.receiver import PostbackReceiver

from .machine import LEDGER, OPT_OUTS, OTHER

if TYPE_CHECKING:
    from .machine import Machine
    from .world import World

OURS: Final = LEDGER
_LOOKS: Final = 3.0  # seconds in which both have begun a look, and one of them another
_THREADS: Final = 40  # more than what those looks do in threads, one after the other


def lag_of(world: World) -> float:
    """Return the seconds by which each ledger has heard of what the other was told."""
    return _LOOKS + _THREADS * world.plan.settings.thread


class _NotedList(OptOutList):
    """The list, which says when it was told something."""

    on_told: Callable[[], None] = staticmethod(lambda: None)

    def tell(
        self, entries: Iterable[OptOut], *, ledger: str | None = None, seen: int = 0
    ) -> int | None:
        """Take entries in."""
        given = list(entries)
        last = super().tell(given, ledger=ledger, seen=seen)
        if given:
            self.on_told()
        return last


class Account:
    """The list on a machine, and the ledger beside the world's, where the world has them."""

    def __init__(self, world: World, machine: Machine, *, chance: Random) -> None:
        self._world = world
        self._machine = machine
        self._random = chance.random
        self._is_shared = world.plan.settings.shares_opt_outs
        self._list = _NotedList(machine.folder / OPT_OUTS, clock=world.wall)
        self._list.on_told = self.has_news
        self._news: dict[str, anyio.Event] = {}
        self._other: SQLiteLedger | None = None

    @contextlib.asynccontextmanager
    async def other(self) -> AsyncGenerator[None]:
        """Have the other program run, where the world has it."""
        if not self._is_shared:
            yield
            return
        ledger = SQLiteLedger(
            self._machine.folder / OTHER,
            clock=self._world.wall,
            connect=self._machine.connect,
            look_every=math.inf,
        )
        async with contextlib.AsyncExitStack() as stack:
            await self.again_while_full(ledger.open)
            stack.push_async_callback(ledger.aclose)
            await self.share(stack, ledger, OTHER)
            self._other = ledger
            yield

    async def share(
        self, stack: contextlib.AsyncExitStack, ledger: SQLiteLedger | MemoryLedger, name: str
    ) -> None:
        """Share what a ledger knows of opting out, until a stack is left."""
        if not self._is_shared:
            return

        async def sleep(_: float) -> None:
            """Wait for the next look at which there may be something to see."""
            await self._news.setdefault(name, anyio.Event()).wait()
            del self._news[name]
            await anyio.sleep(self._random())

        async def begin() -> None:
            await stack.enter_async_context(
                sharing_opt_outs(ledger, self._list, name=name, sleep=sleep)
            )

        await self.again_while_full(begin)

    async def again_while_full(self, begin: Callable[[], Awaitable[None]]) -> None:
        """Begin, and again while the disk is full."""
        while True:
            try:
                return await begin()
            except LedgerError:
                if not (self._machine.was_full or self._world.backups.were_open):
                    raise
            await anyio.sleep(1.0)

    def receiver(self) -> PostbackReceiver | None:
        """Return what takes postbacks in for the other program."""
        return None if self._other is None else PostbackReceiver(ledger=self._other)

    def has_news(self) -> None:
        """Have both look soon, as somebody has opted out or in."""
        for name in (OTHER, OURS):
            self._news.setdefault(name, anyio.Event()).set()

    @property
    def lag(self) -> float:
        """The seconds by which each has heard of what the other was told."""
        return lag_of(self._world)

    async def is_opted_out(self, number: str) -> bool:
        """Return whether list and other ledger both say that a number has opted out."""
        if self._other is None:
            return False
        entry = self._list.entries([number]).get(number)
        return entry is not None and entry.out and await self._other.is_opted_out(number)
