"""Where the files are kept that belong to a user rather than to one ledger.

Rules:

* SKYCORE_HOME names another directory, for example for a service or for tests.  Without it the
  extra `cli` is needed, which knows where programs keep their data.
* SKYCORE_HOME is an absolute path.  With a relative one each working directory would have its
  own files, and a STOP recorded in one would not count in another.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from .extras import missing

ENVIRONMENT: Final = "SKYCORE_HOME"


def user_file(name: str) -> Path:
    """Return the path of a file of the user's; its directory may not exist yet.

    Raises OSError if there is no place for it.
    """
    if named := os.environ.get(ENVIRONMENT):
        check_absolute(Path(named), ENVIRONMENT)
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


def check_absolute(path: Path, variable: str) -> None:
    """Raise OSError if an environment variable does not hold an absolute path."""
    if not path.is_absolute():
        raise OSError(
            f"{variable}: it is not an absolute path, so that each directory would have another"
            " list of who may not be sent to: name one that begins at the root"
        )
