"""A worker as a process of its own, with short leases, for tests that kill and stop it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import anyio

from skycore_async import SkycoreClient
from skycore_async.campaigns.queue import Procrastinate
from skycore_async.campaigns.retrying_connection import RetryingConnection
from skycore_async.campaigns.worker import Worker, WorkerTiming
from skycore_async.ledger.postgres.ledger import PATIENCE, PostgresLedger
from skycore_async.postgres.connection import Database
from skycore_async.sending.hours import utc_now
from skycore_async.simulator import API_KEY
from tests.support.other_process import started

IN_FLIGHT = 10
TIMING = WorkerTiming(lease=1.5, sweep=0.3, poll=0.05, retry=0.3, longest=1.0)

_LONGEST = 45  # seconds, after which it hangs


async def work(dsn: str, url: str, *, drain: bool = True, **settings: Any) -> Worker:
    """Work until nothing is left, or until stopped by SIGTERM."""
    database = Database(dsn)
    connection = settings.pop("connection", None) or RetryingConnection(database)
    timing = settings.pop("timing", TIMING)
    announce = settings.pop("announce", lambda _: None)
    clock = settings.pop("clock", utc_now)
    patience = settings.pop("patience", PATIENCE)
    given = {"api_key": API_KEY, "base_url": url, "max_in_flight": IN_FLIGHT, "timeout": 5}
    async with (
        PostgresLedger(dsn, lease=timing.lease, patience=patience) as ledger,
        Procrastinate(database) as queue,
        SkycoreClient(ledger=ledger, **{**given, **settings}) as client,
    ):
        worker = Worker(
            connection=connection,
            queue=queue,
            ledger=ledger,
            client=client,
            timing=timing,
            drain=drain,
            announce=announce,
            clock=clock,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(_stop_on_signal, worker)
            with anyio.fail_after(_LONGEST):
                await worker.run()
            group.cancel_scope.cancel()
        await connection.aclose()
    return worker


async def _stop_on_signal(worker: Worker) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            worker.stop()


class Process:
    """A worker in a process of its own."""

    def __init__(self, dsn: str, url: str) -> None:
        self._process = started(work, dsn, url)

    def send(self, what: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, what)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def wait(self, timeout: float = 60) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()


@contextmanager
def workers(count: int, dsn: str, url: str) -> Iterator[list[Process]]:
    """Run workers, and end them whatever happens."""
    with ExitStack() as stack:
        begun = []
        for _ in range(count):
            begun.append(Process(dsn, url))
            stack.callback(begun[-1].kill)
        yield begun
