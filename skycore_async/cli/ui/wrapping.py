"""Lines for people, wrapped to the width of their terminal.

Rules:

* A line is broken between words, and never within one, as an option or an address is.
* A command to be typed, which is in backquotes, stays on one line, so that it can be copied.
* A text beside a name, after two blanks or more, continues below its own beginning.
* Through a pipe lines are not wrapped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import IO, Final

_PIECES: Final = re.compile(r"[^\s`]*`[^`]*`\S*|\S+")
_BESIDE: Final = re.compile(r"\s*\S.{0,30}?\s{2,}(?=\S)")
_LEAST: Final = 30  # columns that a text beside a name needs; else it begins at the margin


def wrapped(line: str, width: int) -> str:
    """Return a line as several that fit the width, as far as words and commands allow."""
    return line if len(line) <= width else "\n".join(_lines(line, width))


def _lines(line: str, width: int) -> Iterator[str]:
    name = _BESIDE.match(line)
    indent = " " * name.end() if name and width - name.end() >= _LEAST else ""
    begin = end = 0
    for piece in _PIECES.finditer(line):
        used = piece.end() - begin + (len(indent) if begin else 0)
        if used > width and begin < end and piece.start() > len(indent):
            yield (indent if begin else "") + line[begin:end]
            begin = piece.start()
        end = piece.end()
    yield (indent if begin else "") + line[begin:end]


def width_of(stream: IO[str]) -> int | None:
    """Return the width of a stream's terminal in columns; None where there is no terminal."""
    try:
        if not stream.isatty():
            return None
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):  # of a stream without a number, or of COLUMNS
        return None
