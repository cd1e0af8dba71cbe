"""What a ledger has of the rows of a file, asked for many at a time.

Rules:

* Of rows with one number under keys of their own, the one that the ledger says went out
  is the one that counts, in whatever order they stand.
* A campaign that began without --country goes on with it, and sends nobody again what was
  accepted, or may have been sent, to the number as it is written.
* Of a row that a file of rejects calls in doubt, it is the ledger that says what it is now.
* Permission that may be given over and over, as by a loop, sends a doubt again once: what was sent
  again before, and is in doubt, stays in doubt.
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


async def as_known_now(ledger: BaseLedger, rows: Iterable[JudgedRow]) -> list[JudgedRow]:
    """Return rows, those in doubt by a file of rejects as what the ledger says that they are."""
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
    is_once: bool = False,
) -> list[tuple[MessageRow, Outcome | SendIntent]]:
    """Return with each row its recorded outcome, or the intent to send it where it has none.

    A row with the same number may stand in the place of one: that which went out before.
    With `resend_in_doubt`, what is in doubt is to be sent as well; with `is_once`, only what was
    not sent again before.
    """
    chosen = await _chosen(ledger, rows)
    intents = [_intent(row.message) for row in chosen]
    known = await _known(ledger, intents, resend_in_doubt=resend_in_doubt)
    if resend_in_doubt and is_once:
        known |= await _resent(ledger, [each for each in intents if each.key not in known])
    unread = await _outcomes_unread(ledger, chosen, known, resend_in_doubt=resend_in_doubt)
    found: list[tuple[MessageRow, Outcome | SendIntent]] = []
    for row, intent in zip(chosen, intents, strict=True):
        recorded = known.get(intent.key)
        outcome = None if recorded is None else _outcome(row.message, recorded)
        found.append((row, outcome or unread.get(intent.key) or intent))
    return found


async def _chosen(ledger: BaseLedger, rows: Sequence[MessageRow]) -> Sequence[MessageRow]:
    several = [each for row in rows if row.others for each in (row, *row.others)]
    if not several:
        return rows
    known = await ledger.lookup_many([_intent(each.message) for each in several])
    out = {key for key, found in known.items() if may_have_gone_out(found)}
    return [row if row.message.key in out else await _standing(ledger, row, out) for row in rows]


async def _standing(ledger: BaseLedger, row: MessageRow, out: Container[str | None]) -> MessageRow:
    """Return the row with the same number that went out, where there is one, by the keys `out`."""
    for other in row.others:
        if other.message.key in out and await _went_to(ledger, other.message):
            return other
    return row


async def _went_to(ledger: BaseLedger, message: SMS) -> bool:
    """Return whether what has the key of a message went to its number, as far as is known.

    Another row may have sent to another number under that key.
    """
    known = await ledger.delivery(key=message.key)
    return known is None or not known.to or may_be_same(known.to, message.to)


async def _known(
    ledger: BaseLedger, intents: Sequence[SendIntent], *, resend_in_doubt: bool
) -> dict[str, Submission | KeyConflict]:
    try:
        return await ledger.lookup_many(intents, resend_in_doubt=resend_in_doubt)
    except LedgerError:
        return {}  # each message is asked for as it is begun, and fails by itself


async def _resent(
    ledger: BaseLedger, intents: Sequence[SendIntent]
) -> dict[str, Submission | KeyConflict]:
    """Return those of these, which are to be sent, that are in doubt and were sent again."""
    found = await _known(ledger, intents, resend_in_doubt=False)
    return {
        key: known
        for key, known in found.items()
        if isinstance(known, Submission) and known.was_resent
    }


async def _outcomes_unread(
    ledger: BaseLedger,
    rows: Iterable[MessageRow],
    known: Container[str | None],
    *,
    resend_in_doubt: bool,
) -> dict[str, Outcome]:
    """Return by the keys of rows what came of them before their numbers were read."""
    unread = {
        row.message.key or "": message
        for row in rows
        if row.written and row.message.key not in known and (message := row.unread)
    }
    if not unread:
        return {}
    found = await ledger.lookup_many(
        [_intent(message) for message in unread.values()], resend_in_doubt=resend_in_doubt
    )
    outcomes = {
        key: _outcome(message, found[message.key or ""])
        for key, message in unread.items()
        if message.key in found
    }
    return {key: outcome for key, outcome in outcomes.items() if not _is_refused(outcome)}


async def entries_for(ledger: BaseLedger, numbers: Collection[str]) -> Mapping[str, OptOut]:
    """Return what was said of being sent to, under any name that counts for these numbers."""
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
        started_at=0.0,  # it is asked for and not begun
        message=message,
    )
