"""A ledger in PostgreSQL, which many processes keep together.

Strategy: each process has one connection, used by one worker thread at a time,
through `GroupCommit`: who waits together is written together.  While it is open it
is a holder, which says every few seconds that it is alive.

Rules:

* What was being sent by a holder that let its time run out is in doubt, which any
  other finds out.  If it was only late, its outcomes count all the same.
* A lost connection is made again, and what was being written is written again:
  every step can be repeated.  Where that takes too long, it is a LedgerError,
  and if it was an outcome, it is tried again for as long as the ledger is open.
  So is taking back an intent, which may have been written all the same.
* Whatever is waited for may be changed by another process, so that who waits also
  looks again from time to time.
"""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import anyio
import anyio.to_thread
import psycopg

from ...errors import KeyConflict, LedgerError
from ...postgres.connection import Database, in_words
from ...postgres.schema import Connection
from ...runtime.background import BackgroundTasks
from ..commands import (
    BaseLedger,
    LedgerCommand,
    Postponed,
    UnderWay,
    Waiters,
    attempt_of,
    withdrawal,
)
from ..group_commit import GroupCommit, PendingCommand
from ..model import SendIntent
from ..settlement import SETTLE_WITHIN
from .store import PostgresStore

_log: Final = logging.getLogger("skycore_async")

LEASE: Final = 30.0  # seconds for which a holder is alive after it said so
PATIENCE: Final = 5.0  # seconds for which a lost connection is tried again; a receiver waits 8
POLL: Final = 0.25  # seconds after which who waits looks again
_BEATS: Final = 3  # words of life in a lease
_PAUSE: Final = 0.1  # seconds between attempts to connect
_COLLISIONS: Final = 10  # deadlocks in a row after which it is no coincidence

_ALIVE: Final = """
INSERT INTO skycore.holders (id, alive_until)
VALUES (%s, clock_timestamp() + %s * interval '1 second')
ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until
"""


class _Shared(BaseLedger):
    """One in which another process changes what is waited for, and gives no news of it."""

    async def _hear(self, news: anyio.Event) -> None:
        with anyio.move_on_after(POLL):
            await news.wait()


class PostgresLedger(_Shared):
    """Remember every message and notification in the PostgreSQL database `dsn`.

    Open it with `async with`, or with `open` and `aclose`; any number of processes
    can.  `skycore cluster migrate` makes its tables.  A call returns when what it
    wrote is on the disk of the server.  A postback settles a doubt within
    `settle_within` seconds of its intent.  Messages of a process that has not been
    heard of for `lease` seconds are in doubt.  A lost connection is tried again for
    `patience` seconds.  `clock` gives seconds since 1970, and `sleep` holds a worker
    thread for some seconds.

    Raises ConfigurationError for what is no DSN, and LedgerError where the database
    cannot be reached, lacks the tables, or cannot be read or written.
    """

    def __init__(
        self,
        dsn: str,
        *,
        settle_within: float = SETTLE_WITHIN,
        lease: float = LEASE,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__()
        self._sleep = sleep
        self._database = Database(dsn)
        self._lease = lease
        self._patience = patience
        self._store = functools.partial(PostgresStore, clock=clock, settle_within=settle_within)
        self._opening = anyio.Lock()
        self._closing = anyio.Event()
        self._connection: Connection | None = None
        self._holder = 0
        self._attempt = itertools.count(1)
        self._under_way: dict[str, LedgerCommand] = {}  # how each was begun, by its key
        self._unwritten: dict[int, LedgerCommand] = {}  # outcomes, by their attempts
        self._owner: BackgroundTasks | None = None
        self._commits: GroupCommit | None = None

    async def open(self) -> None:
        """Connect, and take what nobody alive is sending for in doubt."""
        async with self._opening:
            if self._owner is not None:
                self._owner.check()
                return
            await anyio.to_thread.run_sync(self._open)
            self._owner = BackgroundTasks(self._close, of="ledger")
            self._commits = GroupCommit(
                self._commit,
                self._owner,
                tell=self._news.tell,
                explain=self._explain,
                name=self._database.name,
            )
            self._owner.start(self._stay_alive)

    async def aclose(self) -> None:
        """Write what waits to be written, and leave."""
        if self._owner is not None:
            self._closing.set()
            await self._owner.close()
            self._news.end()

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed yet."""
        return self._owner is not None and not self._owner.closed

    def fenced(self, *, chunk: int, epoch: int) -> BaseLedger:
        """Return a view that begins messages while a chunk has this epoch and its campaign runs.

        It raises Superseded where that is not so.
        """
        return _Fenced(self, self._news, (chunk, epoch))

    async def take(self, step: LedgerCommand) -> Any:
        """Take a step, and return when what it wrote is on the disk of the server."""
        if self._commits is None or self._owner is None:
            raise LedgerError(
                f"{self._database.name} is not open: use `async with`, or call"
                " `await ledger.open()`"
            )
        self._owner.check()
        if step.name == "begin":
            return await self._take_begin(self._commits, step)
        if step.name == "finish":
            return await self._take_finish(self._commits, step)
        return await self._commits.take(step)

    async def _take_begin(self, commits: GroupCommit, step: LedgerCommand) -> Any:
        intent: SendIntent = step.arguments[0]
        if (begun := self._under_way.get(intent.key)) is not None:
            # Whatever the others take it for: it is being sent from here.
            same = begun.arguments[0].content == intent.content
            raise UnderWay if same else KeyConflict(intent.key)
        # An attempt is known by its number from the first word about it to the last.
        step.settings["attempt"] = next(self._attempt)
        self._under_way[intent.key] = step
        try:
            known = await commits.take(step)
        except BaseException as error:
            # That it is under way elsewhere is no news to who waits for it here.
            self._not_begun(intent.key, is_news=not isinstance(error, UnderWay))
            raise
        if known is not None:
            self._not_begun(intent.key)
        return known

    def _not_begun(self, key: str, *, is_news: bool = True) -> None:
        del self._under_way[key]
        if is_news:
            self._news.tell({key})

    async def _take_finish(self, commits: GroupCommit, step: LedgerCommand) -> None:
        key: str = step.arguments[0]
        if not step.settings:
            if (begun := self._under_way.get(key)) is None:
                return  # it was written by now
            step.settings = attempt_of(begun)
        # From here on it is of that attempt, whenever it is written.
        attempt = step.settings["attempt"]
        try:
            await commits.take(step)
        except LedgerError as error:
            self._unwritten[attempt] = step
            raise Postponed(*error.args) from error
        self._unwritten.pop(attempt, None)
        begun = self._under_way.get(key)
        if begun is not None and begun.settings["attempt"] == attempt:
            del self._under_way[key]

    async def _stay_alive(self) -> None:
        while not self._closing.is_set():
            with anyio.move_on_after(self._lease / _BEATS):
                await self._closing.wait()
                return
            try:
                await self.take(LedgerCommand("alive"))
                for step in tuple(self._unwritten.values()):
                    await self.take(step)
            except LedgerError as error:
                _log.warning("%s", error)

    # From here on in a thread.

    def _open(self) -> None:
        connection = self._database.open()
        try:
            (self._holder,) = connection.execute(
                "INSERT INTO skycore.holders (alive_until) VALUES (clock_timestamp()"
                " + %s * interval '1 second') RETURNING id",
                (self._lease,),
            ).fetchone() or (0,)
            with connection.transaction():
                store = self._store(connection, holder=self._holder)
                store.doubt_the_forsaken()
                store.settle_all()
        except psycopg.Error as error:
            connection.close()
            raise LedgerError(f"{self._database.name}: {in_words(error)}") from error
        self._connection = connection

    def _commit(self, group: Sequence[PendingCommand]) -> set[str]:
        """Take steps in one transaction, again until its end is known."""
        until, is_unclear = time.monotonic() + self._patience, False
        for collisions in itertools.count():
            try:
                return self._transact(self._connected(until), group)
            except LedgerError:
                if is_unclear:
                    self._withdraw(group)
                raise
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                if collisions == _COLLISIONS:
                    raise
            except psycopg.OperationalError:
                if self._connection is None or not self._connection.closed:
                    raise
                self._connection, is_unclear = None, True
        raise AssertionError  # pragma: no cover - the loop has no end

    def _withdraw(self, group: Sequence[PendingCommand]) -> None:
        """Take back, once it can be, what callers are told was not begun, and may have been."""
        for waiting in group:
            if back := withdrawal(waiting.step, None):
                self._unwritten[back.settings["attempt"]] = back

    def _transact(self, connection: Connection, group: Sequence[PendingCommand]) -> set[str]:
        store = self._store(connection, holder=self._holder)
        with connection.transaction():
            if any(waiting.step.name == "alive" for waiting in group):
                connection.execute(_ALIVE, (self._holder, self._lease))
            store.take(group)
        return store.touched

    def _connected(self, until: float) -> Connection:
        """Return the connection, made again where it was lost; LedgerError where it cannot be."""
        while self._connection is None or self._connection.closed:
            try:
                self._connection = self._database.connect()
            except psycopg.OperationalError as error:
                if time.monotonic() >= until:
                    raise LedgerError(
                        f"{self._database.name} was lost, and cannot be reached again:"
                        f" {in_words(error)}"
                    ) from error
                self._sleep(_PAUSE)
        return self._connection

    def _explain(self, error: Exception) -> Exception:
        if not isinstance(error, psycopg.Error):
            return error
        return LedgerError(f"{self._database.name} could not be written: {in_words(error)}")

    async def _close(self) -> None:
        await anyio.to_thread.run_sync(self._leave)

    def _leave(self) -> None:
        if self._unwritten:
            with suppress(LedgerError, psycopg.Error):  # of each it was told before
                self._commit([PendingCommand(step) for step in self._unwritten.values()])
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.execute(
                    "DELETE FROM skycore.holders WHERE id = %s", (self._holder,)
                )
            self._connection.close()


class _Fenced(_Shared):
    """The same ledger, for as long as a chunk is in one's hands."""

    def __init__(self, ledger: PostgresLedger, news: Waiters, fence: tuple[int, int]) -> None:
        super().__init__(news)
        self._ledger = ledger
        self._fence = fence

    async def take(self, step: LedgerCommand) -> Any:
        """Take a step; one that begins a message only within the fence."""
        if step.name == "begin":
            step.settings["fence"] = self._fence
        return await self._ledger.take(step)

    @property
    def is_open(self) -> bool:
        return self._ledger.is_open

    async def aclose(self) -> None:
        """Leave the ledger open: it is not this view's to close."""
