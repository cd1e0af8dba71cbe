"""`skycore worker`: one of the processes that send what campaigns hold.

Rules:

* The first signal starts nothing more, waits for what is in flight, and gives the
  chunks back.  The second ends the process where it stands: what was in flight is
  in doubt for the others, who take the chunks over when the lease runs out.
* What it did is told in the end, how far the campaigns are by `skycore status`.
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
    in_flight_option,
    json_option,
    leave,
    read_api_key,
)

if TYPE_CHECKING:
    from ...campaigns.worker import Worker, WorkerTally

_EVERY: Final = 5.0  # seconds between lines
_PACE: Final = "account"  # what the workers of a database send at, together


@click.command(epilog=EXIT_CODES.removeprefix("\b\n"))
@click.argument("dsn", required=False)
@click.option(
    "--rate",
    type=RATE,
    metavar="N",
    help="Messages per second, of all workers together; the last one begun says how many.",
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
    help="How long others wait for a worker that is not heard of.",
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
    """Send what campaigns hold, together with any number of other workers.

    `skycore bulk --cluster` loads campaigns into the PostgreSQL database DSN, for
    which SKYCORE_DSN stands in.  A worker that dies, hangs or is stopped for long
    costs at most what it had in flight, which is in doubt: another takes its
    messages over, and it can send nothing more.

    It works until Ctrl-C or SIGTERM, which waits for what is in flight; twice, it
    leaves at once.  With --drain it ends when nothing is left.

    \b
    Examples:
      skycore worker postgresql://me@db/sms --rate 100
      SKYCORE_DSN=postgresql://me@db/sms skycore worker --drain --json
    """  # noqa: D301 - \b is click's word for lines to leave as they are
    import anyio

    from ...errors import ConfigurationError, LedgerError

    key = read_api_key(api_key_file)
    try:
        tally, is_interrupted = anyio.run(_work, dsn_of(dsn), key, given)
    except LedgerError as error:
        leave(str(error), Exit.NOT_SENT)
    except ConfigurationError as error:
        leave(str(error))
    sys.exit(_account(tally, as_json=as_json, is_interrupted=is_interrupted))


async def _work(dsn: str, api_key: str, given: dict[str, Any]) -> tuple[WorkerTally, bool]:
    import anyio

    from ..ui.signals import STOPPING, Signals

    signals = Signals()
    async with _opened(dsn, api_key, given) as made, anyio.create_task_group() as beside:

        def stop() -> None:
            made.stop()
            click.echo(f"\n{STOPPING}", err=True)

        beside.start_soon(functools.partial(signals.hear, stop=stop, leave=_say_what_is_left))
        beside.start_soon(_show, made.tally)
        await made.run()
        beside.cancel_scope.cancel()
    return made.tally, signals.count > 0


@asynccontextmanager
async def _opened(dsn: str, api_key: str, given: dict[str, Any]) -> AsyncIterator[Worker]:
    """Open all that a worker works with."""
    from ...campaigns import queue
    from ...campaigns.session import DatabaseSession
    from ...campaigns.worker import Worker, WorkerTiming
    from ...client import SkycoreClient
    from ...ledger.postgres.ledger import PostgresLedger
    from ...limits.postgres import PostgresLimiter
    from ...postgres.connection import Database

    database, lease, in_flight = Database(dsn), given["lease"], given["in_flight"]
    settings: dict[str, Any] = {"max_in_flight": in_flight, "base_url": given["base_url"]}
    if given["fast"]:
        from ...transports.aiohttp import AiohttpTransport

        settings["transport"] = AiohttpTransport(max_in_flight=in_flight)

    def say(line: str | None) -> None:
        click.echo(line or f"{database.name}: here again", err=True)

    session = DatabaseSession(database, on_trouble=say)
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(PostgresLedger(dsn, lease=lease))
        stack.push_async_callback(session.aclose)
        await session.run(queue.check)
        engine = await stack.enter_async_context(queue.Procrastinate(database, stalled=2 * lease))
        if given["rate"] is not None:
            pace = PostgresLimiter(dsn, _PACE, given["rate"], given["burst"])
            settings["rate"] = await stack.enter_async_context(pace)
        client = await stack.enter_async_context(
            SkycoreClient(api_key=api_key, ledger=ledger, **settings)
        )
        yield Worker(
            session=session,
            engine=engine,
            ledger=ledger,
            client=client,
            max_in_flight=in_flight,
            timing=WorkerTiming(lease=lease),
            drain=given["drain"],
            tell=say,
        )


def _say_what_is_left() -> None:
    click.echo("\nLeft at once: what was in flight is in doubt.", err=True)


async def _show(tally: WorkerTally) -> None:
    """Write a line now and then, where something was done since the last."""
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


def _account(tally: WorkerTally, *, as_json: bool, is_interrupted: bool) -> Exit:
    """Say what was done, and return the exit code for the worst of it."""
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
