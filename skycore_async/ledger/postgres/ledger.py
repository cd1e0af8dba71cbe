"""A ledger in PostgreSQL, which many processes keep together.

Strategy: each process has one connection, used by one worker thread at a time through
`GroupCommit`: what waits together is written together.  While the ledger is open it has a session,
which renews its lease every few seconds.

Rules:

* If a session's lease expires, what it was sending is in doubt; any other session notices.  If the
  session was only late, its outcomes count all the same.
* A lost connection is made again, and what was being written is written again, as every command
  can be repeated.  If that takes too long, the command raises LedgerError.  An outcome, and a
  command that takes back an intent, is then tried again for as long as the ledger is open.
* Nothing is looked up or begun while an outcome could not be written: so after a crash no more
  messages are in doubt than were in flight.
* Queries about many messages run beside the writer, over a connection that reads.
* Another process may change what is waited for, so waiters look again at intervals.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar, cast

import anyio
import anyio.to_thread
import psycopg

from ...errors import KeyConflict, LedgerError
from ...postgres.collisions import COLLIDED, MOST, transact
from ...postgres.connection import (
    Database,
    advised,
    cleaned,
    closed_on_error,
    describe_error,
    write_failure,
)
from ...postgres.pooler_check import UnfitSession
from ...postgres.schema import Connection
from ...runtime.background import BackgroundTasks
from ...runtime.logs import log
from ...runtime.secret import Secret
from ..commands import (
    WITHDRAWN,
    Begin,
    Finish,
    KeepAlive,
    LedgerCommand,
    Lookup,
    PendingCommand,
    Postponed,
    Query,
    withdrawal,
)
from ..group_commit import GroupCommit
from ..model import Attempt, MessageState, Submission
from ..opening import OpenableLedger
from ..opt_outs import OptOutRule, check_rule
from ..reader import Unreadable
from ..rules import UnderWay
from ..setting_checks import check_seconds
from ..settlement import SETTLE_WITHIN
from .fences import FencedExecutor
from .pruning import end_pruning, wait_for_writers
from .reading_connection import ConnectionBeside
from .session import LedgerSession, may_hear_a_stop
from .settling_lock import SettlingLock
from .shared_ledger import SharedLedger
from .unwritten import UnwrittenOutcomes

T = TypeVar("T")

LEASE: Final = 30.0  # seconds for which a session is alive after each renewal
PATIENCE: Final = 5.0  # seconds for which reconnecting is tried; a receiver waits 8
_BEATS: Final = 3  # renewals in the time of a lease
_PAUSE: Final = 0.1  # seconds between attempts to connect


class PostgresLedger(SharedLedger, OpenableLedger):
    """Remember every message and notification in the PostgreSQL database `dsn`.

    Open it with `async with`, or with `open` and `aclose`; any number of processes can.  `skycore
    cluster migrate` makes its tables.  A call returns when what it wrote is on the disk of the
    server.  A postback settles a doubt within `settle_within` seconds of its intent.  Messages of
    a process that gave no sign of life for `lease` seconds are in doubt.  After a lost connection,
    reconnecting is tried for `patience` seconds.  For `opt_out_rule` see `SQLiteLedger`.  `clock`
    returns seconds since 1970, and `sleep` blocks a worker thread for some seconds.

    Raises ConfigurationError for an invalid DSN, and LedgerError if the database cannot be
    reached, lacks the tables, or cannot be read or written.
    """

    def __init__(
        self,
        dsn: str,
        *,
        settle_within: float = SETTLE_WITHIN,
        lease: float = LEASE,
        patience: float = PATIENCE,
        opt_out_rule: OptOutRule | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        given, dsn = Secret(dsn), ""  # no frame of a traceback may have its password
        super().__init__()
        self._sleep = sleep
        self._database = Database(given.reveal())
        self.name = self._database.name
        self._lease, self._patience = lease, patience
        check_seconds(settle_within=settle_within, lease=lease, patience=patience)
        check_rule(opt_out_rule)
        self._executor = functools.partial(
            FencedExecutor, clock=clock, settle_within=settle_within, opt_out_rule=opt_out_rule
        )
        self._turn = threading.Lock()  # to open or to close it
        self._closing = anyio.Event()
        self._connection: Connection | None = None
        self._session = LedgerSession(lease, name=self.name)
        self._numbers = itertools.count(1)
        self._under_way: dict[str, Begin] = {}  # the commands that began them, by key
        self._unwritten = UnwrittenOutcomes(self.run)
        self._is_unclear = False  # whether a broken transaction may have been committed

    async def _begin(self, tasks: BackgroundTasks) -> None:
        """Connect, and put in doubt what no live process is sending."""
        self._reading = ConnectionBeside(self._database)
        await anyio.to_thread.run_sync(self._open_in_turn)
        self._closing = anyio.Event()
        tasks.at_closing.add(self._closing.set)
        self._under_way.clear()
        self._unwritten.open(self._closing)
        tasks.start(self._stay_alive)

    async def run(self, command: LedgerCommand[T]) -> T:
        """Run a command, and return its result once what it wrote is on the disk of the server."""
        commits = self._commits()
        if self._unwritten and type(command) in {Lookup, Begin}:
            await self._unwritten.write()
        if isinstance(command, Begin):
            return cast("T", await self._run_begin(commits, command))
        if isinstance(command, Finish):
            await self._run_finish(commits, command)
            return cast("T", None)
        if isinstance(command, Query) and command.is_long:
            with suppress(Unreadable):
                return await self._reading.answer(command)
        return await commits.run(command)

    async def _run_begin(self, commits: GroupCommit, command: Begin) -> Submission | None:
        intent = command.intent
        if (begun := self._under_way.get(intent.key)) is not None:
            # It is being sent from here, whatever state other processes have given it.
            if begun.intent.content == intent.content:
                raise UnderWay
            raise KeyConflict(intent.key, state=MessageState.SENDING)
        # The number names the attempt in all that is written of it.
        attempt = Attempt(session=self._session.id, number=next(self._numbers))
        command = command.as_attempt(attempt, command.fence)
        self._under_way[intent.key] = command
        try:
            known = await commits.run(command)
        except BaseException as error:
            # If it is under way elsewhere, nothing has changed for those who wait for it here.
            self._not_begun(intent.key, is_change=not isinstance(error, UnderWay))
            raise
        if known is not None:
            self._not_begun(intent.key)
        return known

    def _not_begun(self, key: str, *, is_change: bool = True) -> None:
        self._under_way.pop(key, None)
        if is_change:
            self.waiters.notify({key})

    async def _run_finish(self, commits: GroupCommit, command: Finish) -> None:
        if command.attempt is None:
            begun, at = self._under_way.get(command.key), command.submission.started_at
            if at is not None and (begun is None or begun.intent.started_at != at):
                await commits.run(command)  # it was begun before the ledger was opened
                return
            if begun is None:
                return  # it was written by now
            # From here on the outcome belongs to that attempt, whenever it is written.
            command = begun.ended(command.submission)
        attempt = command.attempt
        try:
            await commits.run(command)
        except LedgerError as error:
            self._unwritten[attempt] = command
            raise Postponed(*error.args) from error
        self._unwritten.pop(attempt, None)
        begun = self._under_way.get(command.key)
        if begun is not None and begun.attempt == attempt:
            del self._under_way[command.key]

    async def _stay_alive(self) -> None:
        while True:
            with anyio.move_on_after(self._lease / _BEATS):
                await self._closing.wait()
                return
            try:
                await self.run(KeepAlive())
                await self._unwritten.write()
            except LedgerError as error:
                log.warning("%s", error)

    @asynccontextmanager
    async def settling(self) -> AsyncGenerator[None]:
        """Reserve the settling of doubts among all processes, for as long as this is entered."""
        async with super().settling():
            lock = SettlingLock(self._database)
            try:
                await lock.take()
                yield
            finally:
                await lock.release()

    async def _wait_for_others(self) -> None:
        await anyio.to_thread.run_sync(wait_for_writers, self._database, self._sleep)

    async def _end_pruning(self, before: float) -> None:
        await anyio.to_thread.run_sync(end_pruning, self._database, before)

    # All below runs in a thread.

    def _open_in_turn(self) -> None:
        with self._turn:
            self._open()

    def _open(self) -> None:
        connection = self._database.open()
        session = LedgerSession(self._lease, name=self.name)
        with closed_on_error(connection):
            try:
                session.begin(connection)
                transact(connection, lambda: self._executor(connection).interrupt())
            except psycopg.Error as error:
                said = f"{self._database.name}: {advised(error)}"
                raise LedgerError(said) from cleaned(error)
        self._connection, self._session = connection, session

    def _commit(self, group: Sequence[PendingCommand]) -> set[str]:
        """Run commands in one transaction; if they fail, keep those that take an intent back."""
        self._is_unclear = False
        try:
            touched = self._commit_in_time(group)
        except Exception as error:
            for pending in group:  # their callers have left, and get no error
                if isinstance(back := pending.command, Finish) and back.submission is WITHDRAWN:
                    self._unwritten[back.attempt] = back
            self._withdraw(group)
            self._session.attempts.failed(group, self._unwritten)
            if self._is_unclear:  # each is taken back, so none may be tried alone
                raise LedgerError(str(self._explain(error))) from error
            raise
        self._withdraw([pending for pending in group if pending.error is not None])
        self._session.attempts.committed(group, self._unwritten)
        return touched

    def _commit_in_time(self, group: Sequence[PendingCommand]) -> set[str]:
        """Run commands in one transaction, repeatedly until it is known how it ended."""
        until = time.monotonic() + self._patience
        for collisions in itertools.count():
            try:
                return self._transact(self._connected(until), group)
            except COLLIDED:
                if collisions == MOST:
                    raise
            except psycopg.OperationalError:
                if self._connection is None or not self._connection.closed:
                    raise
                self._connection, self._is_unclear = None, True
        raise AssertionError  # pragma: no cover - the loop has no end

    def _withdraw(self, group: Sequence[PendingCommand]) -> None:
        """Take back, as soon as possible, what callers are told has not begun, and may have."""
        for pending in group if self._is_unclear else ():
            if back := withdrawal(pending.command, None):
                self._unwritten[back.attempt] = back

    def _transact(self, connection: Connection, group: Sequence[PendingCommand]) -> set[str]:
        executor = self._executor(connection, refusal=self._session.refusal)
        begins = self._session.attempts.add(group)
        try:
            with self._session.transaction(connection):
                if any(isinstance(pending.command, KeepAlive) for pending in group):
                    self._session.stay_alive(connection)
                # If unclear, write as well, so that a repetition also waits for a standby.
                elif begins or may_hear_a_stop(group) or self._is_unclear:
                    self._session.write(connection)
                executor.run(group)
        except UnfitSession:
            connection.close()  # the next one is set up anew
            raise
        return executor.touched

    def _connected(self, until: float) -> Connection:
        """Return the connection, made again if it was lost; LedgerError if that fails."""
        while self._connection is None or self._connection.closed:
            try:
                connection = self._database.connect_again()
                with closed_on_error(connection):
                    self._session.compare(connection)
                self._connection = connection
            except psycopg.OperationalError as error:
                if time.monotonic() >= until:
                    raise LedgerError(
                        f"{self._database.name} was lost, and cannot be reached again:"
                        f" {describe_error(error)}"
                    ) from cleaned(error)
                self._sleep(_PAUSE)
        return self._connection

    def _explain(self, error: Exception) -> Exception:
        return write_failure(self._database.name, error)

    def _close(self) -> None:
        self._reading.close()
        with self._turn:
            self._leave()

    def _leave(self) -> None:
        if self._unwritten:
            with suppress(LedgerError, psycopg.Error):  # each has raised this before
                self._commit([PendingCommand(command) for command in self._unwritten.values()])
                self._unwritten.clear()
        if self._connection is not None:
            with suppress(psycopg.Error):  # other sessions will put in doubt what is under way
                executor = self._executor(self._connection)
                self._session.end(self._connection, executor.interrupt)
            self._connection.close()
            self._connection = None
