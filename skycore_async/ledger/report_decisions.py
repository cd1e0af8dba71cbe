"""Decides about a message in doubt from what a report says about its attempts.  No I/O.

Rules:

* If one attempt was taken, the message was sent.
* A message was not sent if each of its attempts is proven not taken, and so is each doubt that is
  like one of them: among attempts that are alike, a row may belong to any.
* A message that is perhaps being sent is left alone, whatever a report says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from .attempts import ended_by, turn_of
from .model import (
    BY_POSTBACK,
    BY_REPORT,
    UNDECIDED,
    EarlierAttempt,
    MessageRecord,
    MessageState,
)
from .report_evidence import OpenReason
from .report_findings import Absent, Finding, Taken, Unclear
from .report_rows import KnownAttempt, Role
from .report_values import AttemptDecision, BegunMessage, DoubtDecision
from .settlement import SETTLE_WITHIN

Findings = Mapping[int, Finding]  # by the ids of attempts


@attrs.frozen(kw_only=True)
class MessageInDoubt:
    """A message in doubt, with the ids of its attempts that may have been taken.

    `earlier` has those before the last, with the id that each has in the ledger.  `reason` is why
    no report can end its doubt now.
    """

    record: MessageRecord
    last: int | None
    earlier: Mapping[int, int]
    reason: OpenReason | None = None

    @property
    def attempts(self) -> tuple[int, ...]:
        """The ids of all its attempts that may have been taken."""
        return (*(() if self.last is None else (self.last,)), *self.earlier)


def listed_of(record: MessageRecord) -> tuple[float, float] | None:
    """Return the span in which reports listed rows that may be of a message; None if none did."""
    if record.listed_since is None or record.listed_until is None:
        return None
    return record.listed_since, record.listed_until


def last_attempt(record: MessageRecord, id_: int, role: Role) -> KnownAttempt | None:
    """Return the last attempt of a message in doubt; None if that attempt was not taken."""
    if record.untaken:
        return None
    return KnownAttempt(
        id=id_,
        message=record.id,
        turn=turn_of(record.id, record.turn),
        role=role,
        number=record.to,
        text=record.text_digest,
        from_=record.from_,
        started_at=record.started_at,
        ended_at=ended_by(record, otherwise=record.started_at + SETTLE_WITHIN),
    )


def earlier_attempt(attempt: EarlierAttempt, id_: int, role: Role) -> KnownAttempt:
    """Return an earlier attempt, without its HISTORYID.

    That HISTORYID is of one of several rows that were alike, so it may belong to another attempt.
    """
    return KnownAttempt(
        id=id_,
        message=attempt.message,
        turn=turn_of(attempt.message, attempt.turn),
        role=Role.ACCEPTED if attempt.state is MessageState.ACCEPTED else role,
        number=attempt.to,
        text=attempt.text_digest,
        from_=attempt.from_,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
    )


def begun_attempt(
    begun: BegunMessage, id_: int, *, now: float, is_found_earlier: bool = False
) -> tuple[KnownAttempt, bool]:
    """Return the last attempt of another message, and whether it is a witness.

    A message that was in doubt and was settled is no witness, as any of its attempts may have been
    taken.  If a message was in doubt when it was sent again, its row may be that of an earlier
    attempt, unless it has a HISTORYID.  With `is_found_earlier`, a report showed that an earlier
    attempt was taken, so this one may have been taken or not.
    """
    is_accepted = begun.state not in UNDECIDED and not (
        begun.doubted and begun.settled_by == BY_POSTBACK
    )
    of_last = Role.DOUBTFUL if is_found_earlier else Role.ACCEPTED
    attempt = KnownAttempt(
        id=id_,
        message=begun.id,
        turn=turn_of(begun.id, begun.turn),
        role=of_last if is_accepted else Role.POSSIBLE,
        number=begun.to,
        text=begun.text_digest,
        from_=begun.from_,
        started_at=begun.started_at,
        ended_at=now if begun.ended_at is None else begun.ended_at,
        # A report may have taken the HISTORYID from any of the rows that were alike.
        history_id=None if begun.settled_by == BY_REPORT else begun.history_id,
    )
    is_told_apart = not begun.doubted or begun.history_id is not None
    return attempt, is_accepted and is_told_apart and begun.settled_by is None


def decide(
    doubt: MessageInDoubt,
    known: Findings,
    why_not_proven: Callable[[int], OpenReason | None],
    *,
    trust_absence: bool = False,
) -> DoubtDecision | OpenReason:
    """Return the decision about a message, or why it stays in doubt.

    `why_not_proven` returns why a missing row is no proof about an attempt; None if it is proof.
    """
    if doubt.reason is not None:
        return doubt.reason
    ids = doubt.attempts
    findings = [known.get(id_, Unclear(OpenReason.OLDER_VERSION)) for id_ in ids]
    taken = {
        id_: each.history_id
        for id_, each in zip(ids, findings, strict=True)
        if isinstance(each, Taken)
    }
    for each in () if taken else findings:
        if (reason := _why_open(each, why_not_proven)) is not None:
            return reason
        if isinstance(each, Absent) and each.is_beside_another and not trust_absence:
            return OpenReason.ANOTHER_TEXT
    return DoubtDecision(
        seen=doubt.record,
        state=MessageState.ACCEPTED if taken else MessageState.NOT_SENT,
        history_id=next(iter(taken.values()), None) or None,
        earlier=tuple(
            AttemptDecision(
                id=of_ledger,
                state=MessageState.ACCEPTED if id_ in taken else MessageState.NOT_SENT,
                history_id=taken.get(id_) or None,
            )
            for id_, of_ledger in doubt.earlier.items()
            if not taken or id_ in taken
        ),
    )


def _why_open(
    finding: Finding, why_not_proven: Callable[[int], OpenReason | None]
) -> OpenReason | None:
    if isinstance(finding, Unclear):
        return finding.reason
    group = finding.group if isinstance(finding, Absent) else frozenset[int]()
    reasons = (why_not_proven(id_) for id_ in sorted(group))
    return next((reason for reason in reasons if reason is not None), None)
