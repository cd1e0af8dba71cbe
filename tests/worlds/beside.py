"""The inbox beside a ledger, through which another process takes in some of the postbacks.

Rule: the other process runs whenever a world's process does, even while that process has its
ledger closed, and ends with it.
"""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import anyio

from skycore_async import MemoryLedger, SQLiteLedger
from skycore_async.receiving.inbox import PostbackInbox
from skycore_async.receiving.receiver import PostbackReceiver

from .callers import status_of
from .provider import body_of

if TYPE_CHECKING:
    from .machine import Machine
    from .world import World


class Beside:
    """What takes postbacks in beside the ledger on a machine, where the world has that."""

    def __init__(self, world: World, machine: Machine, *, chance: Random) -> None:
        self._provider = world.provider
        self._random = chance.random
        self._looking = anyio.Lock()
        self._inbox: PostbackInbox | None = None
        if world.plan.settings.has_inbox:
            self._inbox = PostbackInbox(machine.path, clock=world.wall, look_every=math.inf)

    async def open(self) -> None:
        """Open the inbox."""
        if self._inbox is not None:
            await self._inbox.open()

    async def aclose(self) -> None:
        """Close it."""
        if self._inbox is not None:
            await self._inbox.aclose()

    def receiver(self) -> PostbackReceiver | None:
        """Return what takes postbacks in here."""
        return None if self._inbox is None else PostbackReceiver(ledger=self._inbox)

    async def post_what_is_due(self) -> None:
        """Have postbacks posted here while nobody has the ledger open."""
        receiver, provider = self.receiver(), self._provider
        if receiver is None:
            return
        for each in provider.to_post:
            if each.at <= provider.now() and each.choice is None and provider.is_heads():
                status = await status_of(receiver, body_of([each]))
                provider.answered(each, status, is_beside=True)

    async def look(self, ledger: SQLiteLedger | MemoryLedger) -> None:
        """Have the ledger look into the inbox within a second, as it would by itself."""
        await anyio.sleep(self._random())
        async with self._looking:
            if ledger.is_open and isinstance(ledger, SQLiteLedger):
                assert ledger._opening is not None
                await ledger._look_into_inbox(ledger._file, ledger._opening.tasks)
