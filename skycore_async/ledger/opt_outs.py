"""Who may not be sent to: STOP, START, and what the provider says of it.

The words are those that the CTIA's Messaging Principles and the FCC's rules (47
CFR 64.1200) name; only a message that is nothing but such a word counts.
"""

from __future__ import annotations

from typing import Final

import attrs

from ..notifications import InboundSMS, Notification, SubscriptionChange
from ..protocol.numbers import digits

_STOP: Final = frozenset(
    {"STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"}
    | {"REVOKE", "OPTOUT", "OPT OUT", "OPT-OUT"}
)
_BLOCKED: Final = "E114"  # the recipient is on the block list
_START: Final = frozenset({"START", "UNSTOP"})
# Phones make quotes curly by themselves.
_AROUND: Final = " \t\r\n\u00a0.,!\"'\u201c\u201d\u2018\u2019"


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
        word = notification.text.strip(_AROUND).upper()
        if word not in _STOP | _START:
            return None
        number, out = notification.from_, word in _STOP
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
