"""The list of opt-outs that all ledgers of a user share, and where it is.

Rules:

* There is one list for all ledgers of a user.  A path (`--opt-outs` in the commands) or
  SKYCORE_OPT_OUTS names another.  With `none` there is no list, and a STOP counts only in the
  ledger that heard it.
* The environment has to give an absolute path.  With a relative one each directory would have a
  list of its own, and a STOP that was heard in one would not count in the next.
"""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...errors import ConfigurationError
from ...runtime.user_files import ENVIRONMENT, check_absolute, user_file
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
_IN_MEMORY: Final = "memory"  # all of these share a name: each may have seen nothing of the list


def user_list(given: str | os.PathLike[str] | None, *, another: str = "") -> OptOutList | None:
    """Return the list at the given path, else the user's own; None for `none`.

    `another` says in errors how to name another list.  Raises ConfigurationError for an invalid
    path, for a path from the environment that is not absolute, and if the user has no home
    directory.
    """
    text = None if given is None else os.fspath(given)
    if text == NONE:
        return None
    try:
        if given:
            check_path(given, instead=f"{NONE!r} shares none")
            if text == os.environ.get(LIST_ENVIRONMENT):
                check_absolute(Path(given), LIST_ENVIRONMENT)
            return OptOutList(Path(given), advice=another)
        path = user_file(_NAME)
    except OSError as error:
        raise ConfigurationError(str(error)) from None
    return OptOutList(path, advice=f"; {ENVIRONMENT} names another place for it{another}")


def share_opt_outs(
    ledger: SQLiteLedger | PostgresLedger | MemoryLedger,
    path: str | os.PathLike[str] | None = None,
) -> AbstractAsyncContextManager[None]:
    """Share opt-outs with the user's other ledgers, while `async with` is entered.

    The list is that of `skycore bulk`, `send`, `listen` and `opt-outs`: the file that
    SKYCORE_OPT_OUTS names (`none` for no list), else `opt-outs.db` in the directory of
    SKYCORE_HOME, else in the directory where programs keep their data (extra `cli`).  `path` names
    another list.

    The ledger has to be open, and to stay open until this is left.  Before the first message, all
    numbers on the list are opted out in the ledger, and numbers that are added later within some
    seconds.  A STOP or START that the ledger hears goes onto the list within some seconds, too.

    Raises ConfigurationError for an invalid path, for a path from the environment that is not
    absolute, and if the user has no home directory.  Entering raises LedgerError if the list
    cannot be used.  If it cannot be used later, that is logged, and caught up on as soon as
    possible.
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
