"""Tables on a wide terminal, on a narrow one, and through a pipe.

Rules:

* What came over the wire is shown without the characters that move a cursor.
* Through a pipe a table is as wide as it needs to be, so that no cell is
  wrapped; on a terminal too narrow for it, cells are wrapped between words, and where
  a word would be broken, each row is a block of lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from ...runtime.extras import missing
from .output import printable

try:
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
except ImportError as error:
    raise missing("cli", error) from error


_Columns = Sequence[Sequence[Text]]  # each with its heading first

_PLAIN: Final[Mapping[str, str]] = MappingProxyType({})


def console(*, stderr: bool = False) -> Console:
    """Return the console to print tables and progress on; plain text where it is no terminal."""
    return Console(stderr=stderr, highlight=False)


def show_table(
    out: Console,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    spare: Sequence[str] = (),
    styles: Mapping[str, str] = _PLAIN,
) -> None:
    """Print rows as a table; on a terminal too narrow for their words, one after another.

    `spare` columns are left out first, in that order, as far as a terminal has no room for them.
    `styles` are the colours of cells, by their text.
    """
    lines = [[*headings], *(list(map(printable, row)) for row in rows)]
    columns = [
        [Text(cell, style=styles.get(cell, "")) for cell in column]
        for column in zip(*lines, strict=True)
    ]
    if not out.is_terminal:
        _print_whole(out, columns)
        return
    for heading in spare:
        if _width(_least(columns)) > out.width:
            columns = [column for column in columns if column[0].plain != heading]
    least = _least(columns)
    if _width(least) <= out.width:
        out.print(_table(columns, _narrowed(_needed(columns), least, out.width)))
    else:
        _print_blocks(out, lines)


def _needed(columns: _Columns) -> list[int]:
    """Return the width of each column without wrapped cells."""
    return [max(cell.cell_len for cell in column) for column in columns]


def _least(columns: _Columns) -> list[int]:
    """Return the width of each column without broken words."""
    return [
        max(cell_len(word) for cell in column for word in cell.plain.split()) for column in columns
    ]


def _width(columns: Sequence[int]) -> int:
    """Return the width of a table: its columns, two blanks between them, and one at the end."""
    return sum(columns) + 2 * len(columns) - 1


def _narrowed(needed: Sequence[int], least: Sequence[int], most: int) -> list[int]:
    """Return the widths of columns in a table of `most`: the widest one gives way first."""
    widths = [*needed]
    while _width(widths) > most:
        yielding = [place for place, width in enumerate(widths) if width > least[place]]
        widths[max(yielding, key=widths.__getitem__)] -= 1
    return widths


def _table(columns: _Columns, widths: Sequence[int]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column[0], width=width)
    for row in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*row)
    return table


def _print_whole(out: Console, columns: _Columns) -> None:
    widths, before = _needed(columns), out.width
    out.width = max(before, _width(widths))
    with out.capture() as printed:
        out.print(_table(columns, widths))
    out.width = before
    # `rich` pads each line to the width of the table.
    out.file.writelines(f"{line.rstrip()}\n" for line in printed.get().splitlines())


def _print_blocks(out: Console, lines: Sequence[Sequence[str]]) -> None:
    for row in lines[1:]:
        for heading, cell in zip(lines[0], row, strict=True):
            if cell:
                out.print(Text.assemble((f"{heading} ", "bold"), cell), soft_wrap=True)
        out.print()
