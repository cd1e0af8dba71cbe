"""The outcomes that a ledger in PostgreSQL could not write yet.

Strategy: a caller that looks up or begins a message writes them first, and so does each renewal of
the session.

Rules:

* Nothing is begun while there is one: so after a crash no more messages are in doubt than were in
  flight.  Nothing is looked up, either, as it might seem under way although it has ended.
* One task at a time tries to write them.  Of the callers that wait for it, the first tries again,
  and the others get the error of that: nobody waits long for a database that is away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ...errors import LedgerError
from ..commands import Finish
from ..model import Attempt


class UnwrittenOutcomes(dict[Attempt | None, Finish]):
    """Outcomes by their attempts, including those that take an intent back.

    `run` writes an outcome, and removes it from here.
    """

    def __init__(self, run: Callable[[Finish], Awaitable[None]]) -> None:
        super().__init__()
        self._run = run
        self.open(anyio.Event())

    def open(self, closing: anyio.Event) -> None:
        """Serve another event loop from now on; `closing` is set when the ledger closes."""
        self._closing = closing
        self._turn = anyio.Lock()
        self._tries = 0
        self._failure: LedgerError | None = None

    async def write(self) -> None:
        """Write them all; raises LedgerError if one cannot be written."""
        before = self._tries
        async with self._turn:
            if self._tries > before and self._failure is not None:
                raise LedgerError(*self._failure.args) from self._failure
            self._tries += 1
            self._failure = None
            for command in tuple(self.values()):
                if self._closing.is_set():
                    return  # closing writes what is left
                try:
                    await self._run(command)
                except LedgerError as error:
                    self._failure = error
                    raise
