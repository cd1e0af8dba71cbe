"""The lists of a ledger, page by page: a command reads one page, and says where the next begins.

Rule: other commands run between two pages.  A row that changes meanwhile may be listed or not; any
other is listed once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeVar

from .commands import LedgerCommand
from .reader import Page


class SomeOfMany(Protocol):
    """A page of anything."""

    @property
    def last(self) -> int | None:
        """The id to go on from; None if there are no more."""
        ...


P = TypeVar("P", bound=SomeOfMany)
T = TypeVar("T")


class RunsCommands(Protocol):
    """A ledger, as far as it is needed here."""

    async def run(self, command: LedgerCommand[T]) -> T:
        """Return the answer to a command."""
        ...


async def pages_of(
    ledger: RunsCommands, page_after: Callable[[int], LedgerCommand[P]], *, after: int = 0
) -> AsyncIterator[P]:
    """Yield the pages of a list beyond the id `after`; `page_after` makes the command for one."""
    last: int | None = after
    while last is not None:
        page = await ledger.run(page_after(last))
        yield page
        last = page.last


async def rows_of(
    ledger: RunsCommands, page_after: Callable[[int], LedgerCommand[Page[T]]]
) -> AsyncIterator[T]:
    """Yield all rows of a list."""
    async for page in pages_of(ledger, page_after):
        for row in page.rows:
            yield row
