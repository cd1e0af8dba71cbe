"""Tables on a wide terminal, on a narrow one, and through a pipe.

Rules:

* What came over the wire is shown without the characters that move a cursor.
* Through a pipe a table is as wide as it needs to be, so that no cell is
  wrapped; on a terminal too narrow for it, each row is a block of lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

from ...runtime.extras import missing
from .output import printable

try:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
except ImportError as error:
    raise missing("cli", error) from error


def console(*, stderr: bool = False) -> Console:
    """Return the console to print tables and progress on; plain text where it is no terminal."""
    return Console(stderr=stderr, highlight=False)


def time_of(time: datetime | None) -> str:
    """Return a time as people read it."""
    return "" if time is None else time.isoformat(sep=" ", timespec="seconds")


def show_table(out: Console, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as a table, or one after another where a table does not fit."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    kept = [list(map(printable, row)) for row in rows]
    for row in kept:
        table.add_row(*map(Text, row))
    needed = out.measure(table, options=out.options.update(max_width=sys.maxsize)).maximum
    if not out.is_terminal:
        out.width = max(out.width, needed)
        with out.capture() as printed:
            out.print(table)
        # rich pads each line to the table's width.
        out.file.writelines(f"{line.rstrip()}\n" for line in printed.get().splitlines())
        return
    if needed <= out.width:
        out.print(table)
        return
    for row in kept:
        for heading, cell in zip(headings, row, strict=True):
            if cell:
                out.print(Text.assemble((f"{heading} ", "bold"), cell), soft_wrap=True)
        out.print()
