"""The notifications that Skycore posts, as values; `postbacks` makes them.

All are frozen attrs classes with keyword-only fields, named after the API's
own fields in snake case (`from_` for FROM, a Python keyword).  A field that
the wire left out is None.

Times are aware if the wire gave an offset, and otherwise naive: the provider does not say which
zone it means then, so none is assumed.  A time that cannot be read is None; its text is still in
`raw`.

`raw` is the whole notification, as a dict by element name, with `@` before the names of
attributes.  It has what this package has no field for.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypeGuard

import attrs

from .codes import DeliveryState, FailureReason

# What is public, here and in the package.
__all__ = [
    "DeliveryReceipt",
    "InboundSMS",
    "Notification",
    "SentNotification",
    "SubscriptionChange",
    "UnknownNotification",
]

CUT_OFF: Final = "it ends in the middle"  # why a part of a postback cannot be read

# A dict has no hash; values that hold one are still hashable by the rest.
_raw: Any = attrs.field(repr=False, hash=False)


# Without slots: with them, a frozen class sets each field by a call, which takes 1 µs more for
# every notification.
@attrs.frozen(kw_only=True, slots=False)
class _Notification:
    code: str | None = None
    origin: str | None = None
    id: str | None = None
    created: datetime | None = None
    timestamp: datetime | None = None
    raw: dict[str, Any] = _raw


@attrs.frozen(kw_only=True, slots=False)
class SentNotification(_Notification):
    """The message was handed to the carrier (N201)."""

    tracking_id: str | None = None
    to: str | None = None
    from_: str | None = None
    from_mask: str | None = None
    history_id: str | None = None
    spid: str | None = None
    status: str | None = None


@attrs.frozen(kw_only=True, slots=False)
class DeliveryReceipt(_Notification):
    """What became of a message (N202, E201, E202, or N201 with a STATUS element).

    `state` is `UNKNOWN` if the provider's status is in no table, and `reason` is set if the state
    is `FAILED`.  `protocol` and `status` are the aggregator's pair; in the flat form `status`
    alone is a text, such as `"Message Sent/Expired"`.  `detail` explains the status.
    """

    state: DeliveryState
    reason: FailureReason | None = None
    detail: str | None = None
    tracking_id: str | None = None
    to: str | None = None
    from_: str | None = None
    from_mask: str | None = None
    history_id: str | None = None
    spid: str | None = None
    protocol: str | None = None
    status: str | None = None
    aggregator_id: str | None = None


@attrs.frozen(kw_only=True, slots=False)
class InboundSMS(_Notification):
    """A handset sent an SMS to one of the account's numbers (N211).

    `text` is exactly as it came, and empty if none came; older notifications carry it as KEYWORD,
    which is then also in `keyword`.  `timestamp` is `received` if the notification has no
    TIMESTAMP of its own.
    """

    from_: str | None = None
    to: str | None = None
    text: str = ""
    keyword: str | None = None
    received: datetime | None = None
    transaction_id: str | None = None
    tracking_id: str | None = None
    history_id: str | None = None
    spid: str | None = None


@attrs.frozen(kw_only=True, slots=False)
class SubscriptionChange(_Notification):
    """A number was subscribed to a campaign (N301) or unsubscribed from it (N302)."""

    subscribed: bool
    mobile: str | None = None
    campaign_id: str | None = None
    campaign_title: str | None = None
    brand_name: str | None = None
    short_code: str | None = None
    source: str | None = None


@attrs.frozen(kw_only=True, slots=False)
class UnknownNotification(_Notification):
    """A notification that this package has no class for; all of it is in `raw`.

    `unreadable` says why a part of a postback cannot be read, for example that it is not
    well-formed XML; its text as it came is then in `raw["#text"]`.
    """

    unreadable: str | None = None

    @property
    def is_cut_off(self) -> bool:
        """Whether the postback was cut off here."""
        return self.unreadable == CUT_OFF


Notification = (
    SentNotification | DeliveryReceipt | InboundSMS | SubscriptionChange | UnknownNotification
)


def is_unreadable(notification: Notification) -> TypeGuard[UnknownNotification]:
    """Return whether a notification is a part of a postback that could not be read."""
    return isinstance(notification, UnknownNotification) and notification.unreadable is not None
