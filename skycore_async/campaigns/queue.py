"""The queue that hands out chunks: the port, and procrastinate behind it.  Runs on asyncio only.

Strategy: a job asks a worker to look at a chunk, no sooner than the chunk may be taken, or to
sweep, which finds such chunks.  procrastinate keeps a job until its time, hands it to one worker,
has one worker sweep each period, and knows which jobs dead workers left.

Rules:

* A job is only a hint.  The queue may lose a job or hand one out twice: the row in `chunks`
  decides, under its lock, who has a chunk and until when.
* So a job is removed as soon as it is handed out, and a dead worker's chunk comes back when the
  lease in its row has ended, by a job made for that time.  The queue's own heartbeats, which
  would hand the job out again, are not used: two clocks would decide who is dead, and one of
  them is lost whenever the tables of the queue are created anew.
* The tables are in a separate schema, `skycore_queue`, created by `migrate`.  Tables of another
  version are created anew instead of migrated: the next sweep fills them again.
* A chunk is in the queue at most once: its id is the job's queueing lock.
* A pooler in between keeps sessions, as the worker's other connections have found; what others
  left in one is discarded.
* Chunks of all campaigns take turns by their numbers, including those already in the queue: a
  small campaign does not wait for the end of a large one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import blake2b
from typing import Any, Final, Protocol, Self

import anyio
import attrs

from ..errors import ConfigurationError, LedgerError
from ..runtime.extras import missing

try:
    from procrastinate import PsycopgConnector, exceptions
    from procrastinate.jobs import Job, Status
    from procrastinate.manager import JobManager
    from procrastinate.schema import SchemaManager
except ImportError as error:
    raise missing("postgres", error) from error

import psycopg
from psycopg import sql

from ..postgres.connection import (
    IS_READ_ONLY,
    Database,
    check_writable,
    cleaned,
    describe_error,
    refusal,
)
from ..postgres.formats import SET_FORMATS
from ..postgres.pooler_check import CLEAN, PROCESS
from ..postgres.row_security import check_visible
from ..postgres.schema import Connection
from .chunks import DueChunk

_SCHEMA: Final = "skycore_queue"
_QUEUE: Final = "skycore"
_CHUNK: Final = "skycore.chunk"
_SWEEP: Final = "skycore.sweep"
_LOCK: Final = 0x534B51  # "SKQ": two that migrate at once do it one after the other
# Seconds to wait for a connection; with more, the pauses between its tries would grow, and workers
# would idle for minutes once a database is back.
_WAIT: Final = 5.0
_STALLED: Final = 60.0  # seconds after which what a silent worker left is cleared away


# The port.


@attrs.frozen(kw_only=True)
class Ticket:
    """What a worker is to do: look at a chunk or, if it is None, sweep: offer chunks due soon."""

    chunk: int | None


class QueueError(LedgerError):
    """The queue cannot be reached, or failed; another try may succeed."""


class ChunkQueue(Protocol):
    """Hands chunks to any number of workers.

    All methods but `__aexit__` raise QueueError, and ConfigurationError if trying again is no use.
    """

    async def offer(self, chunks: Mapping[int, DueChunk]) -> None:
        """Put chunks into the queue, each for its time; a chunk that is there already stays."""
        ...

    async def fetch(self) -> Ticket | None:
        """Return the next ticket, and remove it; None if there is none now."""
        ...

    async def tend(self, period: float) -> None:
        """Say that this worker is alive, and have one worker sweep every `period` seconds."""
        ...

    async def __aenter__(self) -> Self:
        """Reach the queue."""
        ...

    async def __aexit__(self, *_error: object) -> None:
        """Leave the queue."""
        ...


# The tables.


def _digest() -> str:
    return blake2b(SchemaManager.get_schema().encode(), digest_size=8).hexdigest()


def _found(connection: Connection) -> str | None:
    """Return the digest of the present tables, None if there are none."""
    row = connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s",
        (_SCHEMA,),
    ).fetchone()
    return None if row is None else str(row[0])


def migrate(connection: Connection) -> bool:
    """Create the tables of the queue unless those of this version exist; return whether it did.

    Tables of another version are dropped with their jobs, which the next worker's sweep restores.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        if _found(connection) == _digest():
            return False
        connection.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE")
        connection.execute(f"CREATE SCHEMA {_SCHEMA}")
        connection.execute(
            sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(_SCHEMA), _digest())
        )
        connection.execute(f"SET LOCAL search_path TO {_SCHEMA}")
        connection.execute(SchemaManager.get_schema())
    return True


def check(connection: Connection) -> None:
    """Raise LedgerError unless the tables of the queue exist, in this version."""
    check_visible(connection, schema=_SCHEMA)  # a worker would wait for jobs that it cannot see
    found = _found(connection)
    if found != _digest():
        said = "are not in this database" if found is None else "are of another procrastinate"
        raise LedgerError(
            f"the tables of the queue {said}: run `skycore cluster migrate DSN` once"
        )


# procrastinate.


class Procrastinate:
    """Hand out chunks through procrastinate's tables in `database`.

    `clock` returns seconds since 1970.  If the clocks of two machines differ, there is more than
    one sweep in a period, which does no harm.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._name = database.name
        self._connector = PsycopgConnector(
            conninfo=database.conninfo,
            configure=_configure,
            min_size=1,
            max_size=1,
            timeout=_WAIT,
            reconnect_timeout=_WAIT,
            # A prepared statement would outlive the tables that it was made for.
            kwargs={"autocommit": True, "prepare_threshold": None},
        )
        self._jobs = JobManager(self._connector)
        self._clock = clock
        self._worker: int | None = None

    async def __aenter__(self) -> Self:
        try:
            async with self._guarded():
                await self._connector.open_async()
        except QueueError:
            # The pool says only that it got no connection; another one says why, but that of a
            # pooler that has no session left, which says nothing for minutes.
            with anyio.move_on_after(_WAIT):
                await self._connect_once()
            raise
        return self

    async def _connect_once(self) -> None:
        """Connect as the pool does, and raise what it does not tell if that fails."""
        try:
            connect = psycopg.AsyncConnection.connect(self._database.conninfo, autocommit=True)
            async with await connect as connection:
                await _configure(connection)
                return
        except psycopg.Error as error:
            failure = cleaned(error)  # of its frames, which hold the password
        async with self._guarded():
            raise failure

    async def __aexit__(self, *_error: object) -> None:
        with suppress(LedgerError, ConfigurationError):
            async with self._guarded():
                if self._worker is not None:
                    await self._jobs.unregister_worker(self._worker)
        await self._connector.close_async()

    async def offer(self, chunks: Mapping[int, DueChunk]) -> None:
        """Put chunks into the queue, each for its time; a chunk that is there already stays.

        Jobs that dead workers fetched and did not remove are removed.
        """
        async with self._guarded():
            todo = await self._jobs.list_jobs_async(queue=_QUEUE, status="todo")
            waiting = {job.queueing_lock for job in todo}
            jobs = [_look_at(chunk, when) for chunk, when in chunks.items()]
            if new := [job for job in jobs if job.queueing_lock not in waiting]:
                # Another worker may sweep at the same moment: this offers nothing then, and the
                # next sweep offers the rest.
                with _waiting_once():
                    await self._jobs.batch_defer_jobs_async(new)
            left = await self._jobs.get_stalled_jobs(
                queue=_QUEUE, seconds_since_heartbeat=_STALLED
            )
            for job in left:
                with suppress(exceptions.ConnectorException):
                    await self._remove(job)
            await self._jobs.prune_stalled_workers(_STALLED)

    async def fetch(self) -> Ticket | None:
        """Return the next ticket, and remove it; None if there is none now."""
        if self._worker is None:
            return None
        async with self._guarded():
            job = await self._jobs.fetch_job([_QUEUE], self._worker)
            if job is None:
                return None
            await self._remove(job)
        chunk = job.task_kwargs.get("chunk")
        return Ticket(chunk=chunk if isinstance(chunk, int) else None)

    async def tend(self, period: float) -> None:
        """Say that this worker is alive, and have one worker sweep every `period` seconds."""
        async with self._guarded():
            if self._worker is None:
                self._worker = await self._jobs.register_worker()
            await self._jobs.update_heartbeat(self._worker)
            number = int(self._clock() / period)
            with _waiting_once():  # for example, the last sweep
                await self._jobs.defer_periodic_job(
                    _sweep(number), periodic_id=f"every {period} s", defer_timestamp=number
                )

    async def _remove(self, job: Job) -> None:
        await self._jobs.finish_job(job, Status.SUCCEEDED, delete_job=True)

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        try:
            yield
        except (exceptions.ProcrastinateException, psycopg.Error) as error:
            # A worker that slept too long was forgotten, and registers anew.
            self._worker = None
            cause = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
            refused = refusal(self._name, cause)
            failure = refused or QueueError(f"the queue: {describe_error(cause)}")
        else:
            return
        # Raised outside of `except`, so that the context is no error of procrastinate's with its
        # frames.
        raise failure


@contextmanager
def _waiting_once() -> Iterator[None]:
    """Ignore the error that a job is in the queue already.

    procrastinate recognises that error by the server's message, and raises another error if the
    message is not in English.
    """
    try:
        yield
    except exceptions.AlreadyEnqueued:
        pass
    except Exception as error:
        if not isinstance(error.__context__, psycopg.errors.UniqueViolation):
            raise


def _look_at(chunk: int, when: DueChunk) -> Job:
    return Job(
        queue=_QUEUE,
        lock=None,
        queueing_lock=f"chunk-{chunk}",
        task_name=_CHUNK,
        task_kwargs={"chunk": chunk},
        scheduled_at=when.free_at,
        priority=-when.number,  # whatever of a large campaign is in the queue already
    )


def _sweep(number: int) -> Job:
    return Job(
        queue=_QUEUE,
        lock=None,
        queueing_lock="sweep",
        task_name=_SWEEP,
        task_kwargs={"timestamp": number},
        priority=1,  # before what is in the queue already
    )


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    (process,) = await (await connection.execute(PROCESS)).fetchone() or (None,)
    if process != connection.info.backend_pid:  # a pooler's session, as in `check_session`
        await connection.execute(CLEAN)
    check_writable(await (await connection.execute(IS_READ_ONLY)).fetchone())
    await connection.execute(f"SET search_path TO {_SCHEMA}; {SET_FORMATS}")
