"""The queue that hands out chunks: the port, and procrastinate behind it.  On asyncio alone.

Strategy: a job says that a chunk is to be looked at, no sooner than it may be taken; or
that it is time for a sweep, which finds those chunks.  procrastinate keeps a job until its
time, hands it to one worker, has one worker a period sweep, and knows what dead ones left.

Rules:

* What the queue says is a hint, never the truth.  It may lose a job or hand one out
  twice: the row in `chunks` decides, under its lock, who has a chunk and until when.
* So a job is removed as soon as it is handed out, and a dead worker's chunk comes back
  when the lease in its row has ended, by a job that is made for that time.  The queue's
  own heartbeats, which would hand its job out again, are not used: two clocks would decide
  who is dead, and one of them is lost whenever the tables of the queue are made anew.
* The tables are in a schema of their own, `skycore_queue`, made by `migrate`.  Another
  version of them is made anew instead of migrated: the next sweep fills it again.
* A chunk waits in the queue once: its id is the job's queueing lock.
* Chunks of all campaigns take turns by their numbers, also those that are in the queue already:
  a small campaign does not wait for the end of a large one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import blake2b
from typing import Any, Final, Protocol, Self

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
    describe_error,
    refusal,
)
from ..postgres.formats import SET_FORMATS
from ..postgres.schema import Connection
from .chunks import DueChunk

_SCHEMA: Final = "skycore_queue"
_QUEUE: Final = "skycore"
_CHUNK: Final = "skycore.chunk"
_SWEEP: Final = "skycore.sweep"
_LOCK: Final = 0x534B51  # "SKQ": two that migrate at once do it one after the other
# Seconds for a connection; tried for longer, it would be tried less and less often, and workers
# would idle for minutes once a database is back.
_WAIT: Final = 5.0
_STALLED: Final = 60.0  # seconds after which what a silent worker left is cleared away


# The port.


@attrs.frozen(kw_only=True)
class Ticket:
    """What a worker is to do: look at a chunk; or, at None, sweep: offer what is due soon."""

    chunk: int | None


class QueueError(LedgerError):
    """The queue cannot be reached, or did not understand; another try may succeed."""


class ChunkQueue(Protocol):
    """Hands chunks to any number of workers.

    All but closing raise QueueError, and ConfigurationError where no other try will do.
    """

    async def offer(self, chunks: Mapping[int, DueChunk]) -> None:
        """Put chunks into the queue, each for its time; one that waits there already stays."""
        ...

    async def fetch(self) -> Ticket | None:
        """Return what is to be done next, and forget it; None where there is nothing now."""
        ...

    async def tend(self, period: float) -> None:
        """Say that this worker is alive, and have one worker every `period` seconds sweep."""
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
    """Return the digest of the tables that are there, None where there are none."""
    row = connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s",
        (_SCHEMA,),
    ).fetchone()
    return None if row is None else str(row[0])


def migrate(connection: Connection) -> bool:
    """Make the tables of the queue, anew where they are of another version; False if all is well.

    What waits in the queue is lost by it, and put there again by the next worker.
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
    """Raise LedgerError unless the tables of the queue are there, and as this one needs them."""
    found = _found(connection)
    if found != _digest():
        said = "are not in this database" if found is None else "are of another procrastinate"
        raise LedgerError(
            f"the tables of the queue {said}: run `skycore cluster migrate DSN` once"
        )


# procrastinate.


class Procrastinate:
    """Hand out chunks through procrastinate's tables in `database`.

    `clock` gives seconds since 1970.  Where the clocks of two machines differ, there is
    more than one sweep a period, which does no harm.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
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
        async with self._guarded():
            await self._connector.open_async()
        return self

    async def __aexit__(self, *_error: object) -> None:
        with suppress(LedgerError, ConfigurationError):
            async with self._guarded():
                if self._worker is not None:
                    await self._jobs.unregister_worker(self._worker)
        await self._connector.close_async()

    async def offer(self, chunks: Mapping[int, DueChunk]) -> None:
        """Put chunks into the queue, each for its time; one that waits there already stays.

        What dead workers had fetched and not removed yet is cleared away.
        """
        async with self._guarded():
            todo = await self._jobs.list_jobs_async(queue=_QUEUE, status="todo")
            waiting = {job.queueing_lock for job in todo}
            jobs = [_look_at(chunk, when) for chunk, when in chunks.items()]
            if new := [job for job in jobs if job.queueing_lock not in waiting]:
                # Where another sweeps at the same moment, what it left out is for the next one.
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
        """Return what is to be done next, and forget it; None where there is nothing now."""
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
        """Say that this worker is alive, and have one worker every `period` seconds sweep."""
        async with self._guarded():
            if self._worker is None:
                self._worker = await self._jobs.register_worker()
            await self._jobs.update_heartbeat(self._worker)
            number = int(self._clock() / period)
            with _waiting_once():  # as where the last one still waits
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
            # A worker that slept too long is not known any more, and registers anew.
            self._worker = None
            cause = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
            refused = refusal(self._name, cause)
            failure = refused or QueueError(f"the queue: {describe_error(cause)}")
        else:
            return
        # Out here, as the context would be an error of procrastinate's, and have its frames.
        raise failure


@contextmanager
def _waiting_once() -> Iterator[None]:
    """Pass over that a job waits in the queue already.

    procrastinate reads which one it is in the server's words, and fails with an error that is none
    of its own where these are not English.
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
    check_writable(await (await connection.execute(IS_READ_ONLY)).fetchone())
    await connection.execute(f"SET search_path TO {_SCHEMA}; {SET_FORMATS}")
