"""Posts postbacks: one task, which waits for the next that is due."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

import anyio
import anyio.abc

from .provider import Posted

_TOGETHER: Final = 1.0  # seconds in which postbacks are due that come in one body


class Postman:
    """Has postbacks posted when their times have come."""

    def __init__(
        self, now: Callable[[], float], posted: Iterable[Posted], *, bundles: bool
    ) -> None:
        self._now = now
        self._bundles = bundles
        self._count = itertools.count()
        self._line = [(each.at, next(self._count), each) for each in posted]
        heapq.heapify(self._line)
        self._comes_first = anyio.Event()

    def add(self, posted: Posted) -> None:
        """Have one posted, too."""
        heapq.heappush(self._line, (posted.at, next(self._count), posted))
        if self._line[0][2] is posted:
            self._comes_first.set()

    async def deliver(
        self,
        group: anyio.abc.TaskGroup,
        post: Callable[[Sequence[Posted]], Coroutine[Any, Any, None]],
    ) -> None:
        """Post each, or some together, by a task of a group, until that is cancelled."""
        while True:
            wait = self._line[0][0] - self._now() if self._line else math.inf
            if wait > 0:
                with anyio.move_on_after(wait):
                    await self._comes_first.wait()
                self._comes_first = anyio.Event()
            while self._line and self._line[0][0] <= self._now():
                group.start_soon(post, self._next())

    def _next(self) -> list[Posted]:
        """Take the next postback, and those that come in one body with it."""
        first = heapq.heappop(self._line)[2]
        if not self._bundles or first.postback is None:
            return [first]
        until = self._now() + _TOGETHER
        others = [each for each in self._line if each[0] <= until and each[2].postback]
        self._line = [each for each in self._line if each not in others]
        heapq.heapify(self._line)
        return [first, *(each for _, _, each in sorted(others))]
