"""What kind of outcome a message has, for the commands that count outcomes or tell of one.

Strategy: `sending.outcomes` says what follows from an outcome.  What the command line tells
apart besides, of what was refused here alone, stands here, and nowhere else.
"""

from __future__ import annotations

import enum

from ...errors import KeyConflict, RecipientOptedOut, SkycoreError
from ...messages import Accepted, Outcome
from ...sending.outcomes import meaning_of
from .marks import ALREADY_SENT, mark_of_conflict


class OutcomeKind(enum.StrEnum):
    """What came of a message; `OPTED_OUT` is one that is not sent as its number said so.

    `ALREADY_SENT` went out with other content under the same key; `NOT_SENT` is sent when the
    same command is run again.
    """

    ACCEPTED = "accepted"
    ALREADY_SENT = "already_sent"
    IN_DOUBT = "in_doubt"
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    OPTED_OUT = "opted_out"


def outcome_kind(outcome: Outcome) -> OutcomeKind:
    """Return what kind of outcome it is."""
    return OutcomeKind.ACCEPTED if isinstance(outcome, Accepted) else failure_kind(outcome.error)


def failure_kind(error: SkycoreError) -> OutcomeKind:
    """Return what kind of outcome an error is; a doubt is one whatever else may be said of it."""
    meaning = meaning_of(error)
    mark = mark_of_conflict(error) if isinstance(error, KeyConflict) else ""
    if mark == ALREADY_SENT:
        return OutcomeKind.ALREADY_SENT
    if meaning.in_doubt or mark:
        return OutcomeKind.IN_DOUBT
    if isinstance(error, RecipientOptedOut):
        return OutcomeKind.OPTED_OUT
    return OutcomeKind.REFUSED if meaning.is_final else OutcomeKind.NOT_SENT
