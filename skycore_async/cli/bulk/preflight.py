"""What a run would do with the rows of a file, by what the ledger knows of them.

Strategy: after the file was read to its end, its rows are looked up in the ledger, many at a time,
with the same functions that a run uses.  So the estimate counts what a run would send.

Rules:

* Nothing is written: the user has not said yes yet.
* What a report proved not sent counts as to send.  A number that has opted out does not, by the
  ledger or by the user's list, which a run shares with the ledger first.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import anyio

from ...errors import LedgerError
from ...ledger.base import BaseLedger
from ...ledger.list_commands import GetLastTurn
from ...ledger.model import MessageState, SendIntent
from ...ledger.sqlite.opt_out_list import OptOutCheck
from ...ledger.sqlite.read_only import looked_at
from ...messages import Outcome
from ..ui.ledger_target import LedgerFile
from ..ui.marks import marks
from ..ui.outcome_kinds import OutcomeKind, outcome_kind
from ..ui.output import fail
from .confirmed_ledger import LedgerCounts, doubts_in
from .estimate import Survey
from .lookup import entries_for, outcomes, reconsider_doubts
from .rejects import Rejects
from .rows import JudgedRow, MessageRow, RejectedRow, RejectionKind

AT_A_TIME: Final = 500  # rows that are looked up together


async def survey_by_ledger(
    path: Path,
    rows: Iterable[JudgedRow],
    survey: Survey,
    *,
    resend_in_doubt: bool,
    resends_once: bool,
    knows_sender: bool,
    alone: bool,
    is_opted_out: OptOutCheck,
) -> LedgerCounts:
    """Show all rows to a survey, with what the ledger knows of them; return what the ledger has.

    For `resend_in_doubt` and `resends_once` see `outcomes`.
    `is_opted_out` gets a number and what the ledger has of it, and says whether it has opted out.
    Without `knows_sender`, a key that was sent counts as sent whatever its content: the content
    includes the sender, which is not given yet.
    Raises LedgerError where the ledger cannot be read, and with `alone` LedgerInUse where another
    process has it open, which may be sending from it.
    """
    async with looked_at(path, alone=alone) as ledger:
        summary = await ledger.summary()
        last_turn = await ledger.run(GetLastTurn())
        doubts = await doubts_in(ledger) if resend_in_doubt and not resends_once else None
        await _show_all(
            ledger,
            rows,
            survey,
            resend_in_doubt=resend_in_doubt,
            resends_once=resends_once,
            knows_sender=knows_sender,
            is_opted_out=is_opted_out,
        )
    in_doubt = summary.states.get(MessageState.IN_DOUBT, 0)
    return LedgerCounts(
        messages=summary.total, in_doubt=in_doubt, last_turn=last_turn, doubts=doubts
    )


async def survey_by_database(
    ledger: AbstractAsyncContextManager[BaseLedger],
    rows: Iterable[JudgedRow],
    survey: Survey,
    *,
    knows_sender: bool,
    is_opted_out: OptOutCheck,
) -> None:
    """Show all rows to a survey, with what the ledger of a cluster knows of them.

    For the rest see `survey_by_ledger`.  Nothing is returned of the ledger's size: counting all
    messages takes a database long.
    """
    async with ledger as opened:
        await _show_all(
            opened,
            rows,
            survey,
            resend_in_doubt=False,
            resends_once=False,
            knows_sender=knows_sender,
            is_opted_out=is_opted_out,
        )


async def _show_all(
    ledger: BaseLedger,
    rows: Iterable[JudgedRow],
    survey: Survey,
    *,
    resend_in_doubt: bool,
    resends_once: bool,
    knows_sender: bool,
    is_opted_out: OptOutCheck,
) -> None:
    find = functools.partial(outcomes, resend_in_doubt=resend_in_doubt, resends_once=resends_once)
    rest = iter(rows)
    while batch := list(itertools.islice(rest, AT_A_TIME)):
        current = await reconsider_doubts(ledger, batch)
        changed = [row for row, read in zip(current, batch, strict=True) if row is not read]
        survey.revived += sum(isinstance(row, MessageRow) for row in changed)
        survey.settled += sum(_is_sent(row) for row in changed)
        doubts = await _doubts(ledger, current) if resend_in_doubt else frozenset()
        for row, kind in await _kinds(ledger, current, is_opted_out, find):
            if kind is OutcomeKind.ALREADY_SENT and not knows_sender:
                kind = OutcomeKind.ACCEPTED  # noqa: PLW2901
            if isinstance(row, MessageRow) and kind is not None:
                survey.see_known(row, kind)
            else:
                survey.see(row, in_doubt=row.row.line in doubts)


def _is_sent(row: JudgedRow) -> bool:
    return isinstance(row, RejectedRow) and row.kind is RejectionKind.DUPLICATE


async def _kinds(
    ledger: BaseLedger,
    rows: Iterable[JudgedRow],
    is_opted_out: OptOutCheck,
    find: Callable[..., Awaitable[list[tuple[MessageRow, Outcome | SendIntent]]]],
) -> list[tuple[JudgedRow, OutcomeKind | None]]:
    """Return each row with the kind of its recorded outcome; None where it is to be sent."""
    messages = [row for row in rows if isinstance(row, MessageRow)]
    found = await find(ledger, messages)
    numbers = [row.message.to for row, known in found if isinstance(known, SendIntent)]
    entries = await entries_for(ledger, numbers)
    kinds: list[tuple[JudgedRow, OutcomeKind | None]] = [
        (row, None) for row in rows if isinstance(row, RejectedRow)
    ]
    for row, known in found:
        if isinstance(known, SendIntent):
            is_out = is_opted_out(row.message.to, entries)
            kinds.append((row, OutcomeKind.OPTED_OUT if is_out else None))
        else:
            kinds.append((row, outcome_kind(known)))
    return kinds


async def _doubts(ledger: BaseLedger, rows: Iterable[JudgedRow]) -> frozenset[int]:
    """Return the lines of the rows whose messages the ledger has in doubt."""
    messages = [row for row in rows if isinstance(row, MessageRow)]
    found = await outcomes(ledger, messages, resend_in_doubt=False)
    return frozenset(
        row.row.line
        for row, known in found
        if not isinstance(known, SendIntent) and outcome_kind(known) is OutcomeKind.IN_DOUBT
    )


def write_rejects(ledger: Path | None, rows: Iterable[JudgedRow], rejects: Rejects) -> None:
    """Write the rejects of a dry run, marked by what the ledger knows where there is one."""
    if ledger is not None and ledger.exists():
        anyio.run(_write_by_ledger, LedgerFile(ledger), rows, rejects)
        return
    for row in rows:
        if isinstance(row, RejectedRow):
            rejects.write(row.row, row.reason)


async def _write_by_ledger(file: LedgerFile, rows: Iterable[JudgedRow], rejects: Rejects) -> None:
    try:
        async with file.to_read() as ledger:
            left = iter(rows)
            while some := list(itertools.islice(left, AT_A_TIME)):
                known = await reconsider_doubts(ledger, some)
                rejected = [row for row in known if isinstance(row, RejectedRow)]
                await reject(ledger, rejected, rejects)
    except LedgerError as error:
        fail(str(error))


async def reject(ledger: BaseLedger, rows: Iterable[RejectedRow], rejects: Rejects) -> list[str]:
    """Write rows to the rejects, and return the reasons that were written.

    A reason is marked where the row's message may have gone out.
    """
    some = list(rows)
    known = await marks(ledger, [row.key for row in some if row.key is not None])
    reasons = [row.marked(known.get(row.key or "", "")) for row in some]
    for row, reason in zip(some, reasons, strict=True):
        rejects.write(row.row, reason)
    return reasons
