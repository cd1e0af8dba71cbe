"""Lines for people, wrapped to the width of their terminal.

Rules:

* A line is broken between words, and never within one, as an option or an address is.
* What is to be typed, which stands between backquotes, is on one line, so that it can be copied.
* What stands beside a name, with two blanks or more between, goes on below itself.
* Through a pipe a line is as long as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import IO, Final

_PIECES: Final = re.compile(r"[^\s`]*`[^`]*`\S*|\S+")
_BESIDE: Final = re.compile(r"\s*\S.{0,30}?\s{2,}(?=\S)")
_LEAST: Final = 30  # columns, of which a part can be left free below a name


def wrapped(line: str, width: int) -> str:
    """Return a line as several, none of which is wider than it must be."""
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
    """Return how wide the terminal of a stream is; None where it is none."""
    try:
        if not stream.isatty():
            return None
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):  # of a stream without a number, or of COLUMNS
        return None
