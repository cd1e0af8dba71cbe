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
from types import TracebackType
from typing import Self, cast


class Deadlines:
    """Make what cancels a task that takes too long; all in one event loop."""

    def __init__(self) -> None:
        self._running: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def after(self, timeout: float) -> Deadline:
        """Give what `timeout` seconds from now cancels the task that is inside it."""
        return Deadline(self, asyncio.get_running_loop().time() + timeout)

    def stop(self) -> None:
        """Let the timer go, where nothing is left to be cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def add(self, deadline: Deadline) -> None:
        """Cancel the task of `deadline` when its time comes."""
        self._running.add(deadline)
        if self._timer is None or deadline.when < self._timer.when():
            self._set(deadline.when)

    def remove(self, deadline: Deadline) -> None:
        """Cancel nothing any more; the timer finds that out when it goes off."""
        self._running.discard(deadline)

    def _set(self, when: float) -> None:
        self.stop()
        self._timer = asyncio.get_running_loop().call_at(when, self._go_off)

    def _go_off(self) -> None:
        now = asyncio.get_running_loop().time()
        for deadline in [d for d in self._running if d.when <= now]:
            self._running.discard(deadline)
            deadline.cancel()
        self._timer = None
        if self._running:
            self._set(min(d.when for d in self._running))


class Deadline:
    """Of one task: at `when`, by the event loop's clock, what is inside `with` is cancelled."""

    def __init__(self, deadlines: Deadlines, when: float) -> None:
        self._deadlines = deadlines
        self.when = when
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
        self._deadlines.remove(self)
        return (
            self.has_passed
            and self._task.uncancel() <= self._cancelled_before
            and kind is asyncio.CancelledError
        )

    def cancel(self) -> None:
        """Cancel what is inside, as its time has come."""
        self.has_passed = True
        self._task.cancel()
