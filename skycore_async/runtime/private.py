"""Files for their owner alone: they have numbers and texts, as ledgers, rejects and reports do.

Rule: a file is private from its first byte, as an SSH key is, whatever the umask.  One that
is there already keeps the rights that somebody gave it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

PRIVATE: Final = 0o600


def private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file, as the `opener` of the built-in `open`; what is made is private."""
    return os.open(path, flags | getattr(os, "O_BINARY", 0), PRIVATE)


def write_privately(path: Path, text: str) -> None:
    """Write a file whole or not at all, under a name of nobody's until it is; OSError if not."""
    with ExitStack() as unless_written:
        with NamedTemporaryFile(  # which is private
            "w", encoding="utf-8", dir=path.parent, prefix=".", suffix=".part", delete=False
        ) as file:
            draft = Path(file.name)
            unless_written.callback(draft.unlink)
            file.write(text)
        draft.replace(path)
        unless_written.pop_all()
