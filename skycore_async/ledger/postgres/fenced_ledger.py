"""The ledger in PostgreSQL as a worker has it that sends a chunk: within the chunk's fence."""

from __future__ import annotations

from typing import TypeVar, cast

from ..commands import Begin, Fence, LedgerCommand
from .ledger import PostgresLedger, SharedLedger

T = TypeVar("T")


class FencedLedger(SharedLedger):
    """The same ledger, for as long as a worker has a chunk.

    It begins messages while the chunk has the fence's epoch and its campaign runs, and
    raises Superseded where that is not so.
    """

    def __init__(self, ledger: PostgresLedger, fence: Fence) -> None:
        super().__init__(ledger.waiters)
        self._ledger = ledger
        self._fence = fence

    async def run(self, command: LedgerCommand[T]) -> T:
        """Run a command; one that begins a message only within the fence."""
        if isinstance(command, Begin):
            fenced = command.as_attempt(command.attempt, self._fence)
            return cast("T", await self._ledger.run(fenced))
        return await self._ledger.run(command)

    @property
    def is_open(self) -> bool:
        """Whether the ledger was opened and not closed yet."""
        return self._ledger.is_open

    async def aclose(self) -> None:
        """Leave the ledger open: it is not this view's to close."""
