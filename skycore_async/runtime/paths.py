"""What stands at a path.

Rule: that it cannot be asked for does not say that nothing is there, as where a user may not look
into a directory.  From Python 3.14 on, `Path.exists` and `Path.is_dir` say so.
"""

from __future__ import annotations

from pathlib import Path
from stat import S_ISDIR


def is_there(path: Path) -> bool:
    """Return whether anything is; OSError where that cannot be told."""
    return _mode_at(path) is not None


def is_directory(path: Path) -> bool:
    """Return whether a directory is; OSError where that cannot be told."""
    mode = _mode_at(path)
    return mode is not None and S_ISDIR(mode)


def _mode_at(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
