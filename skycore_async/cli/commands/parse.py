"""`skycore parse`: what a postback says; and how any command shows a notification.

Strategy: a table by kind says which field of a notification is the person's
number and what it tells; everything shown is made by it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import attrs
import click

from ..ui.output import console, emit, json_option, leave, plain
from ..ui.tables import printable, show_table, time_of

if TYPE_CHECKING:
    from ...notifications import Notification

_MOST: Final = 1024 * 1024  # bytes in a postback; one more is what the parser refuses


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@json_option
def parse(file: BinaryIO | None, *, as_json: bool) -> None:
    """Show what the body of a postback says.

    FILE is a body as Skycore posted it: a NOTIFICATION, a POSTBACK of one or of
    many, or either in a form field `xml`.  FILE `-`, or none, reads standard
    input.  With --json, each notification is a line, whole, with its `raw`.

    \b
    Examples:
      skycore parse postback.xml
      skycore parse --json < postback.xml | jq .tracking_id

    Exit codes: 0 done, 2 wrong usage, or no postback.
    """  # noqa: D301 - \b is click's word for lines to leave as they are
    from ...errors import PostbackError
    from ...postbacks import parse_postback

    if file is None and sys.stdin.isatty():
        raise click.UsageError("Give a FILE, or pipe a postback in.")
    body: BinaryIO = file or sys.stdin.buffer
    try:
        notifications = parse_postback(body.read(_MOST + 1))
    except PostbackError as error:
        leave(printable(str(error)))
    except OSError as error:
        leave(f"{body.name} cannot be read: {error.strerror}")
    if as_json:
        for notification in notifications:
            emit({"kind": kind_of(notification), **plain(notification)})
    else:
        show_table(
            console(), NotificationRow.headings(), [row_of(one).cells() for one in notifications]
        )


# A notification as a row.


@attrs.frozen(kw_only=True)
class NotificationRow:
    """What is shown of a notification; what it does not have is empty."""

    kind: str
    tracking_id: str
    number: str
    state: str
    reason: str
    time: str

    @classmethod
    def headings(cls) -> tuple[str, ...]:
        """Return the names of the columns."""
        return tuple(field.name.replace("_", " ") for field in attrs.fields(cls))

    def cells(self) -> tuple[str, ...]:
        """Return the row as it is shown."""
        return tuple(map(printable, attrs.astuple(self)))


def _nothing(_: Any) -> None:
    return None


@attrs.frozen(kw_only=True)
class _Kind:
    name: str
    number: Callable[[Any], str | None] = _nothing
    state: Callable[[Any], str | None] = _nothing
    reason: Callable[[Any], str | None] = _nothing


def _why(receipt: Any) -> str:
    return ": ".join(filter(None, (receipt.reason, receipt.detail)))


# By the name of the class, so that no class is loaded for the help.
_KINDS: Final = {
    "SentNotification": _Kind(name="sent", number=lambda n: n.to, state=lambda _: "sent"),
    "DeliveryReceipt": _Kind(
        name="receipt", number=lambda n: n.to, state=lambda n: n.state, reason=_why
    ),
    "InboundSMS": _Kind(name="inbound", number=lambda n: n.from_, reason=lambda n: n.text),
    "SubscriptionChange": _Kind(
        name="subscription",
        number=lambda n: n.mobile,
        state=lambda n: "subscribed" if n.subscribed else "unsubscribed",
        reason=lambda n: n.campaign_title or n.campaign_id,
    ),
    "UnknownNotification": _Kind(
        name="unknown", reason=lambda n: " ".join(filter(None, (n.origin, n.code)))
    ),
}


def kind_of(notification: Notification) -> str:
    """Return the name of a notification's kind."""
    return _KINDS[type(notification).__name__].name


def row_of(notification: Notification) -> NotificationRow:
    """Return what is shown of a notification."""
    kind = _KINDS[type(notification).__name__]
    return NotificationRow(
        kind=kind.name,
        tracking_id=getattr(notification, "tracking_id", None) or "",
        number=kind.number(notification) or "",
        state=str(kind.state(notification) or ""),
        reason=kind.reason(notification) or "",
        time=time_of(notification.timestamp or notification.created),
    )
