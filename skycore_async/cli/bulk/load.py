"""What `skycore bulk --cluster` does once it is allowed to: load a campaign, and return.

Rules:

* All rows that are messages are loaded, or none.
* A message is loaded as it is to be sent: its short code and campaign reference
  are its own from then on, whatever the workers are set to.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import attrs
import click

from ...campaigns.campaigns import load
from ..ui.database import with_connection
from ..ui.output import Exit, emit
from .recipients import Rejects
from .rows import JudgedRow, message_rows


def load_campaign(
    dsn: str,
    name: str,
    rows: Iterable[JudgedRow],
    rejects: Rejects,
    *,
    start: datetime | None,
    as_json: bool,
) -> int:
    """Load the rows that are messages, write the others to `rejects`, and return the exit code."""
    messages = (row.message for row in message_rows(rows, rejects))
    loaded = with_connection(
        dsn, lambda connection: load(connection, name, messages, starts_at=start)
    )
    path = str(rejects.path) if rejects.count else None
    if as_json:
        emit({"campaign": name, **attrs.asdict(loaded), "starts_at": start, "rejects": path})
    else:
        click.echo(f"{'loaded':<13} {loaded.new:,}")
        if loaded.mended:
            click.echo(f"{'mended':<13} {loaded.mended:,}")
        if loaded.known:
            click.echo(f"{'known before':<13} {loaded.known:,}")
        if path is not None:
            click.echo(f"{'to mend':<13} {rejects.count:,} rows in {path}")
    if loaded.state == "running":
        then = "" if start is None else f" from {start:%Y-%m-%d %H:%M %z} on"
        click.echo(
            f"`skycore worker DSN` sends them{then}, `skycore status DSN` tells of it.", err=True
        )
    else:
        click.echo(f"The campaign is {loaded.state}: `skycore cluster resume` goes on.", err=True)
    return Exit.NOT_ALL_WELL if rejects.count else Exit.DONE
