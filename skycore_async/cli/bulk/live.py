"""The progress of a bulk send on a terminal: a bar, and the counters under it.

Rules:

* This module is loaded only where there is a terminal, since `rich` takes memory.
* Where the terminal is closed, nothing is drawn any more, and the run goes on.
* Where the terminal stops taking output, the run goes on too, and the end waits for the last
  picture only briefly.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from typing import Final

import anyio
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..ui.beside import print_beside
from ..ui.output import printable
from ..ui.tables import console
from .progress import BulkCounters

_REFRESH: Final = 0.25  # seconds between pictures
_PATIENCE: Final = 1.0  # seconds that the last picture may take


def show_cursor() -> None:
    """Show the cursor again, which a picture hides until it ends."""
    console(stderr=True).show_cursor()


async def show_live(counters: BulkCounters) -> None:
    """Draw the progress until cancelled."""

    def picture() -> Table:
        rows = Table.grid(expand=True)
        rows.add_row(ProgressBar(total=max(1, counters.total), completed=counters.done))
        rows.add_row(Text(printable("  ".join(counters.parts()))))
        return rows

    async def draw(live: Live) -> None:
        await print_beside(functools.partial(live.update, picture(), refresh=True))

    out = console(stderr=True)
    with suppress(OSError), Live(picture(), console=out, auto_refresh=False) as live:
        try:
            while True:
                counters.read()
                await draw(live)
                await anyio.sleep(_REFRESH)
        finally:
            with anyio.move_on_after(_PATIENCE, shield=True):
                await draw(live)
