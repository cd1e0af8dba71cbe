"""What a ledger knows of the rows of a file, looked up many at a time.

Rules:

* Where several rows have one number under different keys, and the ledger says that one of them
  went out, that row counts and the others are its duplicates, whatever their order.
* A campaign that began without --country may go on with it.  What was accepted, or may have been
  sent, to the number as it is written in the file is not sent again to the number as it is read.
* Where a file of rejects calls a row in doubt, the ledger decides whether it still is.
* With --yes, --resend-in-doubt may be repeated without anybody looking, as by a loop.  It then
  sends a doubt again once: a message that is in doubt after it was sent again stays in doubt.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence

from ...errors import KeyConflict, LedgerError, Rejected
from ...ledger.base import BaseLedger
from ...ledger.commands import GetOptOuts
from ...ledger.content import content_of
from ...ledger.model import SendIntent, Submission
from ...ledger.opt_outs import OptOut, all_spellings
from ...ledger.rules import outcome_of
from ...messages import SMS, Failed, Outcome
from ...protocol.numbers import may_be_same
from ..ui.marks import may_have_gone_out
from .doubtful_rows import reconsidered
from .rows import JudgedRow, MessageRow, RejectedRow, RejectionKind


async def reconsider_doubts(ledger: BaseLedger, rows: Iterable[JudgedRow]) -> list[JudgedRow]:
    """Return the rows; those that a file of rejects calls in doubt as what the ledger says."""
    return [
        await _reconsidered(ledger, row)
        if isinstance(row, RejectedRow) and row.kind is RejectionKind.IN_DOUBT and row.key
        else row
        for row in rows
    ]


async def _reconsidered(ledger: BaseLedger, row: RejectedRow) -> JudgedRow:
    known = await ledger.delivery(key=row.key)
    return row if known is None else reconsidered(row, known.state, known.settled_by)


async def outcomes(
    ledger: BaseLedger,
    rows: Sequence[MessageRow],
    *,
    resend_in_doubt: bool,
    resends_once: bool = False,
) -> list[tuple[MessageRow, Outcome | SendIntent]]:
    """Return each row with its recorded outcome, or with an intent where it is to be sent.

    Where another row with the same number went out before, it is returned in the row's place.
    With `resend_in_doubt`, what is in doubt is to be sent as well; with `resends_once` only where
    it was not sent again before.
    """
    chosen = await _rows_that_count(ledger, rows)
    intents = [_intent(row.message) for row in chosen]
    known = await _recorded(ledger, intents, resend_in_doubt=resend_in_doubt)
    if resend_in_doubt and resends_once:
        known |= await _resent_before(ledger, [each for each in intents if each.key not in known])
    as_written = await _outcomes_as_written(ledger, chosen, known, resend_in_doubt=resend_in_doubt)
    found: list[tuple[MessageRow, Outcome | SendIntent]] = []
    for row, intent in zip(chosen, intents, strict=True):
        recorded = known.get(intent.key)
        outcome = None if recorded is None else _outcome(row.message, recorded)
        found.append((row, outcome or as_written.get(intent.key) or intent))
    return found


async def _rows_that_count(ledger: BaseLedger, rows: Sequence[MessageRow]) -> Sequence[MessageRow]:
    several = [each for row in rows if row.others for each in (row, *row.others)]
    if not several:
        return rows
    known = await ledger.lookup_many([_intent(each.message) for each in several])
    out = {key for key, found in known.items() if may_have_gone_out(found)}
    return [
        row if row.message.key in out else await _row_to_count(ledger, row, out) for row in rows
    ]


async def _row_to_count(
    ledger: BaseLedger, row: MessageRow, out: Container[str | None]
) -> MessageRow:
    """Return the row with the same number that went out, else the row; `out` has the keys."""
    for other in row.others:
        if other.message.key in out and await _went_to(ledger, other.message):
            return other
    return row


async def _went_to(ledger: BaseLedger, message: SMS) -> bool:
    """Return whether the message that went out under this key went to this number, or may have.

    Another row may have sent to another number under the same key.
    """
    known = await ledger.delivery(key=message.key)
    return known is None or not known.to or may_be_same(known.to, message.to)


async def _recorded(
    ledger: BaseLedger, intents: Sequence[SendIntent], *, resend_in_doubt: bool
) -> dict[str, Submission | KeyConflict]:
    try:
        return await ledger.lookup_many(intents, resend_in_doubt=resend_in_doubt)
    except LedgerError:
        return {}  # each message is looked up again when it is begun, and fails then


async def _resent_before(
    ledger: BaseLedger, intents: Sequence[SendIntent]
) -> dict[str, Submission | KeyConflict]:
    """Return what is recorded of those intents that are in doubt after they were sent again."""
    found = await _recorded(ledger, intents, resend_in_doubt=False)
    return {
        key: known
        for key, known in found.items()
        if isinstance(known, Submission) and known.was_resent
    }


async def _outcomes_as_written(
    ledger: BaseLedger,
    rows: Iterable[MessageRow],
    known: Container[str | None],
    *,
    resend_in_doubt: bool,
) -> dict[str, Outcome]:
    """Return, by the keys of the rows, outcomes of messages to the numbers as they are written."""
    as_written = {
        row.message.key or "": message
        for row in rows
        if row.written and row.message.key not in known and (message := row.as_written)
    }
    if not as_written:
        return {}
    found = await ledger.lookup_many(
        [_intent(message) for message in as_written.values()], resend_in_doubt=resend_in_doubt
    )
    outcomes = {
        key: _outcome(message, found[message.key or ""])
        for key, message in as_written.items()
        if message.key in found
    }
    return {key: outcome for key, outcome in outcomes.items() if not _is_refused(outcome)}


async def entries_for(ledger: BaseLedger, numbers: Collection[str]) -> Mapping[str, OptOut]:
    """Return the entries of these numbers, in any of their spellings."""
    return await ledger.run(GetOptOuts(numbers=all_spellings(numbers)))


def _is_refused(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and isinstance(outcome.error, Rejected)


def _outcome(message: SMS, known: Submission | KeyConflict) -> Outcome:
    if isinstance(known, KeyConflict):
        return Failed(message=message, error=known)
    return outcome_of(message, message.to, known)


def _intent(message: SMS) -> SendIntent:
    return SendIntent(
        key=message.key or "",
        content=content_of(message),
        to=message.to,
        from_=message.from_,
        started_at=0.0,  # it is looked up, and not begun
        message=message,
    )
