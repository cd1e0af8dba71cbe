"""A notification as people see it: its kind, the recipient's number, and what it says.

Rules:

* Each kind is handled by name, so that a new kind which is forgotten here fails the
  type check.
* A detail is a carrier's own text, and may have the number in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

import attrs

from ...messages import masked
from ...notifications import (
    DeliveryReceipt,
    InboundSMS,
    Notification,
    SentNotification,
    SubscriptionChange,
    UnknownNotification,
    is_unreadable,
)
from .masking import mask_in
from .output import printable
from .times import time_of


@attrs.frozen(kw_only=True)
class NotificationRow:
    """What is shown of a notification; a field that it lacks is empty."""

    kind: str
    tracking_id: str = ""
    number: str = ""
    state: str = ""
    details: str = ""
    time: str = ""

    @classmethod
    def headings(cls) -> tuple[str, ...]:
        """Return the names of the columns."""
        return tuple(field.name.replace("_", " ") for field in attrs.fields(cls))

    def cells(self) -> tuple[str, ...]:
        """Return the cells as they are shown."""
        return tuple(map(printable, attrs.astuple(self)))


def row_of(notification: Notification) -> NotificationRow:
    """Return what is shown of a notification."""
    time = time_of(notification.timestamp or notification.created)
    match notification:
        case SentNotification():
            return NotificationRow(
                kind="sent",
                tracking_id=notification.tracking_id or "",
                number=notification.to or "",
                state="sent",
                time=time,
            )
        case DeliveryReceipt():
            return NotificationRow(
                kind="receipt",
                tracking_id=notification.tracking_id or "",
                number=notification.to or "",
                state=str(notification.state),
                details=": ".join(filter(None, (notification.reason, notification.detail))),
                time=time,
            )
        case InboundSMS():
            return NotificationRow(
                kind="inbound",
                tracking_id=notification.tracking_id or "",
                number=notification.from_ or "",
                details=notification.text,
                time=time,
            )
        case SubscriptionChange():
            return NotificationRow(
                kind="subscription",
                number=notification.mobile or "",
                state="subscribed" if notification.subscribed else "unsubscribed",
                details=notification.campaign_title or notification.campaign_id or "",
                time=time,
            )
        case UnknownNotification(unreadable=str(why)):
            return NotificationRow(kind="unreadable", details=why, time=time)
        case UnknownNotification():
            said = filter(None, (notification.origin, notification.code))
            return NotificationRow(kind="unknown", details=" ".join(said), time=time)
        case _:
            assert_never(notification)


def masked_row(notification: Notification) -> NotificationRow:
    """Return what is shown of a notification without its number, in the text of a person, too."""
    row = row_of(notification)
    return attrs.evolve(row, number=masked(row.number), details=mask_in(row.details, row.number))


def facts_of(notification: Notification) -> dict[str, Any]:
    """Return what a notification says, for programs."""
    return _facts(notification, row_of(notification), lambda text: text)


def masked_facts(notification: Notification) -> dict[str, Any]:
    """Return what a notification says, for programs, without its number."""
    number = row_of(notification).number
    return _facts(notification, masked_row(notification), lambda text: mask_in(text, number))


def _facts(
    notification: Notification, row: NotificationRow, shown: Callable[[str], str]
) -> dict[str, Any]:
    detail = row.details if is_unreadable(notification) else getattr(notification, "detail", None)
    text = notification.text if isinstance(notification, InboundSMS) else None
    return {
        "kind": row.kind,
        "code": notification.code,
        "tracking_id": row.tracking_id or None,
        "number": row.number or None,
        "state": row.state or None,
        "reason": getattr(notification, "reason", None),
        "detail": detail and shown(detail),
        "text": None if text is None else shown(text),
        "time": notification.timestamp or notification.created,
    }
