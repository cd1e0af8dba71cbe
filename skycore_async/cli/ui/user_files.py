"""Where what belongs to a user and not to one ledger is kept.

Rule: SKYCORE_HOME names another directory, as for a service or for tests.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ...runtime.extras import missing

try:
    import platformdirs
except ImportError as error:
    raise missing("cli", error) from error

ENVIRONMENT: Final = "SKYCORE_HOME"


def user_file(name: str) -> Path:
    """Return the path of a file of the user's, whose directory may not be there yet."""
    named = os.environ.get(ENVIRONMENT)
    directory = Path(named) if named else platformdirs.user_data_path("skycore", appauthor=False)
    return directory / name
