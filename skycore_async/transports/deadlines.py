"""The deadlines of many exchanges in one asyncio event loop, on one timer.

Strategy: a timer for every exchange is made, kept in order and cancelled, nearly
always for nothing.  Here each is a number in a set, and one timer is set to the
earliest; when it goes off, what has passed is cancelled and it is set anew.

Rules:

* It is a cancellation, of the task inside the `with`, and ends there.  One that
  came from anyone else goes on, as with `asyncio.timeout`.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Self, cast


class Deadlines:
    """Those that run in one event loop."""

    def __init__(self) -> None:
        self.running: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._goes_off = math.inf

    def add(self, deadline: Deadline) -> None:
        """Cancel the task of `deadline` when its time comes, if it is still among `running`."""
        self.running.add(deadline)
        if deadline.when < self._goes_off:
            self._set(deadline.when)

    def stop(self) -> None:
        """Let the timer go, where nothing is left to be cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._goes_off = None, math.inf

    def _set(self, when: float) -> None:
        self.stop()
        self._timer = asyncio.get_running_loop().call_at(when, self._go_off)
        self._goes_off = when

    def _go_off(self) -> None:
        self.stop()
        now = asyncio.get_running_loop().time()
        for deadline in [d for d in self.running if d.when <= now]:
            self.running.discard(deadline)
            deadline.cancel()
        if self.running:
            self._set(min(d.when for d in self.running))


class Deadline:
    """Cancel what is inside `with` when it takes more than `timeout` seconds."""

    __slots__ = ("_cancelled_before", "_deadlines", "_task", "has_passed", "when")

    def __init__(self, deadlines: Deadlines, timeout: float) -> None:
        self._deadlines = deadlines
        self.when = asyncio.get_running_loop().time() + timeout
        self.has_passed = False

    def __enter__(self) -> Self:
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._cancelled_before = self._task.cancelling()
        self._deadlines.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._deadlines.running.discard(self)
        return (
            self.has_passed
            and self._task.uncancel() <= self._cancelled_before
            and kind is asyncio.CancelledError
        )

    def cancel(self) -> None:
        """Cancel what is inside, as its time has come."""
        self.has_passed = True
        self._task.cancel()
