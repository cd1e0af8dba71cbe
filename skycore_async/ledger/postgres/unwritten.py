"""The outcomes that a ledger in PostgreSQL could not write yet, and has to.

Strategy: whoever is to look a message up, or to begin it, writes them first, and so does each
sign of life.

Rules:

* Nothing is begun while there is one: no more are in doubt after a crash than were in flight.
  Nor is anything looked up, which might be told to be under way although it has ended.
* One task at a time tries.  Of those who wait for it with a message the first tries again,
  and the others are told what that met: none waits for long for a database that is away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ...errors import LedgerError
from ..commands import Finish
from ..model import Attempt


class UnwrittenOutcomes(dict[Attempt | None, Finish]):
    """Outcomes by their attempts, those that take an intent back among them.

    `run` writes one, and takes it out.
    """

    def __init__(self, run: Callable[[Finish], Awaitable[None]]) -> None:
        super().__init__()
        self._run = run
        self.open(anyio.Event())

    def open(self, closing: anyio.Event) -> None:
        """Belong to another event loop from now on; `closing` says that the ledger closes."""
        self._closing = closing
        self._turn = anyio.Lock()
        self._tries = 0
        self._failure: LedgerError | None = None

    async def write(self) -> None:
        """Write them all; raises LedgerError where one cannot be written."""
        before = self._tries
        async with self._turn:
            if self._tries > before and self._failure is not None:
                raise LedgerError(*self._failure.args) from self._failure
            self._tries += 1
            self._failure = None
            for command in tuple(self.values()):
                if self._closing.is_set():
                    return  # which writes what is left
                try:
                    await self._run(command)
                except LedgerError as error:
                    self._failure = error
                    raise
