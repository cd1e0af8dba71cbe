"""What a ledger decides about sending.  No I/O, no storage.

Strategy: each function takes the record of a message and what happened, and returns the record as
it is from now on.  A store reads records, asks here, and writes records.

Rules:

* A message is begun only if it was never begun or is proven not sent.  One in doubt is begun again
  only with the caller's permission, which holds for one attempt.
* A key stands for one content once that may have gone out.  A message that was not sent, or was
  refused, may be begun with other content: its caller has mended it.
* If a second attempt is not accepted, that says nothing about the first: a message that was in
  doubt when it was sent again stays in doubt, unless the second attempt is accepted.
* If the account, the sender, the campaign or the request was rejected, that says nothing about the
  message: it was not sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final

import attrs

from ..codes import Verdict
from ..errors import KeyConflict, OutcomeUnknown, RecipientOptedOut, Rejected
from ..messages import SMS, Accepted, Failed, Outcome
from . import pruning, version_1_digests
from .columns import INTENT, OUTCOME, answer_from_text
from .content import values_of
from .model import (
    BY_REPORT,
    ENDED_MEANWHILE,
    NOTHING_SENT,
    TAKEN,
    Attempt,
    MessageRecord,
    MessageState,
    SendIntent,
    Submission,
)

_S: Final = MessageState
# The fields of an outcome: empty while the message is sent again, and those that a `Submission` is
# made of again as they are.  Its plain id is derived, and the API's answer is kept as text.
_NO_OUTCOME: Final[dict[str, Any]] = {
    each.name: each.default
    for each in attrs.fields(MessageRecord)
    if each.name in OUTCOME.fields and each.name != "state"
}
_KEPT: Final = [name for name in OUTCOME.fields if name not in {"plain_id", "raw"}]
_kept_of: Final = attrgetter(*_KEPT)
OPTED_OUT: Final = "the number has opted out, and is not sent to before it says START"


class UnderWay(Exception):
    """The key is being sent: the caller has to wait, and it is no error."""


# Before it is sent.


def _has_same_content(content: bytes, intent: SendIntent) -> bool:
    message = intent.message
    kept: Callable[[bytes], bytes] = bytes
    if pruning.is_pruned(content):
        kept = partial(pruning.content_under, intent.key)
    is_first = len(content) == version_1_digests.SIZE or pruning.is_of_first_version(content)
    if is_first and message is not None:
        return version_1_digests.is_digest_of(content, values_of(message), kept)
    return content == kept(intent.content)


def look_up(
    record: MessageRecord, intent: SendIntent, *, resend_in_doubt: bool
) -> Submission | None:
    """Return what came of a message; None if it may be begun.

    Raises KeyConflict if its content differs from that of the intent, and may have gone out.
    """
    if not _has_same_content(record.content, intent):
        if record.state in NOTHING_SENT and not record.doubted:
            return None
        # An earlier attempt may have gone out as well, but one that is known to be taken counts.
        is_in_doubt = record.doubted and record.state not in TAKEN
        raise KeyConflict(
            intent.key,
            state=_S.IN_DOUBT if is_in_doubt else record.state,
            settled_by=record.settled_by,
        )
    is_for_this_doubt = intent.doubt_started_at in {None, record.started_at}
    may_be_resent = resend_in_doubt and is_for_this_doubt
    if record.state is _S.NOT_SENT or (record.state is _S.IN_DOUBT and may_be_resent):
        return None
    if record.state is _S.REJECTED and not record.doubted and is_of_more(record.code):
        return None
    return submission_in(record)


def is_of_more(code: str | None) -> bool:
    """Return whether a refusal with this code concerns more than its message."""
    # The first versions recorded the refusal of a sender or a campaign as that of the message.
    return STATES[Rejected.of(code=code).verdict] is _S.NOT_SENT


def earlier_submission(
    record: MessageRecord | None, intent: SendIntent, *, resend_in_doubt: bool
) -> Submission | None:
    """Return what came of a message; None if it may be begun or is under way.

    Raises KeyConflict as `look_up` does.
    """
    if record is None:
        return None
    found = look_up(record, intent, resend_in_doubt=resend_in_doubt)
    return None if found is None or found.state is _S.SENDING else found


def begin(
    record: MessageRecord | None,
    intent: SendIntent,
    *,
    resend_in_doubt: bool,
    ignore_opt_out: bool,
    is_opted_out: bool,
    attempt: Attempt | None,
) -> MessageRecord | Submission | None:
    """Return the record of a message that is begun again, or what came of it before.

    Returns None if this very attempt has begun it already.  `record` is None if no row could be
    inserted, as the number has opted out.  Raises UnderWay, KeyConflict and RecipientOptedOut.
    """
    if record is None:
        raise RecipientOptedOut(OPTED_OUT)
    if attempt is not None and _is_by(record, attempt):
        return None
    found = look_up(record, intent, resend_in_doubt=resend_in_doubt)
    if found is not None and found.state is _S.SENDING:
        raise UnderWay
    if found is not None:
        return found
    if is_opted_out and not ignore_opt_out:
        raise RecipientOptedOut(OPTED_OUT)
    return _begun_again(record, intent, attempt)


def _begun_again(
    record: MessageRecord, intent: SendIntent, attempt: Attempt | None
) -> MessageRecord:
    """Return the record of a message under way anew, with nothing of the attempt before."""
    return attrs.evolve(
        record,
        **INTENT.in_record(intent),  # its key, too: where it was pruned, it has that again
        **_NO_OUTCOME,
        state=_S.SENDING,
        ended_at=None,
        settled_by=None,
        doubted=record.doubted or record.state is _S.IN_DOUBT,
        interrupted_at=None,
        untaken=False,
        history_id=None,
        session=None if attempt is None else attempt.session,
        attempt=None if attempt is None else attempt.number,
    )


def _is_by(record: MessageRecord, attempt: Attempt | None) -> bool:
    if attempt is None:
        return record.attempt is None
    return (record.session, record.attempt) == (attempt.session, attempt.number)


# After it was sent.


def finish(
    record: MessageRecord,
    submission: Submission,
    *,
    ended_at: float,
    attempt: Attempt | None,
) -> MessageRecord | None:
    """Return the record of a message whose attempt has ended; None if the outcome is another's."""
    is_known = attempt is not None or submission.started_at is not None
    if not _is_of(record, submission, attempt):
        return None
    # An attempt with a number, or a known start, may have been taken for dead meanwhile.  Then the
    # record is in doubt without an outcome, or has what a report told instead.
    is_late = (
        is_known
        and record.ended_at is None
        and (record.state is _S.IN_DOUBT or _replaces_report(record, submission))
    )
    if record.state is not _S.SENDING and not is_late:
        return None
    is_accepted = submission.state is _S.ACCEPTED
    is_in_doubt = record.doubted and not is_accepted
    ended = attrs.evolve(
        record,
        **OUTCOME.in_record(submission),
        ended_at=ended_at,
        untaken=is_in_doubt and submission.state in NOTHING_SENT,
        history_id=record.history_id if is_accepted else None,
        settled_by=None,
    )
    return attrs.evolve(ended, state=_S.IN_DOUBT) if is_in_doubt else ended


def _is_of(record: MessageRecord, submission: Submission, attempt: Attempt | None) -> bool:
    """Return whether an outcome is of the attempt that is in this record."""
    if attempt is None and submission.started_at is not None:
        return record.started_at == submission.started_at
    return _is_by(record, attempt)


def _replaces_report(record: MessageRecord, submission: Submission) -> bool:
    """Return whether a late outcome replaces what a report settled: any but a doubt does."""
    return record.settled_by == BY_REPORT and submission.state is not _S.IN_DOUBT


def submission_in(record: MessageRecord) -> Submission:
    """Return the submission that is in the record of a message."""
    return Submission(
        **dict(zip(_KEPT, _kept_of(record), strict=True)),
        raw=_raw_of(record),
        history_id=record.history_id,
        was_resent=record.doubted,
        started_at=record.started_at,
    )


def _raw_of(record: MessageRecord) -> Mapping[str, Any] | None:
    if record.raw is not None:
        return answer_from_text(record.raw, record.tracking_id)
    # What a report told stands in for the answer that was lost.
    is_found = record.tracking_id is None and record.history_id is not None
    return {"HISTORYID": record.history_id} if is_found else None


# Outcomes, as they are recorded and made again.

# The recorded state of a message, by the verdict of its outcome.
STATES: Final = MappingProxyType(
    {
        Verdict.ACCEPTED: _S.ACCEPTED,
        Verdict.REJECTED: _S.REJECTED,
        Verdict.ACCOUNT_REFUSED: _S.NOT_SENT,
        Verdict.SENDER_REFUSED: _S.NOT_SENT,
        Verdict.CAMPAIGN_REFUSED: _S.NOT_SENT,
        Verdict.REQUEST_REFUSED: _S.NOT_SENT,
        Verdict.REFUSED_HERE: _S.NOT_SENT,
        Verdict.NOT_SENT: _S.NOT_SENT,
        Verdict.PUT_OFF: _S.NOT_SENT,
        Verdict.HALTED: _S.NOT_SENT,
        Verdict.IN_DOUBT: _S.IN_DOUBT,
    }
)


def submission_of(outcome: Outcome) -> Submission:
    """Return what a ledger records of an outcome."""
    state = STATES[outcome.verdict]
    if isinstance(outcome, Accepted):
        return Submission(state=state, tracking_id=outcome.tracking_id, raw=dict(outcome.raw))
    error = outcome.error
    return Submission(
        state=state,
        code=getattr(error, "code", None),
        # A rejection that is made again puts its code before the provider's text by itself.
        info=error.info if isinstance(error, Rejected) else str(error),
        http_status=getattr(error, "http_status", None),
    )


def outcome_of(message: SMS, to: str, submission: Submission) -> Outcome:
    """Return the outcome that was recorded for a message to this number."""
    if submission.tracking_id is not None or submission.state in TAKEN:
        return Accepted(
            message=message,
            to=to,
            tracking_id=submission.tracking_id,
            raw=dict(submission.raw or {}),
            recorded=True,
            history_id=submission.history_id,
        )
    if submission.state is _S.REJECTED:
        error = Rejected.of(code=submission.code, info=submission.info)
        return Failed(message=message, error=error, recorded=True)
    doubt = OutcomeUnknown(
        submission.info or ENDED_MEANWHILE,
        http_status=submission.http_status,
        code=submission.code,
    )
    return Failed(message=message, error=doubt, recorded=True)
