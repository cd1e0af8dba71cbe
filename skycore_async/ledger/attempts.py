"""The attempts of a message, and what a report makes of it.  No I/O, no storage.

Rules:

* An attempt that may have been taken is kept when its message is begun again, and so is one
  that a report proved not taken, so that the proof is not forgotten.
* What a report tells holds for the attempts that it was held against, and for no later one.
* In what order attempts began, their turns tell: no clock does, since one can be set back.
* An attempt that was interrupted counts as ended a day after it began, even if that is found out
  weeks later.  Reports are asked for about that day alone: how often they may be asked for, and
  about how long a time, is limited.
"""

from __future__ import annotations

from typing import Final

import attrs

from ..messages import LONGEST_UNDER_WAY
from .model import BY_REPORT, EarlierAttempt, MessageRecord, MessageState
from .report_values import DoubtDecision
from .rules import is_of_more

TURNS: Final = 1 << 30  # from the turn of a message to that of the next: for what is begun again


def turn_of(id_: int, turn: int | None) -> int:
    """Return the turn of an attempt: what has a greater one began later, whatever a clock said.

    That of a message which was begun once is in its id.
    """
    return id_ * TURNS if turn is None else turn


def ended_by(record: MessageRecord, *, otherwise: float) -> float:
    """Return when the last attempt of a message had ended, or `otherwise` where nothing tells."""
    if record.ended_at is not None:
        return record.ended_at
    if record.interrupted_at is None:
        return otherwise
    return min(record.interrupted_at, record.started_at + LONGEST_UNDER_WAY)


def left_behind(record: MessageRecord, *, now: float) -> EarlierAttempt | None:
    """Return the attempt of a message that is begun again, where it is kept; else None.

    It may have been taken, or was proven not taken by a report.
    """
    is_proven = record.settled_by == BY_REPORT and record.state is MessageState.NOT_SENT
    if not is_proven and (record.state is not MessageState.IN_DOUBT or record.untaken):
        return None
    return EarlierAttempt(
        message=record.id,
        text_digest=record.text_digest,
        to=record.to,
        from_=record.from_,
        started_at=record.started_at,
        ended_at=ended_by(record, otherwise=now),
        state=MessageState.NOT_SENT if is_proven else MessageState.IN_DOUBT,
        turn=record.turn,
    )


def settle_by_report(record: MessageRecord, decision: DoubtDecision) -> MessageRecord | None:
    """Return the record of a message by what a report told of it; None where it is not so now.

    What was taken has no tracking id: a postback may still tell it.
    """
    seen = decision.seen
    if record.state is not MessageState.IN_DOUBT or _attempt_in(record) != _attempt_in(seen):
        return None
    if decision.state is MessageState.IN_DOUBT:
        since, until = decision.listed or (None, None)
        return attrs.evolve(record, listed_since=since, listed_until=until)
    if decision.state is MessageState.ACCEPTED:
        return attrs.evolve(
            record,
            state=MessageState.ACCEPTED,
            settled_by=BY_REPORT,
            history_id=decision.history_id,
            doubted=True,
            code=None,
            info=None,
            http_status=None,
        )
    # Its last attempt was refused, perhaps for good; the others were not taken, either.
    is_refused = record.untaken and record.code is not None and not is_of_more(record.code)
    return attrs.evolve(
        record,
        state=MessageState.REJECTED if is_refused else MessageState.NOT_SENT,
        settled_by=BY_REPORT,
        doubted=False,
        untaken=False,
        listed_since=None,
        listed_until=None,
        code=record.code if is_refused else None,
        info=record.info if is_refused else None,
        http_status=None,
    )


def _attempt_in(record: MessageRecord) -> tuple[object, ...]:
    return record.started_at, record.ended_at, record.session, record.attempt
