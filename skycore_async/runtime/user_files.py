"""Where the files are kept that belong to a user rather than to one ledger.

Rules:

* SKYCORE_HOME names another directory, for example for a service or for tests.  Without it the
  extra `cli` is needed, which knows where programs keep their data.
* SKYCORE_HOME is an absolute path.  With a relative one each working directory would have its
  own files, and a STOP recorded in one would not count in another.
* XDG_DATA_HOME does not count.  A shell may have it while cron and services do not, and each
  would have its own files.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from .extras import missing

ENVIRONMENT: Final = "SKYCORE_HOME"

_XDG: Final = "XDG_DATA_HOME"
_BELOW_HOME: Final = "Library/Application Support" if sys.platform == "darwin" else ".local/share"


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
    return _usual(directory, name) / name


def _usual(directory: Path, name: str) -> Path:
    """Return the directory that this user has without XDG_DATA_HOME.

    Raises OSError if a file of that name is where XDG_DATA_HOME says.
    """
    usual = directory
    if (named := os.environ.get(_XDG)) and directory.parent == Path(named):
        with suppress(RuntimeError):  # there is no home directory
            usual = Path.home() / _BELOW_HOME / directory.name
    # By a link they may be one: a home directory often has another name as well.
    if (directory / name).exists() and directory.resolve() != usual.resolve():
        instead = f"move what is in {directory} to {usual}, or set {ENVIRONMENT} to {directory}"
        if (usual / name).exists():
            instead = (
                f"there is one in {usual} as well. Bring what is in both into one, opt-outs by"
                f" `skycore opt-outs export` and `import`, and set {ENVIRONMENT} to its directory"
            )
        raise OSError(
            f"{directory / name} is where {_XDG} says, which cron and services may not know:"
            f" {instead} wherever `skycore` runs"
        )
    return usual


def check_absolute(path: Path, variable: str) -> None:
    """Raise OSError if an environment variable does not hold an absolute path."""
    if not path.is_absolute():
        raise OSError(
            f"{variable}: it is not an absolute path, so that each directory would have another"
            " list of who may not be sent to: name one that begins at the root"
        )
