"""`skycore parse`: what the body of a postback says."""

from __future__ import annotations

import sys
from typing import BinaryIO, Final

import click

from ...errors import PostbackError
from ...postbacks import parse_postback
from ..ui.notifications import NotificationRow, row_of
from ..ui.output import console, emit, fail, json_option, plain
from ..ui.tables import printable, show_table

_MOST: Final = 1024 * 1024  # bytes in a postback; one more is what the parser refuses


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@json_option
def parse(file: BinaryIO | None, *, as_json: bool) -> None:
    """Show what the body of a postback says.

    FILE is a body as Skycore posted it: a NOTIFICATION, a POSTBACK of one or of
    many, or either in a form field `xml`.  FILE `-`, or none, reads standard
    input.  With --json, each notification is a line, whole, with its `raw`.

    \b
    Examples:
      skycore parse postback.xml
      skycore parse --json < postback.xml | jq .tracking_id

    Exit codes: 0 done, 2 wrong usage, or no postback.
    """  # noqa: D301 - \b is click's mark for lines that it does not wrap
    if file is None and sys.stdin.isatty():
        raise click.UsageError("Give a FILE, or pipe a postback in.")
    body: BinaryIO = file or sys.stdin.buffer
    try:
        notifications = parse_postback(body.read(_MOST + 1))
    except PostbackError as error:
        fail(printable(str(error)))
    except OSError as error:
        fail(f"{body.name} cannot be read: {error.strerror}")
    if as_json:
        for notification in notifications:
            emit({"kind": row_of(notification).kind, **plain(notification)})
    else:
        show_table(
            console(), NotificationRow.headings(), [row_of(one).cells() for one in notifications]
        )
