"""The ledger in PostgreSQL for a worker that sends a chunk: within the chunk's fence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

import attrs

from ..commands import Begin, Fence, LedgerCommand, Lookup
from .ledger import PostgresLedger
from .shared_ledger import SharedLedger

T = TypeVar("T")


class FencedLedger(SharedLedger):
    """The same ledger, for as long as a worker has a chunk.

    It begins messages while the chunk has the fence's epoch and its campaign runs, and raises
    Superseded otherwise.  `doubts_to_resend` is that of the `Chunk`.
    """

    def __init__(
        self, ledger: PostgresLedger, fence: Fence, *, doubts_to_resend: Mapping[str, float]
    ) -> None:
        super().__init__(ledger.waiters)
        self._ledger = ledger
        self._fence = fence
        self._doubts_to_resend = doubts_to_resend

    async def run(self, command: LedgerCommand[T]) -> T:
        """Run a command, and return its result; what begins a message only within the fence."""
        if self._doubts_to_resend and isinstance(command, Begin | Lookup):
            command = cast("LedgerCommand[T]", self._with_permission(command))
        if isinstance(command, Begin):
            fenced = command.as_attempt(command.attempt, self._fence)
            return cast("T", await self._ledger.run(fenced))
        return await self._ledger.run(command)

    def _with_permission(self, command: Begin | Lookup) -> Begin | Lookup:
        started_at = self._doubts_to_resend.get(command.intent.key)
        if started_at is None:
            return command
        intent = attrs.evolve(command.intent, doubt_started_at=started_at)
        return attrs.evolve(command, intent=intent, resend_in_doubt=True)

    @property
    def is_open(self) -> bool:
        """Whether the ledger was opened and not closed yet."""
        return self._ledger.is_open

    async def aclose(self) -> None:
        """Leave the ledger open: it is not this view's to close."""
