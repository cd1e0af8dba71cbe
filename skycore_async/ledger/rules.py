"""What a ledger decides of sending.  No I/O, no storage.

Rules:

* Only what was never begun or is proven not sent is begun; what is in doubt
  is begun again on the caller's word alone.
* A rejection of the whole account says nothing of the message: it was not sent.
"""

from __future__ import annotations

from hashlib import blake2b
from operator import attrgetter
from types import MappingProxyType
from typing import Final

import attrs

from ..codes import Verdict
from ..errors import KeyConflict, OutcomeUnknown, Rejected
from ..messages import SMS, Accepted, Failed, Outcome
from .model import ENDED_MEANWHILE, MessageState, SendIntent, Submission

_S: Final = MessageState

# What is kept of a message, by what its outcome says of it.
STATES: Final = MappingProxyType(
    {
        Verdict.ACCEPTED: _S.ACCEPTED,
        Verdict.REJECTED: _S.REJECTED,
        Verdict.ACCOUNT_REFUSED: _S.NOT_SENT,
        Verdict.REFUSED_HERE: _S.NOT_SENT,
        Verdict.NOT_SENT: _S.NOT_SENT,
        Verdict.HALTED: _S.NOT_SENT,
        Verdict.IN_DOUBT: _S.IN_DOUBT,
    }
)
STARTABLE: Final = frozenset({_S.NOT_SENT})
_content: Final = attrgetter(*(field.name for field in attrs.fields(SMS) if field.name != "key"))


def content_of(resolved: SMS) -> bytes:
    """Return the digest by which the same key with other content is told."""
    return blake2b(repr(_content(resolved)).encode(), digest_size=16).digest()


def known_or_conflict(
    intent: SendIntent, content: bytes, submission: Submission, *, resend_in_doubt: bool
) -> Submission | None:
    """Return what came of a message before; None where it may be begun.

    Raises KeyConflict where its recorded `content` is other than that of the intent.
    """
    if content != intent.content:
        raise KeyConflict(intent.key)
    if submission.state in STARTABLE:
        return None
    if submission.state is _S.IN_DOUBT and resend_in_doubt:
        return None
    return submission


def submission_of(outcome: Outcome) -> Submission:
    """Make what is kept of an outcome."""
    state = STATES[outcome.verdict]
    if isinstance(outcome, Accepted):
        return Submission(state=state, tracking_id=outcome.tracking_id, raw=dict(outcome.raw))
    error = outcome.error
    return Submission(
        state=state,
        code=getattr(error, "code", None),
        # Made again, a rejection puts its code before the provider's words by itself.
        info=error.info if isinstance(error, Rejected) else str(error),
        http_status=getattr(error, "http_status", None),
    )


def outcome_of(message: SMS, to: str, submission: Submission) -> Outcome:
    """Make the outcome again that was recorded."""
    if submission.tracking_id is not None:
        return Accepted(
            message=message,
            to=to,
            tracking_id=submission.tracking_id,
            raw=dict(submission.raw or {}),
            recorded=True,
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
