"""Intents within a fence: written only while a worker has the chunk, and its campaign runs.

A campaign whose start was postponed does not run before that, whoever has its chunks.

Rule: a worker that takes over a chunk counts up its epoch under a lock of the row.  An intent
locks the row, too, so one of the two is first: either the worker sees the intent, or the intent
meets the new epoch and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ...errors import LedgerError
from ...postgres.schema import Connection
from ..commands import Begin, Fence, PendingCommand
from ..execution import CommandExecutor
from ..opt_outs import OptOutRule
from .store import PostgresStore

_HOLDS: Final = """
SELECT chunks.id, epoch, CASE WHEN campaigns.state = 'running' AND starts_at > clock_timestamp()
    THEN 'to start later' ELSE campaigns.state END
FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
WHERE chunks.id = ANY(%s)
ORDER BY chunks.id
FOR KEY SHARE OF chunks
"""


class Superseded(LedgerError):
    """Another worker has the chunk by now, or its campaign is not running."""


class FencedExecutor(CommandExecutor):
    """Run commands over `connection`; begin messages only within the fences of their commands.

    If there is a `refusal`, commands without a fence are refused with it.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        clock: Callable[[], float],
        settle_within: float,
        opt_out_rule: OptOutRule | None = None,
        refusal: str | None = None,
    ) -> None:
        super().__init__(
            PostgresStore(connection),
            clock=clock,
            settle_within=settle_within,
            opt_out_rule=opt_out_rule,
        )
        self._connection = connection
        self._refusal = refusal

    def _begin(self, begins: Sequence[tuple[PendingCommand, Begin]]) -> None:
        if within := list(self._within(begins)):
            super()._begin(within)

    def _within(
        self, begins: Sequence[tuple[PendingCommand, Begin]]
    ) -> Iterator[tuple[PendingCommand, Begin]]:
        """Yield the commands whose fence holds, or that have none; the others get an error."""
        fences = {command.fence for _, command in begins if command.fence is not None}
        chunks = sorted({fence.chunk for fence in fences})
        rows = self._connection.execute(_HOLDS, (chunks,)) if chunks else ()
        states = {Fence(chunk=chunk, epoch=epoch): state for chunk, epoch, state in rows}
        for pending, command in begins:
            fence = command.fence
            if fence is None and self._refusal is not None:
                pending.error = LedgerError(self._refusal)
            elif fence is None or states.get(fence) == "running":
                yield pending, command
            else:
                is_ours = fence in states
                said = f"its campaign is {states[fence]}" if is_ours else "it was taken over"
                pending.error = Superseded(
                    f"chunk {fence.chunk} is not to be sent from here: {said}"
                )
