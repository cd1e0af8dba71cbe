"""Who posts postbacks: one task, which waits for all that are to be posted."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import anyio
import anyio.abc

from .provider import Posted


class Postman:
    """Has postbacks posted when their times have come."""

    def __init__(self, now: Callable[[], float], posted: Iterable[Posted]) -> None:
        self._now = now
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
        self, group: anyio.abc.TaskGroup, post: Callable[[Posted], Coroutine[Any, Any, None]]
    ) -> None:
        """Post each by a task of a group, until that is cancelled."""
        while True:
            wait = self._line[0][0] - self._now() if self._line else math.inf
            if wait > 0:
                with anyio.move_on_after(wait):
                    await self._comes_first.wait()
                self._comes_first = anyio.Event()
            while self._line and self._line[0][0] <= self._now():
                group.start_soon(post, heapq.heappop(self._line)[2])
