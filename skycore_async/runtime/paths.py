"""Whether there is a file or a directory at a path.

Rule: a path that cannot be looked at, for example in a directory that the user may not read, is
not reported as missing.  From Python 3.14 on, `Path.exists` and `Path.is_dir` report it as
missing.
"""

from __future__ import annotations

from pathlib import Path
from stat import S_ISDIR


def is_there(path: Path) -> bool:
    """Return whether there is anything at the path; raises OSError if that cannot be told."""
    return _mode_at(path) is not None


def is_directory(path: Path) -> bool:
    """Return whether the path is a directory; raises OSError if that cannot be told."""
    mode = _mode_at(path)
    return mode is not None and S_ISDIR(mode)


def _mode_at(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
