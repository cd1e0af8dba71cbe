"""`skycore worker`: one of the processes that send the messages of campaigns.

Rules:

* After the first signal nothing more starts; what is in flight is waited for, and
  the chunks are given back.  The second ends the process at once: what was in flight
  is in doubt, and other workers take the chunks when the lease has run out.
* In the end it prints what it did; `skycore status` shows how far campaigns are.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..ui.dsn import dsn_of
from ..ui.output import (
    EXIT_CODES,
    RATE,
    Exit,
    Number,
    WholeNumber,
    emit,
    fail,
    in_flight_option,
    json_option,
    read_api_key,
)

if TYPE_CHECKING:
    from ...campaigns.tally import WorkerTally
    from ...campaigns.worker import Worker

_EVERY: Final = 5.0  # seconds between lines
_PACE: Final = "account"  # the name of the rate that all workers of a database share


@click.command(epilog=EXIT_CODES.removeprefix("\b\n"))
@click.argument("dsn", required=False)
@click.option(
    "--rate",
    type=RATE,
    metavar="N",
    help="Messages per second of all workers together, as the last one started sets it.",
)
@click.option(
    "--burst", type=WholeNumber(min=1), metavar="N", default=1, help="Messages at once [1]."
)
@in_flight_option
@click.option("--fast", is_flag=True, help="Send over aiohttp, for volume (extra `aiohttp`).")
@click.option("--drain", is_flag=True, help="End when nothing is left to send.")
@click.option(
    "--lease",
    type=Number(min=1),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="How long others wait for a worker that gives no sign of life.",
)
@click.option(
    "--base-url",
    metavar="URL",
    envvar="SKYCORE_BASE_URL",
    show_envvar=True,
    help="Where the API is, as of a simulator.",
)
@click.option(
    "--api-key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file with the API key; else SKYCORE_API_KEY.",
)
@json_option
def worker(*, dsn: str | None, api_key_file: Path | None, as_json: bool, **given: Any) -> None:
    """Send the messages of campaigns, together with other workers.

    `skycore bulk --cluster` loads campaigns into the PostgreSQL database DSN, for
    which SKYCORE_DSN stands in.  When a worker dies, hangs or is stopped for
    long, what it had in flight is in doubt; another takes over the rest of its
    messages, and it can send nothing more itself.

    It works until Ctrl-C or SIGTERM, which waits for what is in flight; a
    second one ends it at once.  With --drain it ends when nothing is left.

    \b
    Examples:
      skycore worker postgresql://me@db/sms --rate 100
      SKYCORE_DSN=postgresql://me@db/sms skycore worker --drain --json
    """  # noqa: D301 - \b is click's mark for lines that it does not wrap
    import anyio

    from ...errors import ConfigurationError, LedgerError

    key = read_api_key(api_key_file)
    try:
        tally, is_interrupted = anyio.run(_work, dsn_of(dsn), key, given)
    except LedgerError as error:
        fail(str(error), Exit.NOT_SENT)
    except ConfigurationError as error:
        fail(str(error))
    sys.exit(_print_result(tally, as_json=as_json, is_interrupted=is_interrupted))


async def _work(dsn: str, api_key: str, given: dict[str, Any]) -> tuple[WorkerTally, bool]:
    import anyio

    from ..ui.signals import STOPPING, Signals

    signals = Signals()
    async with _opened(dsn, api_key, given) as made, anyio.create_task_group() as beside:

        def stop() -> None:
            made.stop()
            click.echo(f"\n{STOPPING}", err=True)

        beside.start_soon(functools.partial(signals.hear, stop=stop, leave=_print_doubt))
        beside.start_soon(_print_progress, made.tally)
        await made.run()
        beside.cancel_scope.cancel()
    if made.error is not None:
        raise made.error
    return made.tally, signals.count > 0


@asynccontextmanager
async def _opened(dsn: str, api_key: str, given: dict[str, Any]) -> AsyncIterator[Worker]:
    """Open the connections, the ledger and the client of a worker."""
    from ...campaigns import queue
    from ...campaigns.session import DatabaseSession
    from ...campaigns.worker import Worker, WorkerTiming
    from ...client import SkycoreClient
    from ...ledger.postgres.ledger import PostgresLedger
    from ...limits.postgres import PostgresLimiter
    from ...postgres.connection import Database

    database, lease = Database(dsn), given["lease"]
    settings: dict[str, Any] = {"max_in_flight": given["in_flight"], "base_url": given["base_url"]}
    if given["fast"]:
        from ...transports.aiohttp import AiohttpTransport

        settings["transport"] = AiohttpTransport()

    def print_trouble(line: str | None) -> None:
        click.echo(line or f"{database.name}: here again", err=True)

    session = DatabaseSession(database, on_trouble=print_trouble)
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(PostgresLedger(dsn, lease=lease))
        stack.push_async_callback(session.aclose)
        await session.run(queue.check)
        chunks = await stack.enter_async_context(queue.Procrastinate(database))
        if given["rate"] is not None:
            pace = PostgresLimiter(dsn, _PACE, given["rate"], given["burst"])
            settings["rate"] = await stack.enter_async_context(pace)
        client = await stack.enter_async_context(
            SkycoreClient(api_key=api_key, ledger=ledger, **settings)
        )
        yield Worker(
            session=session,
            queue=chunks,
            ledger=ledger,
            client=client,
            timing=WorkerTiming(lease=lease),
            drain=given["drain"],
            tell=print_trouble,
        )


def _print_doubt() -> None:
    click.echo("\nEnded at once: what was in flight is in doubt.", err=True)


async def _print_progress(tally: WorkerTally) -> None:
    """Print a line every few seconds, where something was done since the last."""
    import anyio

    before = ""
    while True:
        await anyio.sleep(_EVERY)
        if (line := "  ".join(f"{name} {count:,}" for name, count in _parts(tally))) != before:
            click.echo(line, err=True)
        before = line


def _parts(tally: WorkerTally) -> list[tuple[str, int]]:
    parts = [
        ("accepted", tally.accepted),
        ("refused", tally.refused.total()),
        ("in doubt", tally.in_doubt),
        ("not sent", tally.not_sent),
        ("chunks", tally.chunks),
    ]
    return [part for part in parts if part[1] or part[0] == "accepted"]


def _print_result(tally: WorkerTally, *, as_json: bool, is_interrupted: bool) -> Exit:
    """Print what was done, and return the exit code for the worst of it."""
    if as_json:
        emit(tally)
    else:
        for name, count in _parts(tally):
            click.echo(f"{name:<13} {count:,}")
    table = (
        (is_interrupted, Exit.INTERRUPTED),
        (bool(tally.halted), Exit.REFUSED),
        (tally.in_doubt > 0, Exit.IN_DOUBT),
        (tally.refused.total() > 0, Exit.NOT_ALL_WELL),
    )
    return next((code for is_so, code in table if is_so), Exit.DONE)
