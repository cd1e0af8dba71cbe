"""How settings are checked, where a ledger or a receiver is made.

Rules:

* What is no number would fail only once it is needed, and what then is under way with it.
* A text by which SQLite means no file, or one of another name, is no path: what was to be
  forgotten with the program would be kept, and the next run would send nothing again.
"""

from __future__ import annotations

import os

from ..errors import ConfigurationError


def check_counts(**counts: int) -> None:
    """Raise ConfigurationError where one of these settings is no int above 0."""
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ConfigurationError(f"{name}: {count!r} is no int above 0")


def check_seconds(**times: float) -> None:
    """Raise ConfigurationError where one of these settings is no number of seconds; 0 is one."""
    for name, seconds in times.items():
        if not isinstance(seconds, float | int) or not seconds >= 0:
            raise ConfigurationError(f"{name}: {seconds!r} is no number of seconds")


def check_positive(**times: float) -> None:
    """Raise ConfigurationError where one of these is no number above 0, as infinity is."""
    for name, seconds in times.items():
        if not isinstance(seconds, float | int) or not seconds > 0:
            raise ConfigurationError(f"{name}: {seconds!r} is not more than 0")


def check_path(
    path: str | os.PathLike[str],
    *,
    instead: str = "A ledger that forgets with the program is MemoryLedger()",
) -> None:
    """Raise ConfigurationError for a text that is a path, and is none to SQLite.

    `instead` says what forgets with the program.
    """
    if isinstance(path, str) and (path == ":memory:" or path.startswith("file:")):
        raise ConfigurationError(
            f"path: {path!r} would be a file of that very name: give the path of a file, which is"
            f" {f'./{path}'!r} where this is one. {instead}"
        )
