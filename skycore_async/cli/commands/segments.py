"""`skycore segments`: how many segments a text takes, and which characters force UCS-2."""

from __future__ import annotations

import sys

import click

from ..ui.options import json_option
from ..ui.standard_input import text_of


@click.command(
    help="""
    Show how many segments a text takes, and why.

    Each segment is sent and billed as one SMS.  A text is sent in GSM 03.38
    (160 characters, or 153 in each of several segments) unless one character is
    not in that alphabet: then all of it is sent in UCS-2 (70, or 67).  Those
    characters are listed, with their positions, counted from 0.

    TEXT `-`, or none, reads standard input, without the line break at its end.

    \b
    Examples:
      skycore segments "Ça coûte combien ?"
      skycore segments < message.txt

    Exit codes: 0 done, 2 wrong usage.
    """
)
@click.argument("text", required=False)
@json_option
def segments(text: str | None, *, as_json: bool) -> None:
    from ..actions.segments import show_segments  # noqa: PLC0415 - not for help

    if text is None and sys.stdin.isatty():
        raise click.UsageError("Give a TEXT, or pipe one in.")
    show_segments(text_of("-" if text is None else text), as_json=as_json)
