"""What kind of outcome a row has, for a run, and for the check before it, which count them."""

from __future__ import annotations

import enum

from ...errors import KeyConflict, RecipientOptedOut
from ...messages import Accepted, Outcome
from ...sending.outcomes import meaning_of
from ..ui.marks import ALREADY_SENT, mark_of_conflict


class OutcomeKind(enum.StrEnum):
    """What came of a row's message; `OPTED_OUT` is one that is not sent as its number said so.

    `ALREADY_SENT` went out with other content under the same key; `NOT_SENT` is sent when the
    same command is run again.
    """

    ACCEPTED = "accepted"
    ALREADY_SENT = "already_sent"
    IN_DOUBT = "in_doubt"
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    OPTED_OUT = "opted_out"


def kind_of(outcome: Outcome) -> OutcomeKind:
    """Return what kind of outcome it is; a doubt is one whatever else may be said of it."""
    if isinstance(outcome, Accepted):
        return OutcomeKind.ACCEPTED
    error, meaning = outcome.error, meaning_of(outcome)
    mark = mark_of_conflict(error) if isinstance(error, KeyConflict) else ""
    if mark == ALREADY_SENT:
        return OutcomeKind.ALREADY_SENT
    if meaning.in_doubt or mark:
        return OutcomeKind.IN_DOUBT
    if isinstance(error, RecipientOptedOut):
        return OutcomeKind.OPTED_OUT
    return OutcomeKind.REFUSED if meaning.is_final else OutcomeKind.NOT_SENT
