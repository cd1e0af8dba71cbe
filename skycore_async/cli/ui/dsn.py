"""How the commands name a PostgreSQL database, and reach it.

Rules:

* A DSN may hold a password: it is never shown, the database's own name is.
* It may come from SKYCORE_DSN, where others on the machine do not see it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .output import Exit, fail

if TYPE_CHECKING:
    from ...postgres.schema import Connection

T = TypeVar("T")

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


def dsn_and_words(words: Sequence[str], *, names: str) -> tuple[str, list[str]]:
    """Return the DSN, given first or by the environment, and the words after it.

    `names` says what those words are; more or fewer of them end the program.
    """
    given = words[0] if words and is_dsn(words[0]) else None
    rest = list(words[1:] if given else words)
    if len(rest) != len(names.split()):
        fail(f"name {names}, after the DSN if {ENVIRONMENT} is not set")
    return dsn_of(given), rest


def name_of_database(dsn: str) -> str:
    """Return what the database is called without its password, or fail where the DSN is none."""
    from ...errors import ConfigurationError  # noqa: PLC0415 - the extra `postgres`
    from ...postgres.connection import Database  # noqa: PLC0415 - the extra `postgres`

    try:
        return Database(dsn).name
    except ConfigurationError as error:
        fail(str(error))


def within(dsn: str, step: Callable[[Connection], T], *, is_new: bool = False) -> T:
    """Return what `step` does with a connection; end the program where the database fails.

    Where `is_new`, the tables may still be missing.
    """
    import psycopg  # noqa: PLC0415 - the extra `postgres`

    from ...errors import CampaignError, ConfigurationError, LedgerError  # noqa: PLC0415 - the extra `postgres`
    from ...postgres.connection import Database, describe_error  # noqa: PLC0415 - the extra `postgres`

    database: Any = None
    try:
        database = Database(dsn)
        with database.connect() if is_new else database.open() as connection:
            return step(connection)
    except (CampaignError, ConfigurationError, LedgerError) as error:
        fail(str(error))
    except psycopg.Error as error:
        fail(f"{database.name}: {describe_error(error)}", Exit.NOT_ALL_WELL)
