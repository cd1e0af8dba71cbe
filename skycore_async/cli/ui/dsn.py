"""How a PostgreSQL database is named on the command line.

Rules:

* A DSN may hold a password: it is never shown, the database's own name is.
* It may come from SKYCORE_DSN, where others on the machine do not see it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .output import fail

ENVIRONMENT: Final = "SKYCORE_DSN"
_SCHEMES: Final = ("postgresql://", "postgres://")
_SIGNS: Final = re.compile("=|://")


def is_dsn(text: str) -> bool:
    """Return whether a text names a database and no file.

    A text with a misspelt scheme does, too: it may hold a password.
    """
    return text.startswith(_SCHEMES) or (bool(_SIGNS.search(text)) and not _is_there(text))


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # as where it is too long for a name
        return False


def dsn_of(given: str | None) -> str:
    """Return the DSN that was given, or the one of the environment, or fail."""
    dsn = given or os.environ.get(ENVIRONMENT, "")
    if not dsn:
        fail(f"name the database, as postgresql://user@host/database, or set {ENVIRONMENT}")
    return dsn


def dsn_and_names(arguments: Sequence[str], *, names: str) -> tuple[str, list[str]]:
    """Return the DSN, given first or by the environment, and the arguments after it.

    `names` says what those arguments are; more or fewer of them end the program.
    """
    given = arguments[0] if arguments and is_dsn(arguments[0]) else None
    rest = list(arguments[1:] if given else arguments)
    if len(rest) != len(names.split()):
        fail(f"name {names}, after the DSN if {ENVIRONMENT} is not set")
    return dsn_of(given), rest
