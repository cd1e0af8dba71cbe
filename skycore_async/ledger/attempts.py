"""The attempts of a message, and what a report makes of it.  No I/O, no storage.

Rules:

* An attempt that may have been taken is kept when its message is begun again.  So is one that a
  report proved not taken, so that the proof is not lost.
* What a report tells holds for the attempts that it was compared with, and for no later one.
* Turns tell in what order attempts began; clocks do not, since they can be set back.
* An attempt that was interrupted counts as ended a day after it began, even if it is found weeks
  later.  So reports are asked for about that day alone: how often they may be asked for, and about
  how long a period, is limited.
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
    """Return the turn of an attempt; a greater turn began later, whatever the clock said.

    If the message was begun once, its id gives the turn.
    """
    return id_ * TURNS if turn is None else turn


def ended_by(record: MessageRecord, *, otherwise: float) -> float:
    """Return when the last attempt of a message had ended; `otherwise` if that is not known."""
    if record.ended_at is not None:
        return record.ended_at
    if record.interrupted_at is None:
        return otherwise
    return min(record.interrupted_at, record.started_at + LONGEST_UNDER_WAY)


def left_behind(record: MessageRecord, *, now: float) -> EarlierAttempt | None:
    """Return the attempt to keep of a message that is begun again; None if none is kept.

    It may have been taken, or a report proved it not taken.
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
    """Return the record of a message after a decision; None if the message has changed since.

    A message that was taken has no tracking id yet: a postback may still tell it.
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
    # No attempt was taken; the last one may have been refused for good.
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
