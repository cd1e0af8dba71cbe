"""What is special about a ledger that other processes change, too: they notify nobody here.

Strategy: who waits looks again at intervals.  Whether opt-outs were changed is told by a digest of
all of them: one statement, where to read them takes one for each page.  It runs over the writing
connection, as a worker is to need no further one.
"""

from __future__ import annotations

from typing import Final, cast

import anyio
import attrs

from ..base import BaseLedger
from ..commands import Query
from ..reader import LedgerReader
from .reader import PostgresReader

POLL: Final = 0.25  # seconds after which a waiter looks again


@attrs.frozen
class DigestOptOuts(Query[str]):
    """A text that is another one if an opt-out or opt-in has changed."""

    def answer(self, store: LedgerReader) -> str:
        """Return the answer of a store in PostgreSQL."""
        return cast("PostgresReader", store).opt_outs_digest()


class SharedLedger(BaseLedger):
    """A ledger that other processes change without notifying this one."""

    async def opt_outs_version(self) -> object:
        """Return a value that is another one if any process has changed an opt-out or opt-in."""
        return await self.run(DigestOptOuts())

    async def _wait(self, changed: anyio.Event) -> None:
        with anyio.move_on_after(POLL):
            await changed.wait()
