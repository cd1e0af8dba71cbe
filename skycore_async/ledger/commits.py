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
* A cancelled caller's step is written all the same.
* Nobody is told that a step is durable by the mere end of waiting: where the
  thread could not begin, or the event loop ends, it is an error.
* The line is as long as there are callers.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar, cast

import anyio
import anyio.to_thread

from ..errors import LedgerError, SkycoreError
from ..owner import TaskOwner
from .reading import Connection
from .store import Store, UnderWay

T = TypeVar("T")

_MOST: Final = 1000  # steps in a transaction, so that nobody waits long


class _Waiting:
    """A step in line, and what came of it."""

    __slots__ = ("error", "result", "step")

    def __init__(self, step: Callable[[Store], Any]) -> None:
        self.step = step
        self.result: Any = None
        self.error: Exception | None = None

    def take(self, store: Store) -> None:
        try:
            self.result = self.step(store)
        except (SkycoreError, UnderWay) as error:
            self.error = error


class _Group:
    """The steps of one transaction; `ended` is set after it, `is_told` if each has its answer.

    One event for them all, as an event for each would cost as much as a statement.
    """

    __slots__ = ("ended", "is_told", "steps")

    def __init__(self) -> None:
        self.steps: list[_Waiting] = []
        self.ended = anyio.Event()
        self.is_told = False


class Commits:
    """Run steps over `store` in transactions on `connection`, as tasks of `owner`'s.

    `tell` is given what the steps of a transaction have touched, once it is durable.
    `name` is what errors call the ledger.
    """

    def __init__(
        self,
        connection: Connection,
        store: Store,
        owner: TaskOwner,
        *,
        tell: Callable[[set[str]], None],
        name: str,
    ) -> None:
        self._connection = connection
        self._store = store
        self._owner = owner
        self._tell = tell
        self._name = name
        self._line: deque[_Group] = deque()
        self._is_running = False

    async def run(self, step: Callable[[Store], T]) -> T:
        """Run a step, and return when it is durable.

        Raises what the step raises, and LedgerError where it could not be written.
        """
        self._owner.check()
        waiting = _Waiting(step)
        group = self._last()
        group.steps.append(waiting)
        if not self._is_running:
            self._is_running = True
            self._owner.start(self._run_all)
        await group.ended.wait()
        if not group.is_told:
            raise LedgerError(
                f"{self._name}: its thread did not end in order, and may not have written"
            )
        if waiting.error is not None:
            raise waiting.error
        return cast("T", waiting.result)

    def _last(self) -> _Group:
        """Give the group that is last in line and has room."""
        if not self._line or len(self._line[-1].steps) >= _MOST:
            self._line.append(_Group())
        return self._line[-1]

    async def _run_all(self) -> None:
        try:
            while self._line:
                group = self._line.popleft()
                try:
                    touched = await anyio.to_thread.run_sync(self._transact, group.steps)
                    group.is_told = True
                finally:
                    group.ended.set()
                self._tell(touched)
        finally:
            self._is_running = False
            while self._line:
                self._line.popleft().ended.set()

    def _transact(self, group: list[_Waiting]) -> set[str]:
        try:
            self._commit(group)
        except Exception:  # noqa: BLE001 - each of them is told by itself what is wrong
            self._store.touched.clear()
            for waiting in group:
                self._alone(waiting)
        touched, self._store.touched = self._store.touched, set()
        return touched

    def _alone(self, waiting: _Waiting) -> None:
        try:
            self._commit([waiting])
        except sqlite3.Error as error:
            waiting.error = LedgerError(
                f"{self._name} could not be written: {error}. What it holds already is safe; it"
                " goes on when its disk has room and can be written to"
            )
            waiting.error.__cause__ = error
        except Exception as error:  # noqa: BLE001 - it is its caller's
            waiting.error = error

    def _commit(self, group: list[_Waiting]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for waiting in group:
                waiting.error = None
                waiting.take(self._store)
            execute("COMMIT")
        except BaseException:
            _roll_back(execute)
            raise


def _roll_back(execute: Callable[[str], object]) -> None:
    with suppress(Exception):  # SQLite rolls back by itself after some errors
        execute("ROLLBACK")
