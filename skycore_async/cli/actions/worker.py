"""What `skycore worker` does: send the messages of campaigns, until a signal or to their end.

Rules:

* After the first signal nothing more starts: the worker waits for the messages in flight, and
  gives its chunks back.  The second signal ends the process at once: the messages in flight are in
  doubt, and other workers take the chunks when the lease has run out.
* At its end the worker prints what it did, also where the database failed.  `skycore status` shows
  the progress of campaigns.
* News is printed in a thread of its own: a stopped terminal holds up no message.
* The list of opt-outs is shared with the database meanwhile, as `bulk` does.
* Doubt is the worst result of a worker, and decides its exit code, also where other workers met it
  and the campaign was halted for it.  An outcome that could not be written counts as a doubt,
  since it is one in the database.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import anyio
import attrs

from ...campaigns import queue
from ...campaigns.counters import WorkerCounters
from ...campaigns.retrying_connection import RetryingConnection
from ...campaigns.worker import Worker, WorkerTiming
from ...client import SkycoreClient
from ...errors import ConfigurationError, LedgerError
from ...ledger.postgres.ledger import PostgresLedger
from ...ledger.sqlite.opt_out_list import OptOutList
from ...limits.postgres import PostgresLimiter
from ...postgres.connection import Database
from ...runtime.secret import Secret
from ...transports.choice import Road
from ..ui.beside import Beside, print_beside
from ..ui.opt_out_list import sharing
from ..ui.output import Exit, announce, emit, fail, number_of, print_outcome, say
from ..ui.signals import STOPPING, Signals

_EVERY: Final = 5.0  # seconds between lines
_RATE_NAME: Final = "account"  # the name of the rate that all workers of a database share


@attrs.frozen(kw_only=True)
class WorkerOptions:
    """The options, by their names."""

    rate: float | None
    burst: int
    in_flight: int
    transport: Road
    drain: bool
    lease: float
    base_url: str | None
    opt_outs: OptOutList | None


@attrs.frozen(kw_only=True)
class WorkerEnd:
    """How a worker ended: what it did, and what ended it early.

    `unwritten` counts the outcomes that could not be written, as the database was away.
    """

    counters: WorkerCounters
    is_interrupted: bool
    error: ConfigurationError | None
    unwritten: int = 0

    @property
    def exit_code(self) -> Exit:
        """The exit code for the worst that happened."""
        is_doubt = self.counters.in_doubt > 0 or self.counters.is_outage or self.unwritten > 0
        table = (
            (is_doubt, Exit.IN_DOUBT),
            (self.is_interrupted, Exit.INTERRUPTED),
            (self.error is not None, Exit.USAGE),
            (bool(self.counters.halted), Exit.REFUSED),
            (self.counters.refused.total() > 0, Exit.NOT_ALL_WELL),
        )
        return next((code for is_so, code in table if is_so), Exit.DONE)


def run_worker(dsn: Secret, api_key: Secret, options: WorkerOptions, *, as_json: bool) -> Exit:
    """Run a worker, print what it did, and return the exit code."""
    try:
        with Beside(announce) as lines:
            end = anyio.run(_work, dsn, api_key, options, lines.give)
    except LedgerError as error:
        fail(str(error), Exit.NOT_SENT)
    except ConfigurationError as error:
        fail(str(error))

    def show() -> None:
        if as_json:
            emit(end.counters)
            return
        for name, count in _parts(end.counters):
            say(f"{name:<13} {count:,}")

    is_printed = print_outcome(show, known="`skycore status DSN` tells what was sent")
    if end.unwritten:
        announce(
            f"{number_of(end.unwritten, 'outcome')} of these could not be written: their messages"
            " are in doubt in the database. Once it is back, `skycore settle DSN` asks Skycore's"
            " own report which were sent."
        )
    if end.error is not None:
        fail(str(end.error), end.exit_code)
    return end.exit_code if is_printed else end.exit_code or Exit.NOT_ALL_WELL


async def _work(
    dsn: Secret, api_key: Secret, options: WorkerOptions, announce_beside: Callable[[str], None]
) -> WorkerEnd:
    signals = Signals()
    opened = _opened(dsn, api_key, options, announce_beside)
    worker: Worker | None = None

    def stop() -> None:
        announce_beside(f"\n{STOPPING}")
        if worker is None:
            opening.cancel()
        else:
            worker.stop()

    with anyio.CancelScope() as opening:
        async with (
            signals.heard(first=stop, second=_print_doubt),
            opened as worker,
            anyio.create_task_group() as beside,
        ):
            beside.start_soon(_print_progress, worker.counters)
            await worker.run()
            beside.cancel_scope.cancel()
    return WorkerEnd(
        counters=WorkerCounters() if worker is None else worker.counters,
        is_interrupted=signals.count > 0,
        error=None if worker is None else worker.error,
        unwritten=0 if worker is None else worker.unwritten,
    )


@asynccontextmanager
async def _opened(
    dsn: Secret, api_key: Secret, options: WorkerOptions, announce_beside: Callable[[str], None]
) -> AsyncIterator[Worker]:
    """Open the connections, the ledger and the client of a worker."""
    database = Database(dsn.reveal())
    settings: dict[str, Any] = {
        "max_in_flight": options.in_flight,
        "base_url": options.base_url,
        "transport": options.transport,
    }

    def print_trouble(line: str | None) -> None:
        announce_beside(line or f"{database.name}: here again")

    connection = RetryingConnection(database, on_trouble=print_trouble)
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(PostgresLedger(dsn.reveal(), lease=options.lease))
        stack.push_async_callback(connection.aclose)
        await connection.run(queue.check)
        await stack.enter_async_context(sharing(ledger, options.opt_outs, name=database.name))
        chunks = await stack.enter_async_context(queue.Procrastinate(database))
        if options.rate is not None:
            limiter = PostgresLimiter(dsn.reveal(), _RATE_NAME, options.rate, options.burst)
            settings["rate"] = await stack.enter_async_context(limiter)
        client = await stack.enter_async_context(
            SkycoreClient(api_key=api_key.reveal(), ledger=ledger, **settings)
        )
        yield Worker(
            connection=connection,
            queue=chunks,
            ledger=ledger,
            client=client,
            timing=WorkerTiming(lease=options.lease),
            drain=options.drain,
            announce=print_trouble,
        )


def _print_doubt() -> None:
    announce("\nEnded at once: what was in flight is in doubt.")


async def _print_progress(counters: WorkerCounters) -> None:
    """Print a line every few seconds, if something was done since the last one."""
    before = ""
    while True:
        await anyio.sleep(_EVERY)
        if (line := "  ".join(f"{name} {count:,}" for name, count in _parts(counters))) != before:
            await print_beside(functools.partial(announce, line))
        before = line


def _parts(counters: WorkerCounters) -> list[tuple[str, int]]:
    parts = [
        ("accepted", counters.accepted),
        ("refused", counters.refused.total()),
        ("in doubt", counters.in_doubt),
        ("not sent", counters.not_sent),
        ("chunks", counters.chunks),
    ]
    return [part for part in parts if part[1] or part[0] == "accepted"]
