"""Who may not be sent to: STOP, START, and what the provider says of it.

What a text says is read by `protocol.consent`: only a sure reading opts out or in.
"""

from __future__ import annotations

from typing import Final

import attrs

from ..notifications import InboundSMS, Notification, SubscriptionChange
from ..protocol.consent import Consent, consent_in
from ..protocol.numbers import digits

_BLOCKED: Final = "E114"  # the recipient is on the block list


@attrs.frozen(kw_only=True)
class OptOut:
    """A number's word on being sent to: not any more (`out`), or again."""

    number: str
    out: bool
    at: float


def opt_out_of(notification: Notification, *, received: float) -> OptOut | None:
    """Return what a notification says of being sent to; None where it is about something else."""
    if isinstance(notification, SubscriptionChange):
        number, out = notification.mobile, not notification.subscribed
    elif isinstance(notification, InboundSMS):
        consent = consent_in(notification.text)
        if consent not in {Consent.REVOKED, Consent.GIVEN}:
            return None
        number, out = notification.from_, consent is Consent.REVOKED
    else:
        return None
    known = digits(number)
    if not known:
        return None
    time = notification.timestamp
    at = received if time is None or time.tzinfo is None else time.timestamp()
    # A time that is yet to come would have the last word until then, whatever is said meanwhile.
    return OptOut(number=known, out=out, at=min(at, received))


def opt_out_by_code(code: str | None, *, number: str, at: float) -> OptOut | None:
    """Return what the API's refusal of a message says of its number, if anything."""
    return OptOut(number=number, out=True, at=at) if code == _BLOCKED else None
