"""Group commit: callers who wait together share one transaction.

Strategy: commands queue up.  One task takes the whole queue, runs it in a worker thread inside one
transaction, and wakes all callers once that is durable; meanwhile the next queue forms.  So each
commit carries as many commands as there are callers, however slow the disk.

Rules:

* A command that raises what it is meant to raise has written nothing, and the others are written.
* If the transaction itself fails, each of its commands is tried alone, so that only those fail
  that cannot be written.
* The command of a cancelled caller is written all the same.  But if it began a message, which
  nobody is left to send, that is taken back.
* A command is not durable just because the wait is over: if the thread could not begin, or the
  event loop ends, that is an error.
* Nothing bounds the queue but the number of callers.
* The thread is not one of those in which the program's own handlers wait, perhaps for this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import anyio
import anyio.to_thread
import attrs

from ..errors import LedgerError
from ..runtime.background import BackgroundTasks
from ..runtime.signals import Signal, signals
from .commands import LedgerCommand, PendingCommand, withdrawal

T = TypeVar("T")

_MOST: Final = 1000  # commands in a transaction, so that nobody waits long


@attrs.define(eq=False)
class _Group:
    """The commands of one transaction.

    `ended` is set after it, and `is_complete` if each command has its result or error.  All share
    one signal, since an event for each would cost as much as a statement.
    """

    ended: Signal
    commands: list[PendingCommand] = attrs.field(factory=list)
    is_complete: bool = False


class GroupCommit:
    """Run commands in groups, each by one call of `commit` in a thread, as some of `tasks`.

    `commit` runs all commands of a group in one transaction, and returns what they touched; if it
    raises, none of them was written.  It raises LedgerError for what any other command would meet,
    too.  `notify` is called with what was touched, once that is durable.  `explain` turns any
    other error into the one to raise to the caller, and `name` is what errors call the ledger.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[PendingCommand]], set[str]],
        tasks: BackgroundTasks,
        *,
        notify: Callable[[set[str]], None],
        explain: Callable[[Exception], Exception],
        name: str,
    ) -> None:
        self._commit = commit
        self._tasks = tasks
        self._notify = notify
        self._explain = explain
        self._name = name
        self._queue: deque[_Group] = deque()
        self._is_running = False
        self._new_signal = signals()
        self._thread = anyio.CapacityLimiter(1)

    async def run(self, command: LedgerCommand[T]) -> T:
        """Run a command, and return its result once that is durable; not once `tasks` are closed.

        Raises what the command raises, and LedgerError where it could not be written.
        """
        pending = PendingCommand(command)
        group = self._put(pending)
        try:
            await group.ended.wait()
        except BaseException:
            pending.is_abandoned = True
            if group.is_complete and not self._tasks.closed:
                self._take_back(pending)
            raise
        if not group.is_complete:
            raise LedgerError(
                f"{self._name}: its thread did not end in order, and may not have written"
            )
        return pending.outcome(command)

    def _put(self, pending: PendingCommand) -> _Group:
        """Queue a command, and return its group."""
        if not self._queue or len(self._queue[-1].commands) >= _MOST:
            self._queue.append(_Group(self._new_signal()))
        group = self._queue[-1]
        group.commands.append(pending)
        if not self._is_running:
            self._is_running = True
            self._tasks.start(self._run_all)
        return group

    def _take_back(self, pending: PendingCommand) -> None:
        if pending.error is None and (back := withdrawal(pending.command, pending.result)):
            self._put(PendingCommand(back))

    async def _run_all(self) -> None:
        try:
            while self._queue:
                group = self._queue.popleft()
                try:
                    touched = await anyio.to_thread.run_sync(
                        self._write, group.commands, limiter=self._thread
                    )
                    group.is_complete = True
                finally:
                    group.ended.set()
                self._notify(touched)
                for pending in group.commands:
                    if pending.is_abandoned:
                        self._take_back(pending)
        finally:
            self._is_running = False
            while self._queue:
                self._queue.popleft().ended.set()

    def _write(self, group: list[PendingCommand]) -> set[str]:
        try:
            return self._commit(group)
        except LedgerError as error:
            for pending in group:
                pending.error = LedgerError(*error.args)
                pending.error.__cause__ = error
            return set()
        except Exception:  # noqa: BLE001 - each command gets an error of its own
            return set().union(*map(self._alone, group))

    def _alone(self, pending: PendingCommand) -> set[str]:
        try:
            return self._commit([pending])
        except Exception as error:  # noqa: BLE001 - it is its caller's
            pending.error = self._explain(error)
            if pending.error is not error:
                pending.error.__cause__ = error
            return set()
