"""Opening and closing a ledger, whatever becomes of the callers.

Strategy: each opening has background tasks of its own, and opens in one of them.  So a caller who
is cancelled, by an anyio scope or a native `Task.cancel()`, breaks nothing off.  If nobody else
waits, the ledger is closed again.

Rules:

* Whoever calls `open` while the ledger is being opened waits for the same opening.
* A closed ledger can be opened again, also in another event loop.
* To use a ledger that is not open is a mistake of the program: RuntimeError, at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

import anyio
import anyio.to_thread

from ..runtime.background import BackgroundTasks
from .base import BaseLedger
from .commands import PendingCommand
from .group_commit import GroupCommit
from .waiters import Waiters


class Opening:
    """One opening of a ledger: `begin` opens it, and `end` closes what was opened."""

    def __init__(
        self,
        begin: Callable[[BackgroundTasks], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
    ) -> None:
        self.tasks = BackgroundTasks(end, of="ledger")
        self.is_open = False
        self._begin = begin
        self._scope = anyio.CancelScope()
        self._has_ended = anyio.Event()
        self._error: Exception | None = None
        self._waiting = 0
        self._is_taken = False
        self.tasks.start(self._run)

    async def wait(self) -> bool:
        """Wait until it is open, or raise why it cannot be; return False if it was given up."""
        self.tasks.check()
        if self.is_open:
            return True
        self._waiting += 1
        try:
            await self._has_ended.wait()
        except BaseException:
            self._waiting -= 1
            if not (self._waiting or self._is_taken):
                self._give_up()
            raise
        self._waiting -= 1
        if self._error is not None:
            raise self._error
        self._is_taken = self.is_open
        return self.is_open

    def _give_up(self) -> None:
        self._scope.cancel()
        if self.is_open:
            self.tasks.end()

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._begin(self.tasks)
                # A thread that has begun opens it even if all callers have left.
                self.is_open = self._waiting > 0
        except Exception as error:  # noqa: BLE001 - it is for the waiters
            self._error = error
        finally:
            if not self.is_open:
                self.tasks.end()
            self._has_ended.set()


class Openable(ABC):
    """Something to open before use, which is written to in groups; errors call it `name`."""

    name: str
    waiters: Waiters
    _opening: Opening | None = None
    _group_commit: GroupCommit

    async def open(self) -> None:
        """Open it, or wait until another caller has; do nothing if it is open.

        If the caller is cancelled, it stays closed, unless another caller opens it.  Raises
        LedgerError if it cannot be opened.
        """
        is_open = False
        while not is_open:  # an opening that was given up is waited for, and another begun
            while self._opening is not None and self._opening.tasks.closed:
                await self._opening.tasks.close()
                self._opening = None
            if self._opening is None:
                self._opening = Opening(self._begin_all, self._end)
            is_open = await self._opening.wait()

    async def aclose(self) -> None:
        """Write what waits to be written, and close it; do nothing if it is closed."""
        if self._opening is not None:
            await self._opening.tasks.close()
            self.waiters.close()

    @property
    def opening(self) -> object:
        """A different object each time that it is opened; None before the first."""
        return self._opening

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed yet."""
        opening = self._opening
        return opening is not None and opening.is_open and not opening.tasks.closed

    async def _begin_all(self, tasks: BackgroundTasks) -> None:
        await self._begin(tasks)
        self._group_commit = GroupCommit(
            self._commit,
            tasks,
            notify=self.waiters.notify,
            explain=self._explain,
            name=self.name,
        )

    @abstractmethod
    async def _begin(self, tasks: BackgroundTasks) -> None:
        """Open it; `tasks` run what goes on while it is open."""

    @abstractmethod
    def _commit(self, group: Sequence[PendingCommand]) -> set[str]:
        """Run commands in one transaction, in a thread; see `GroupCommit`."""

    @abstractmethod
    def _explain(self, error: Exception) -> Exception:
        """Return what to raise to the caller of a command for an error of the database."""

    @abstractmethod
    def _close(self) -> None:
        """Close what is open, in any thread; do nothing if nothing is."""

    async def _end(self) -> None:
        try:
            await anyio.to_thread.run_sync(self._close)
        except BaseException:
            # The event loop ends, perhaps before a thread could begin: nobody else will close it.
            self._close()
            raise

    def _commits(self) -> GroupCommit:
        """Return its group commit; RuntimeError if it is not open."""
        if self._opening is None or not self._opening.is_open:
            raise RuntimeError(
                f"{self.name} is not open: use `async with`, or call `await ledger.open()`"
            )
        self._opening.tasks.check()
        return self._group_commit


class OpenableLedger(Openable, BaseLedger):
    """A ledger that is opened before it is used."""
