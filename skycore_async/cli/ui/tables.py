"""Tables on a terminal, through a pipe, and where there is little room.

Rules:

* What came over the wire is shown without the characters that move a cursor.
* Where nobody looks, a table is as wide as it needs to be, so that no word of
  it is broken; on a terminal too narrow for it, each row is a block of lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def time_of(time: datetime | None) -> str:
    """Write a time for people."""
    return "" if time is None else time.isoformat(sep=" ", timespec="seconds")


def printable(text: str) -> str:
    """Return a text without what would move a terminal's cursor, or end the line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def show_table(out: Console, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as a table, or one after another where a table does not fit."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    kept = list(rows)
    for row in kept:
        table.add_row(*map(Text, row))
    needed = out.measure(table, options=out.options.update(max_width=sys.maxsize)).maximum
    if not out.is_terminal:
        out.width = max(out.width, needed)
        with out.capture() as printed:
            out.print(table)
        # A table is padded to its width, which programs have no use for.
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
