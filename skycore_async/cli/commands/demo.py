"""`skycore demo`: the main job, end to end, over real sockets on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..ui.options import json_option


@click.command(
    help="""
    Run the main job against a simulator on this machine.

    Starts a pretend Skycore and a postback endpoint, sends a handful of
    messages, receives their postbacks, and shows what became of each.  Then it
    sends 3,000, a fifth of them into faults: answers that are lost,
    connections that break, refusals, failed deliveries.  Postbacks settle most of
    what is in doubt, Skycore's own report of what it sent the rest, and what that
    proves not to have been sent goes out.  The ledger is compared with the bill.
    In the end there is a page to open.

    Needs no account, sends nothing outside this machine, and ends by itself in
    less than a minute.

    \b
    Examples:
      skycore demo
      skycore demo --directory . --json

    Exit codes: 0 if everything came out as it should, 1 if not, 2 wrong usage,
    130 interrupted.
    """
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to keep the ledger and the report [a new temporary directory].",
)
@json_option
def demo(*, directory: Path | None, as_json: bool) -> None:
    from ..demo.action import COUNT, run  # noqa: PLC0415 - not for help

    sys.exit(run(directory, as_json=as_json, count=COUNT))
