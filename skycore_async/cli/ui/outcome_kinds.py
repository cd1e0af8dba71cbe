"""The kinds of outcomes, for the commands that count or print them.

Strategy: `sending.outcomes` says what follows from an outcome.  Only what the command line
distinguishes in addition, among messages that were refused here, is defined in this module.
"""

from __future__ import annotations

import enum

from ...errors import KeyConflict, RecipientOptedOut, SkycoreError
from ...messages import Accepted, Outcome
from ...sending.outcomes import meaning_of
from .marks import ALREADY_SENT, mark_of_conflict


class OutcomeKind(enum.StrEnum):
    """What became of a message; `OPTED_OUT` was not sent because its number has opted out.

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
    """Return the kind of an outcome."""
    return OutcomeKind.ACCEPTED if isinstance(outcome, Accepted) else failure_kind(outcome.error)


def failure_kind(error: SkycoreError) -> OutcomeKind:
    """Return the kind of outcome of an error; a doubt always counts as one."""
    meaning = meaning_of(error)
    mark = mark_of_conflict(error) if isinstance(error, KeyConflict) else ""
    if mark == ALREADY_SENT:
        return OutcomeKind.ALREADY_SENT
    if meaning.in_doubt or mark:
        return OutcomeKind.IN_DOUBT
    if isinstance(error, RecipientOptedOut):
        return OutcomeKind.OPTED_OUT
    return OutcomeKind.REFUSED if meaning.is_final else OutcomeKind.NOT_SENT
