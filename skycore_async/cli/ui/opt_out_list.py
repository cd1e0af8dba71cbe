"""The list of opt-outs that commands share: that of --opt-outs, else the user's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from ...errors import ConfigurationError, LedgerError
from ...ledger.base import BaseLedger
from ...ledger.sqlite.opt_out_list import OptOutList
from ...ledger.sqlite.opt_out_sharing import Telling, sharing_at_once
from ...ledger.sqlite.user_opt_outs import user_list
from ...runtime.secret import Secret
from .ledger_target import ledger_target
from .output import NO_STREAM, fail


def list_of(given: str | None) -> OptOutList | None:
    """Return the list that was named, else the user's own; None for `none`.

    Fails if the environment names no absolute path, or there is no home.
    """
    if given == "-":
        fail(f"--opt-outs -: {NO_STREAM}")
    try:
        return user_list(given, another="; --opt-outs names another list, or none")
    except ConfigurationError as error:
        fail(str(error))


@asynccontextmanager
async def sharing(
    ledger: BaseLedger | None, shared: OptOutList | None, *, name: str
) -> AsyncGenerator[Telling | None]:
    """Share opt-outs between a ledger and a list, if there is one, while this is open.

    Yields the function that tells the list at once.
    """
    if ledger is None or shared is None:
        yield None
        return
    async with sharing_at_once(ledger, shared, name=name) as telling:
        yield telling


def share_once(named: Secret, shared: OptOutList | None) -> None:
    """Share opt-outs between a ledger and a list once; fail where either cannot be used."""

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
    """Return a path for people, with ~ for the home directory."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):  # it is elsewhere, or there is none
        return str(path)
