"""What `skycore prune` does: count what is old, ask, and have the ledger forget it.

Rules:

* Nothing is forgotten without a yes on a terminal, or --yes.  The count for the question changes
  nothing, and may be read while other processes use the ledger.
* Pruning is done also where nothing is old: an earlier prune that was interrupted may have left
  work that no count shows.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import anyio
import attrs

from ...errors import ConfigurationError, LedgerError
from ...ledger.paging import pages_of
from ...ledger.prune_commands import CountPrunable, CountPrunableBeside
from ...ledger.pruning import Pruned, seconds_of
from ...runtime.secret import Secret
from ..ui.confirm import confirm
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.output import Exit, emit, fail, number_of, say


@attrs.frozen(kw_only=True)
class PruneOptions:
    """The options, by their names."""

    older_than: timedelta
    is_dry_run: bool
    yes: bool


_KEPT: Final = (
    "{doubts} as old in doubt: that is kept, with its numbers, until it is settled or sent again"
    " (see `skycore settle`)."
)


def prune(named: Secret, options: PruneOptions, *, as_json: bool) -> Exit:
    """Forget what is old in the ledger `named`, or say how much that is; return the exit code."""
    try:
        before = time.time() - seconds_of(options.older_than)
    except ConfigurationError as error:
        fail(f"--older-than: {str(error).removeprefix('older_than: ')}")
    target = ledger_target(named)
    target.check()
    if options.is_dry_run or not options.yes:
        try:
            found = anyio.run(_count, target, before)
        except LedgerError as error:
            fail(str(error))
        if options.is_dry_run:
            _show(found, before, "to forget; nothing was changed", as_json=as_json)
            return Exit.DONE
        _ask(found, before)
    try:
        # The question named this time, however long the answer took.
        age = max(options.older_than, timedelta(seconds=time.time() - before))
        done = anyio.run(_prune, target, age)
    except LedgerError as error:
        fail(str(error))
    if isinstance(done, LedgerError):
        fail(str(done), Exit.NOT_ALL_WELL)
    _show(done, before, "forgotten", as_json=as_json)
    return Exit.DONE


async def _count(target: LedgerTarget, before: float) -> Pruned:
    messages = 0
    async with target.to_read() as ledger:
        notifications, in_doubt = await ledger.run(CountPrunableBeside(before=before))
        async for part in pages_of(
            ledger, lambda after: CountPrunable(before=before, after=after)
        ):
            messages += part.messages
            notifications += part.notifications
    return Pruned(messages=messages, notifications=notifications, in_doubt=in_doubt)


def _ask(found: Pruned, before: float) -> None:
    """Ask for a yes where there is something to forget, or fail."""
    if not (found.messages or found.notifications):
        return
    question = f"Forget {_words(found, before)}? It cannot be undone."
    confirm(question, otherwise="nothing was forgotten")


async def _prune(target: LedgerTarget, older_than: timedelta) -> Pruned | LedgerError:
    """Return the result, or what interrupted it.

    Raises LedgerError where pruning cannot begin.
    """
    async with target.to_write() as ledger:
        try:
            return await ledger.prune(older_than=older_than)
        except LedgerError as error:
            return error


def _words(found: Pruned, before: float) -> str:
    messages = number_of(found.messages, "message")
    notifications = number_of(found.notifications, "notification")
    time = datetime.fromtimestamp(before, UTC)
    return f"{messages} and {notifications} from before {time:%Y-%m-%d %H:%M}Z"


def _show(found: Pruned, before: float, what: str, *, as_json: bool) -> None:
    if as_json:
        emit({**attrs.asdict(found), "before": datetime.fromtimestamp(before, UTC)})
        return
    say(f"{_words(found, before)} {what}.")
    if found.in_doubt:
        say(_KEPT.format(doubts=number_of(found.in_doubt, "message")))
