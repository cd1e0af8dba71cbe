"""The list of who may not be sent to that a user's commands share, and where it is.

Rule: there is one for all ledgers of a user.  `--opt-outs FILE`, or SKYCORE_OPT_OUTS, names
another; `none` does without, so that a STOP counts in the ledger alone that heard it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio

from ...errors import LedgerError
from ...ledger.base import BaseLedger
from ...ledger.sqlite.opt_out_list import OptOutList
from ...ledger.sqlite.opt_out_sharing import sharing_opt_outs
from ...runtime.secret import Secret
from .ledger_target import ledger_target
from .output import fail
from .user_files import ENVIRONMENT, user_file

NONE: Final = "none"
_NAME: Final = "opt-outs.db"
_ANOTHER: Final = "; --opt-outs names another list, or none"


def list_of(given: str | None) -> OptOutList | None:
    """Return the list that was named, else the user's own; None for `none`."""
    if given == NONE:
        return None
    if given:
        return OptOutList(Path(given), advice=_ANOTHER)
    return OptOutList(
        user_file(_NAME), advice=f"; {ENVIRONMENT} names another place for it{_ANOTHER}"
    )


@asynccontextmanager
async def sharing(
    ledger: BaseLedger | None, shared: OptOutList | None, *, name: str
) -> AsyncGenerator[None]:
    """Share a ledger's opt-outs with a list, where there are both, while this is entered."""
    if ledger is None or shared is None:
        yield
        return
    async with sharing_opt_outs(ledger, shared, name=name):
        yield


def share_once(named: Secret, shared: OptOutList | None) -> None:
    """Tell a ledger and a list what the other has, or fail where either cannot be used."""

    async def share() -> None:
        target = ledger_target(named)
        async with target.to_write() as ledger, sharing(ledger, shared, name=target.full_name):
            pass

    if shared is not None:
        try:
            anyio.run(share)
        except LedgerError as error:
            fail(str(error))


def shown(path: Path) -> str:
    """Return a path for people, from their home directory on."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except ValueError:
        return str(path)
