"""Checks of settings, made when a ledger or a receiver is.

Rules:

* A setting that is no number fails here.  Otherwise it would fail once it is needed, together with
  what is under way then.
* A text that SQLite would not take as the name of a file is no path.  Otherwise messages that were
  to be forgotten with the program would be kept, and the next run would not send them.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ConfigurationError


def check_counts(**counts: int) -> None:
    """Raise ConfigurationError if one of these settings is no int above 0."""
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ConfigurationError(f"{name}: {count!r} is no int above 0")


def check_seconds(**times: float) -> None:
    """Raise ConfigurationError if one of these settings is no number of seconds from 0 on."""
    for name, seconds in times.items():
        if not isinstance(seconds, float | int) or not seconds >= 0:
            raise ConfigurationError(f"{name}: {seconds!r} is no number of seconds")


def check_positive(**times: float) -> None:
    """Raise ConfigurationError if one of these settings is no number above 0; infinity is one."""
    for name, seconds in times.items():
        if not isinstance(seconds, float | int) or not seconds > 0:
            raise ConfigurationError(f"{name}: {seconds!r} is not more than 0")


def check_path(
    path: str | os.PathLike[str],
    *,
    instead: str = "A ledger that forgets with the program is MemoryLedger()",
) -> None:
    """Raise ConfigurationError for a path without a name, or one that is no file to SQLite.

    `instead` is the advice for who wants nothing to be kept.
    """
    if isinstance(path, str) and (path == ":memory:" or path.startswith("file:")):
        raise ConfigurationError(
            f"path: {path!r} would be a file of that very name: give the path of a file, which is"
            f" {f'./{path}'!r} where this is one. {instead}"
        )
    if not Path(path).name:  # as an environment variable that is not set
        raise ConfigurationError(
            f"path: {os.fspath(path)!r} names no file: give the path of a file. {instead}"
        )
