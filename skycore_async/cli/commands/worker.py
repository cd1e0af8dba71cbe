"""`skycore worker`: one of the processes that send the messages of campaigns."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ...runtime.secret import Secret
from ..ui.dsn import HiddenText, dsn_of
from ..ui.options import (
    RATE,
    Number,
    WholeNumber,
    api_key_file_option,
    base_url_option,
    in_flight_option,
    json_option,
    opt_outs_option,
    read_api_key,
    transport_option,
)
from ..ui.output import EXIT_CODES


@click.command(
    epilog=EXIT_CODES.removeprefix("\b\n"),
    help="""
    Send the messages of campaigns, together with other workers.

    `skycore bulk --cluster` loads campaigns into the PostgreSQL database DSN, for
    which SKYCORE_DSN stands in.  When a worker dies, hangs or is stopped for long, the
    messages that it had in flight are in doubt; another worker takes over the rest, and
    the first one can send nothing more of them.

    A worker runs until Ctrl-C or SIGTERM, and then waits for the messages in flight; a
    second one ends it at once.  With --drain it ends when nothing is left to send, also
    of campaigns that start later.

    \b
    Examples:
      skycore worker postgresql://me@db/sms --rate 100
      SKYCORE_DSN=postgresql://me@db/sms skycore worker --drain --json
    """,
)
@click.argument("dsn", type=HiddenText(), required=False)
@click.option(
    "--rate",
    type=RATE,
    metavar="N",
    help="Messages per second, of all workers with this option together; the last one sets it.",
)
@click.option(
    "--burst",
    type=WholeNumber(1, 100_000),
    metavar="N",
    default=1,
    help="Messages at once [1].",
)
@in_flight_option
@transport_option
@click.option("--drain", is_flag=True, help="End when nothing is left to send.")
@click.option(
    "--lease",
    type=Number(min=1, max=86_400),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="How long others wait for a worker that gives no sign of life.",
)
@base_url_option
@opt_outs_option
@api_key_file_option
@json_option
def worker(
    *,
    dsn: Secret | None,
    opt_outs: str | None,
    api_key_file: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    from ..actions.worker import WorkerOptions, run_worker  # noqa: PLC0415 - not for help
    from ..ui.opt_out_list import list_of  # noqa: PLC0415

    key = read_api_key(api_key_file)
    options = WorkerOptions(**given, opt_outs=list_of(opt_outs))
    sys.exit(run_worker(dsn_of(dsn), key, options, as_json=as_json))
