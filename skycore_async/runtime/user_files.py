"""Where what belongs to a user and not to one ledger is kept.

Rule: SKYCORE_HOME names another directory, as for a service or for tests.  Without it the extra
`cli` is needed, which knows where programs keep their data.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from .extras import missing

ENVIRONMENT: Final = "SKYCORE_HOME"


def user_file(name: str) -> Path:
    """Return the path of a file of the user's, whose directory may not be there yet."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named) / name
    try:
        import platformdirs  # noqa: PLC0415 - not needed where the directory is named
    except ImportError as error:
        raise missing("cli", error) from error
    return platformdirs.user_data_path("skycore", appauthor=False) / name
