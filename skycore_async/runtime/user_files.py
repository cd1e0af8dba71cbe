"""Where what belongs to a user and not to one ledger is kept.

Rules:

* SKYCORE_HOME names another directory, as for a service or for tests.  Without it the extra `cli`
  is needed, which knows where programs keep their data.
* It names a whole path.  By another each directory would have files of its own, and a STOP that
  was heard in one would not count in the next.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from .extras import missing

ENVIRONMENT: Final = "SKYCORE_HOME"


def user_file(name: str) -> Path:
    """Return the path of a file of the user's, whose directory may not be there yet.

    Raises OSError where there is no place for it.
    """
    if named := os.environ.get(ENVIRONMENT):
        check_whole(Path(named), ENVIRONMENT)
        return Path(named) / name
    try:
        import platformdirs  # noqa: PLC0415 - not needed where the directory is named
    except ImportError as error:
        raise missing("cli", error) from error
    try:
        directory = platformdirs.user_data_path("skycore", appauthor=False)
    except RuntimeError:
        directory = Path()
    if not directory.is_absolute():  # as its earlier versions have it below `~`
        raise OSError(
            f"this user has no home directory to keep {name} in: set {ENVIRONMENT} to a directory"
        )
    return directory / name


def check_whole(path: Path, variable: str) -> None:
    """Raise OSError where a variable of the environment names no whole path."""
    if not path.is_absolute():
        raise OSError(
            f"{variable}: it is no whole path, so that each directory would have another list of"
            " who may not be sent to: name one that begins at the root"
        )
