"""`skycore parse`: what the body of a postback says."""

from __future__ import annotations

import sys
from typing import BinaryIO

import click

from ..ui.options import json_option


@click.command(
    help="""
    Show what the body of a postback says.

    FILE is a body as Skycore posted it: a NOTIFICATION, a POSTBACK of one or of
    many, or either in a form field `xml`.  FILE `-`, or none, reads standard
    input.  With --json, each notification is a line, whole, with its `raw`.

    \b
    Examples:
      skycore parse postback.xml
      skycore parse --json < postback.xml | jq .tracking_id

    Exit codes: 0 done, 2 wrong usage, or no postback.
    """
)
@click.argument("file", type=click.File("rb"), required=False)
@json_option
def parse(file: BinaryIO | None, *, as_json: bool) -> None:
    from ..actions.parse import show_postback  # noqa: PLC0415 - not for help

    if file is None and sys.stdin.isatty():
        raise click.UsageError("Give a FILE, or pipe a postback in.")
    show_postback(file or sys.stdin.buffer, as_json=as_json)
