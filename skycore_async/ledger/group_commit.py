"""Group commit: those who wait together share one transaction.

Strategy: a step waits in line; one task takes the whole line, runs it in a
worker thread inside one transaction, and wakes everyone once that is durable.
While it does, the next line forms.  So each commit carries as many steps as
there are callers, however slow the disk.

Rules:

* A step is its caller's to lose: one that raises what it is meant to raise has
  written nothing, and costs the others nothing.
* Where the transaction itself fails, each of its steps is tried alone, so that
  only those that cannot be written fail.
* A cancelled caller's step is written all the same; but where it began a message,
  which nobody is left to send, that is taken back.
* Nobody is told that a step is durable by the mere end of waiting: where the
  thread could not begin, or the event loop ends, it is an error.
* The line is as long as there are callers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import anyio
import anyio.to_thread

from ..errors import LedgerError, SkycoreError
from ..runtime.background import BackgroundTasks
from .commands import LedgerCommand, UnderWay, withdrawal

_MOST: Final = 1000  # steps in a transaction, so that nobody waits long


class PendingCommand:
    """A step in line, and what came of it."""

    __slots__ = ("error", "is_left", "result", "step")

    def __init__(self, step: LedgerCommand) -> None:
        self.step = step
        self.result: Any = None
        self.error: Exception | None = None
        self.is_left = False

    def take(self, store: object) -> None:
        """Take the step, and keep what comes of it."""
        self.error = None
        try:
            self.result = self.step.take(store)
        except (SkycoreError, UnderWay) as error:
            self.error = error


class _Group:
    """The steps of one transaction; `ended` is set after it, `is_told` if each has its answer.

    One event for them all, as an event for each would cost as much as a statement.
    """

    __slots__ = ("ended", "is_told", "steps")

    def __init__(self) -> None:
        self.steps: list[PendingCommand] = []
        self.ended = anyio.Event()
        self.is_told = False


class GroupCommit:
    """Take steps in groups, each by one call of `commit` in a thread, as tasks of `owner`'s.

    `commit` takes all of a group's steps in one transaction and gives what they
    touched, which `tell` is told once it is durable; where it raises, none of
    them was written.  It raises LedgerError where that would befall any other
    step, too.  `explain` makes of another error what is raised to the caller, and
    `name` is what errors call the ledger.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[PendingCommand]], set[str]],
        owner: BackgroundTasks,
        *,
        tell: Callable[[set[str]], None],
        explain: Callable[[Exception], Exception],
        name: str,
    ) -> None:
        self._commit = commit
        self._owner = owner
        self._tell = tell
        self._explain = explain
        self._name = name
        self._line: deque[_Group] = deque()
        self._is_running = False

    async def take(self, step: LedgerCommand) -> Any:
        """Take a step, and return when it is durable.

        Raises what the step raises, and LedgerError where it could not be written.
        """
        self._owner.check()
        waiting = PendingCommand(step)
        group = self._put(waiting)
        try:
            await group.ended.wait()
        except BaseException:
            waiting.is_left = True
            if group.is_told and not self._owner.closed:
                self._take_back(waiting)
            raise
        if not group.is_told:
            raise LedgerError(
                f"{self._name}: its thread did not end in order, and may not have written"
            )
        if waiting.error is not None:
            raise waiting.error
        return waiting.result

    def _put(self, waiting: PendingCommand) -> _Group:
        """Put a step in line, and return the group that it is in."""
        if not self._line or len(self._line[-1].steps) >= _MOST:
            self._line.append(_Group())
        group = self._line[-1]
        group.steps.append(waiting)
        if not self._is_running:
            self._is_running = True
            self._owner.start(self._run_all)
        return group

    def _take_back(self, waiting: PendingCommand) -> None:
        if waiting.error is None and (back := withdrawal(waiting.step, waiting.result)):
            self._put(PendingCommand(back))

    async def _run_all(self) -> None:
        try:
            while self._line:
                group = self._line.popleft()
                try:
                    touched = await anyio.to_thread.run_sync(self._write, group.steps)
                    group.is_told = True
                finally:
                    group.ended.set()
                self._tell(touched)
                for waiting in group.steps:
                    if waiting.is_left:
                        self._take_back(waiting)
        finally:
            self._is_running = False
            while self._line:
                self._line.popleft().ended.set()

    def _write(self, group: list[PendingCommand]) -> set[str]:
        try:
            return self._commit(group)
        except LedgerError as error:
            for waiting in group:
                waiting.error = LedgerError(*error.args)
                waiting.error.__cause__ = error
            return set()
        except Exception:  # noqa: BLE001 - each of them is told by itself what is wrong
            return set().union(*map(self._alone, group))

    def _alone(self, waiting: PendingCommand) -> set[str]:
        try:
            return self._commit([waiting])
        except Exception as error:  # noqa: BLE001 - it is its caller's
            waiting.error = self._explain(error)
            if waiting.error is not error:
                waiting.error.__cause__ = error
            return set()
