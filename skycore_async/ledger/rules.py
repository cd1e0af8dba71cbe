"""What a ledger decides of sending.  No I/O, no storage.

Rules:

* Only what was never begun or is proven not sent is begun; what is in doubt
  is begun again on the caller's word alone.
* A rejection of the whole account says nothing of the message: it was not sent.
"""

from __future__ import annotations

from hashlib import blake2b
from operator import attrgetter
from typing import Final

import attrs

from ..codes import Scope
from ..errors import KeyConflict, OutcomeUnknown, Rejected, Throttled
from ..messages import SMS, Accepted, Failed, Outcome
from .model import ENDED_MEANWHILE, MessageState, SendIntent, Submission

_S: Final = MessageState

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
    if isinstance(outcome, Accepted):
        return Submission(
            state=_S.ACCEPTED, tracking_id=outcome.tracking_id, raw=dict(outcome.raw)
        )
    error = outcome.error
    if isinstance(error, Rejected):
        refused = _S.NOT_SENT if error.scope is Scope.ACCOUNT else _S.REJECTED
        return Submission(state=refused, code=error.code, info=error.info)
    if isinstance(error, OutcomeUnknown):
        return Submission(
            state=_S.IN_DOUBT, code=error.code, info=str(error), http_status=error.http_status
        )
    state = _S.IN_DOUBT if error.may_have_been_sent else _S.NOT_SENT
    code = error.code if isinstance(error, Throttled) else None
    return Submission(state=state, code=code, info=str(error))


def outcome_of(message: SMS, to: str, submission: Submission) -> Outcome:
    """Make the outcome again that was recorded."""
    if submission.tracking_id is not None:
        return Accepted(
            message=message,
            to=to,
            tracking_id=submission.tracking_id,
            raw=dict(submission.raw or {}),
        )
    if submission.state is _S.REJECTED:
        error = Rejected.of(code=submission.code, info=submission.info)
        return Failed(message=message, error=error)
    doubt = OutcomeUnknown(
        submission.info or ENDED_MEANWHILE,
        http_status=submission.http_status,
        code=submission.code,
    )
    return Failed(message=message, error=doubt)
