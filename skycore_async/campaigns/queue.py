"""procrastinate as the engine: a job is a chunk.  On asyncio alone.

Strategy: its tables are in a schema of their own, `skycore_queue`, made by `migrate`.
Since nothing in them is the truth, another version of them is made anew instead of
migrated, and the next look at what is due fills the queue again.

Rules:

* A chunk waits in the queue once: its id is the job's queueing lock.
* A job has no lock: a dead worker's job stays "doing", and must not keep others
  from its chunk.  It is removed once the worker's heartbeats have stopped.
* A job that is done is removed.  Who finds its job gone, as one who was taken for
  dead does, has nothing to do about it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from hashlib import blake2b
from types import TracebackType
from typing import Any, Final, Self

from ..errors import LedgerError
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

from ..postgres.connection import Database
from ..postgres.schema import Connection
from .engine import EngineError, Ticket

_SCHEMA: Final = "skycore_queue"
_QUEUE: Final = "skycore"
_TASK: Final = "skycore.chunk"
_LOCK: Final = 0x534B51  # "SKQ": two that migrate at once do it one after the other
_WAIT: Final = 5.0  # seconds for a connection


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


# The engine.


class Procrastinate:
    """Hand out chunks through procrastinate's tables in `database`.

    A worker that gave no sign of life for `stalled` seconds is taken for dead.
    """

    def __init__(self, database: Database, *, stalled: float = 30.0) -> None:
        self._connector = PsycopgConnector(
            conninfo=database.conninfo,
            configure=_configure,
            min_size=1,
            max_size=2,
            timeout=_WAIT,
            kwargs={"autocommit": True},
        )
        self._jobs = JobManager(self._connector)
        self._stalled = stalled
        self._worker: int | None = None

    async def __aenter__(self) -> Self:
        async with self._guarded():
            await self._connector.open_async()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(EngineError):
            async with self._guarded():
                if self._worker is not None:
                    await self._jobs.unregister_worker(self._worker)
        await self._connector.close_async()

    async def offer(self, chunks: Collection[int]) -> None:
        """Put chunks into the queue; one that waits there already is no matter."""
        if not chunks:
            return
        async with self._guarded():
            waiting = {
                job.queueing_lock
                for job in await self._jobs.list_jobs_async(queue=_QUEUE, status="todo")
            }
            new = [job for job in map(_job, chunks) if job.queueing_lock not in waiting]
            try:
                if new:
                    await self._jobs.batch_defer_jobs_async(new)
            except exceptions.AlreadyEnqueued:
                # Another worker looked at the same time: what it left out is put in one by one.
                for job in new:
                    with suppress(exceptions.AlreadyEnqueued):
                        await self._jobs.defer_job_async(job)

    async def fetch(self) -> Ticket | None:
        """Return the next chunk, None where there is none now."""
        async with self._guarded():
            if self._worker is None:
                self._worker = await self._jobs.register_worker()
            job = await self._jobs.fetch_job([_QUEUE], self._worker)
        return None if job is None else Ticket(int(str(job.task_kwargs["chunk"])), job)

    async def release(self, ticket: Ticket) -> None:
        """Be done with a ticket, whatever became of its chunk."""
        async with self._guarded():
            await self._remove(ticket.job)

    async def tend(self) -> None:
        """Say that this worker is alive, and clear away what dead ones had in hand."""
        async with self._guarded():
            if self._worker is not None:
                await self._jobs.update_heartbeat(self._worker)
            stalled = await self._jobs.get_stalled_jobs(
                queue=_QUEUE, seconds_since_heartbeat=self._stalled
            )
            for job in stalled:
                with suppress(exceptions.ConnectorException):
                    await self._remove(job)
            await self._jobs.prune_stalled_workers(self._stalled)

    async def _remove(self, job: Job) -> None:
        await self._jobs.finish_job(job, Status.SUCCEEDED, delete_job=True)

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        try:
            yield
        except (exceptions.ProcrastinateException, psycopg.Error) as error:
            # A worker that slept too long is not known any more, and registers anew.
            self._worker = None
            raise EngineError(f"the queue: {error.__cause__ or error}") from error


def _job(chunk: int) -> Job:
    return Job(
        queue=_QUEUE,
        lock=None,
        queueing_lock=f"chunk-{chunk}",
        task_name=_TASK,
        task_kwargs={"chunk": chunk},
    )


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute(f"SET search_path TO {_SCHEMA}")
