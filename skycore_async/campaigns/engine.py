"""The port to the engine that hands chunks to workers.

Rule: what an engine says is a hint, never the truth.  It may lose a chunk, hand one
out twice, or take a dead worker for alive: the row in `chunks` decides who has a
chunk, and every few seconds any worker puts back into the queue what is due by it.
"""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import Any, Protocol, Self

import attrs


@attrs.frozen
class Ticket:
    """The word of an engine that a chunk is to be looked at; `job` is its own business."""

    chunk: int
    job: Any = attrs.field(default=None, repr=False)


class EngineError(Exception):
    """The engine cannot be reached, or did not understand; another try may succeed."""


class Engine(Protocol):
    """Hands out the ids of chunks to any number of workers; all but closing raise EngineError."""

    async def offer(self, chunks: Collection[int]) -> None:
        """Put chunks into the queue; one that waits there already is no matter."""
        ...

    async def fetch(self) -> Ticket | None:
        """Return the next chunk, None where there is none now."""
        ...

    async def release(self, ticket: Ticket) -> None:
        """Be done with a ticket, whatever became of its chunk."""
        ...

    async def tend(self) -> None:
        """Say that this worker is alive, and clear away what dead ones had in hand."""
        ...

    async def __aenter__(self) -> Self:
        """Reach the engine."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the engine."""
        ...
