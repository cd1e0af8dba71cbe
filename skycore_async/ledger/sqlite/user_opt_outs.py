"""The list of who may not be sent to that all ledgers of a user share, and where it is.

Rules:

* There is one for all ledgers of a user.  A path names another, in the commands that of
  `--opt-outs`, and so does SKYCORE_OPT_OUTS; `none` does without, so that a STOP counts in the
  ledger alone that heard it.
* The environment names a whole path.  By another each directory would have a list of its own, and
  a STOP that was heard in one would not count in the next.
"""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...errors import ConfigurationError
from ...runtime.user_files import ENVIRONMENT, check_whole, user_file
from ..setting_checks import check_path
from .ledger import SQLiteLedger
from .memory import MemoryLedger
from .opt_out_list import OptOutList, name_of_file
from .opt_out_sharing import sharing_opt_outs

if TYPE_CHECKING:
    from ..postgres.ledger import PostgresLedger

LIST_ENVIRONMENT: Final = "SKYCORE_OPT_OUTS"
NONE: Final = "none"
_NAME: Final = "opt-outs.db"
_IN_MEMORY: Final = "memory"  # of each of these the list thinks that it may have seen nothing


def user_list(given: str | os.PathLike[str] | None, *, another: str = "") -> OptOutList | None:
    """Return the list that was given, else the user's own; None for `none`.

    `another` says in its errors how another one is named.
    Raises ConfigurationError for an invalid path, where the environment names no whole one, or
    there is no home.
    """
    text = None if given is None else os.fspath(given)
    if text == NONE:
        return None
    try:
        if given:
            check_path(given, instead=f"{NONE!r} shares none")
            if text == os.environ.get(LIST_ENVIRONMENT):
                check_whole(Path(given), LIST_ENVIRONMENT)
            return OptOutList(Path(given), advice=another)
        path = user_file(_NAME)
    except OSError as error:
        raise ConfigurationError(str(error)) from None
    return OptOutList(path, advice=f"; {ENVIRONMENT} names another place for it{another}")


def share_opt_outs(
    ledger: SQLiteLedger | PostgresLedger | MemoryLedger,
    path: str | os.PathLike[str] | None = None,
) -> AbstractAsyncContextManager[None]:
    """Share who may not be sent to with the user's other ledgers, while `async with` is entered.

    The list is that of `skycore bulk`, `send`, `listen` and `opt-outs`: what SKYCORE_OPT_OUTS
    names (`none` for none), else `opt-outs.db` in the directory of SKYCORE_HOME, else where
    programs keep their data (extra `cli`).  `path` names another one.

    The ledger is open by then, and stays so until it is left.  Who is on the list is opted out
    in the ledger before the first message, and within some seconds whoever is put on it later;
    what the ledger hears, STOP or START, goes onto the list as soon.

    Raises ConfigurationError for an invalid path, where a variable names no whole one, or none
    names any and the user has no home directory, and entering LedgerError where the list cannot
    be used.  Where it cannot be later, that is logged, and made up for as soon as it can be.
    """
    given = os.environ.get(LIST_ENVIRONMENT) if path is None else path
    shared = user_list(given, another=f"; {LIST_ENVIRONMENT} names another list, or none")
    if shared is None:
        return nullcontext()
    return sharing_opt_outs(ledger, shared, name=_full_name(ledger))


def _full_name(ledger: SQLiteLedger | PostgresLedger | MemoryLedger) -> str:
    """Return the name by which the list knows a ledger."""
    if isinstance(ledger, MemoryLedger):
        return _IN_MEMORY
    return name_of_file(ledger.path) if isinstance(ledger, SQLiteLedger) else ledger.name
