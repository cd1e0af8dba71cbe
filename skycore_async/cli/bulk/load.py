"""What `skycore bulk --cluster` does once it is allowed to: load a campaign, and return.

Rules:

* All rows that are messages are loaded, or none.
* A message is loaded as it is to be sent: its short code and campaign reference
  are its own from then on, whatever the workers are set to.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import attrs
import click

from ...campaigns.campaigns import Loaded, load
from ...campaigns.rereading import refuse_reread
from ...postgres.schema import Connection
from ..ui.database import with_connection
from ..ui.output import Exit, emit
from .kept import KeptRows
from .recipients import Rejects
from .rows import MessageRow, message_rows


def load_campaign(
    dsn: str,
    name: str,
    rows: KeptRows,
    rejects: Rejects,
    *,
    start: datetime | None,
    numbers: dict[str, Any],
    as_json: bool,
) -> int:
    """Load the rows that are messages, write the others to `rejects`, and return the exit code.

    `numbers` is what the estimate says of them, for programs.
    """
    messages = (row.message for row in message_rows(rows, rejects))

    def loaded_by(connection: Connection) -> Loaded:
        if any(_keys_unread(rows)):
            refuse_reread(connection, name, _keys_unread(rows))
        return load(connection, name, messages, starts_at=start)

    loaded = with_connection(dsn, loaded_by)
    path = str(rejects.path) if rejects.count else None
    if as_json:
        what = {"campaign": name, **attrs.asdict(loaded), "starts_at": start, "rejects": path}
        emit({**what, **numbers})
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


def _keys_unread(rows: KeptRows) -> Iterator[str]:
    """Yield the keys that messages would have, were their numbers not read."""
    for row in rows:
        if isinstance(row, MessageRow) and (unread := row.unread) is not None:
            yield unread.key or ""
