"""Files that only their owner may read, as they hold numbers and texts: ledgers, rejects, reports.

Rule: a file is private from its first byte, as an SSH key is, whatever the umask.  A file that
exists already keeps its permissions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from stat import S_IMODE
from tempfile import NamedTemporaryFile
from typing import IO, Final

PRIVATE: Final = 0o600


def private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file, as the `opener` of the built-in `open`; a new file is private."""
    return os.open(path, flags | getattr(os, "O_BINARY", 0), PRIVATE)


def write_privately(path: Path, text: str) -> None:
    """Write a file whole or not at all, through a temporary file; raises OSError if it fails."""
    with written_privately(path) as file:
        file.write(text.encode())


@contextmanager
def written_privately(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write to, which replaces `path` once complete; raises OSError if it fails.

    A link's target is replaced, not the link; a pipe or device is written to directly.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():  # nothing is to stand where /dev/null was
        with path.open("wb") as there:
            yield there
        return
    with ExitStack() as unless_written:
        with NamedTemporaryFile(  # which is private
            dir=path.parent, prefix=".", suffix=".part", delete=False
        ) as file:
            draft = Path(file.name)
            unless_written.callback(draft.unlink)
            yield file
        with suppress(FileNotFoundError):  # it is new
            draft.chmod(S_IMODE(path.stat().st_mode))
        draft.replace(path)
        unless_written.pop_all()
