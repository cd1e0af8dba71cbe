"""What notifications tell of messages.  No I/O, no storage.

Rules:

* A delivery is a function of the set of its notifications, whatever their
  order and however often each comes: the first final one in order of time wins.
* Doubt is settled where one message and one submission can only mean each other.
  The time of a submission is that of its first notification: a receipt may come days later.
* A time without an offset orders notifications, but settles nothing: the time
  at which it was received does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import attrs

from ..codes import DeliveryState, FailureReason
from ..notifications import DeliveryReceipt, Notification, SentNotification
from ..protocol.numbers import digits
from .model import MessageState

SETTLE_WITHIN: Final = 3600.0  # seconds after its intent in which a postback may settle a doubt
CLOCKS_APART: Final = 300.0  # seconds by which the provider's clock may be behind ours


@attrs.frozen(kw_only=True)
class StoredNotification:
    """A notification as it is kept.

    `identity` tells it from every other, `at` is its place in time (seconds
    since 1970, a time without an offset taken as UTC; None where it has none),
    and `happened` the time by which it may settle a doubt: its own where that
    is certain, else the one at which it was received.
    """

    identity: bytes
    tracking_id: str | None
    to: str | None
    from_: str | None
    at: float | None
    happened: float
    state: DeliveryState | None
    reason: FailureReason | None
    raw: str = attrs.field(repr=False)


def event_of(notification: Notification, *, received: float) -> StoredNotification:
    """Make what is kept of a notification; `received` is in seconds since 1970."""
    tracking_id, to, from_ = None, None, None
    if isinstance(notification, SentNotification | DeliveryReceipt):
        tracking_id, from_ = notification.tracking_id, notification.from_
        to = digits(notification.to)
    raw = json.dumps(notification.raw, ensure_ascii=False, separators=(",", ":"))
    time = notification.timestamp or notification.created
    return StoredNotification(
        identity=_identity(notification),
        tracking_id=tracking_id,
        to=to,
        from_=from_,
        at=None if time is None else _seconds(time),
        happened=received if time is None or time.tzinfo is None else time.timestamp(),
        state=_state(notification),
        reason=notification.reason if isinstance(notification, DeliveryReceipt) else None,
        raw=raw,
    )


def _identity(notification: Notification) -> bytes:
    # Form A has an id to know a repetition by; form B has none, so that all of it is its identity.
    if notification.id is not None:
        about = getattr(notification, "tracking_id", None)
        named: Any = [notification.id, notification.origin, notification.code, about]
    else:
        named = notification.raw
    return blake2b(json.dumps(named, sort_keys=True).encode(), digest_size=16).digest()


def _seconds(time: datetime) -> float:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _state(notification: Notification) -> DeliveryState | None:
    if isinstance(notification, DeliveryReceipt):
        return notification.state
    return DeliveryState.SENT if isinstance(notification, SentNotification) else None


def in_order(events: Iterable[StoredNotification]) -> list[StoredNotification]:
    """Put events in order of time; what cannot be told apart so is in some fixed order."""
    return sorted(events, key=_place)


# Of two at the same time the one that was sent comes first, and delivered is believed
# before failed.
_RANKS: Final[dict[DeliveryState | None, int]] = {
    DeliveryState.SENT: 0,
    DeliveryState.DELIVERED: 1,
}


def _place(event: StoredNotification) -> tuple[float, int, bytes]:
    at = float("inf") if event.at is None else event.at
    return at, _RANKS.get(event.state, len(_RANKS)), event.identity


_FINAL: Final[dict[DeliveryState | None, MessageState]] = {
    DeliveryState.DELIVERED: MessageState.DELIVERED,
    DeliveryState.FAILED: MessageState.FAILED,
}


def derive_state(
    events: Iterable[StoredNotification],
) -> tuple[MessageState, FailureReason | None]:
    """Return how far an accepted message got, by all its notifications."""
    state = MessageState.ACCEPTED
    for event in in_order(events):
        if event.state in _FINAL:
            return _FINAL[event.state], event.reason
        if event.state is DeliveryState.SENT:
            state = MessageState.SENT
    return state, None


# What settles a doubt.


@attrs.frozen(kw_only=True)
class Doubt:
    """A message whose tracking id is not known, or not yet where it is `under_way`."""

    id: int
    from_: str | None
    began: float
    under_way: bool


@attrs.frozen(kw_only=True)
class UnmatchedSubmission:
    """The notifications of one submission that no message is known for."""

    tracking_id: str
    events: Sequence[StoredNotification]


def match_doubts(
    doubts: Sequence[Doubt], strays: Sequence[UnmatchedSubmission], *, within: float
) -> list[tuple[int, str]]:
    """Match messages and submissions to one number that can only mean each other.

    Gives pairs of a message's id and a tracking id.  A message that is still
    under way is never settled, and its being possible leaves others in doubt.
    """
    fits = {
        (doubt.id, stray.tracking_id)
        for doubt in doubts
        for stray in strays
        if _fits(doubt, stray, within)
    }
    under_way = {doubt.id for doubt in doubts if doubt.under_way}
    return [pair for pair in sorted(fits) if pair[0] not in under_way and _is_alone(pair, fits)]


def _is_alone(pair: tuple[int, str], fits: set[tuple[int, str]]) -> bool:
    return all(pair == other or not set(pair) & set(other) for other in fits)


def _fits(doubt: Doubt, stray: UnmatchedSubmission, within: float) -> bool:
    senders = {doubt.from_, *(event.from_ for event in stray.events)} - {None}
    submitted = min(event.happened for event in stray.events)
    return len(senders) <= 1 and -CLOCKS_APART <= submitted - doubt.began <= within
