"""Postbacks as the provider writes them, in both forms.

* The NOTIFICATION form has an ID and a creation time.  The sent notification
  and the delivery receipt both have CODE N201: only the STATUS element with the
  aggregator's pair tells them apart.  Up to 300 notifications can come bundled
  in one POSTBACK.
* The flat form is one POSTBACK for each event, with a CODE and a STATUS text
  of its own, and no id.

Pure: values in, bytes out.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Final
from urllib.parse import urlencode

import attrs

from ..protocol import safe_xml
from .behaviours import SENT, Event

MAX_BUNDLE: Final = 300
"""How many notifications the provider bundles at most."""

# The provider writes times in the time zone of the US east coast.
_ZONE: Final = timezone(timedelta(hours=-5))
_AGGREGATOR: Final = "4"


class PostbackForm(enum.Enum):
    """Which of the provider's two forms postbacks have."""

    NOTIFICATION = enum.auto()
    FLAT = enum.auto()


@attrs.frozen(kw_only=True)
class Postback:
    """An event of a message, to be posted to the account's postback URL.

    A postback that comes twice is the same value twice, `id` and `created`
    included.  `timestamp` is when it happened.
    """

    event: Event
    to: str
    tracking_id: str
    history_id: int
    id: int
    created: datetime
    timestamp: datetime
    from_: str = ""
    from_mask: str = ""
    spid: str = ""


def render(postback: Postback, form: PostbackForm) -> bytes:
    """Write one postback as an XML document."""
    return _WRITERS[form](postback).encode()


def document(
    origin: str,
    code: str,
    fields: Mapping[str, str],
    times: Mapping[str, datetime],
    *,
    id: int,  # noqa: A002 - its name on the wire
    form: PostbackForm,
) -> bytes:
    """Write a postback about no message; the first of its times is also when it was created."""
    if form is PostbackForm.FLAT:
        written = {name: time.astimezone(_ZONE).isoformat() for name, time in times.items()}
        about = {"ORIGIN": origin, "CODE": code}
        return f"<POSTBACK>\n{_elements({**about, **fields, **written})}</POSTBACK>".encode()
    written = {name: _with_space(time) for name, time in times.items()}
    return (
        f'<NOTIFICATION ID="{id}" CREATED="{next(iter(written.values()))}">\n'
        f"{_elements({'ORIGIN': origin, 'CODE': code})}"
        f"<BODY>\n{_elements({**fields, **written})}</BODY>\n</NOTIFICATION>"
    ).encode()


def bundle(postbacks: Sequence[Postback]) -> bytes:
    """Write several postbacks as one POSTBACK of notifications.

    Raises ValueError for no postback, and for more than `MAX_BUNDLE`.
    """
    if not 1 <= len(postbacks) <= MAX_BUNDLE:
        raise ValueError(f"a bundle has 1 to {MAX_BUNDLE} postbacks, not {len(postbacks)}")
    return "\n".join(["<POSTBACK>", *map(_notification, postbacks), "</POSTBACK>"]).encode()


def form_field(document: bytes) -> bytes:
    """Put a document into the form field `xml`, as `application/x-www-form-urlencoded`."""
    return urlencode({"xml": document}).encode()


def _notification(postback: Postback) -> str:
    event = postback.event
    status = ""
    if event.carrier is not None:
        protocol, code = map(_attribute, event.carrier)
        status = f'<STATUS PROTOCOL="{protocol}" STATUS="{code}"/>\n'
    body = {
        "HISTORYID": str(postback.history_id),
        "TO": postback.to,
        "TRACKINGID": postback.tracking_id,
    }
    return (
        f'<NOTIFICATION ID="{postback.id}" CREATED="{_with_space(postback.created)}">\n'
        f"{_elements({'ORIGIN': 'SMS_MT', 'CODE': SENT.code if status else event.code})}"
        f"<BODY>\n{_elements(body)}{status}"
        f"{_elements({'TIMESTAMP': _with_space(postback.timestamp)})}</BODY>\n"
        "</NOTIFICATION>"
    )


def _flat(postback: Postback) -> str:
    event = postback.event
    fields = {
        "ORIGIN": "SMS_MT",
        "CODE": event.code,
        "STATUS": event.status,
        "FROM": postback.from_,
        "FROM_MASK": postback.from_mask,
        "TO": postback.to,
        "TRACKINGID": postback.tracking_id,
        "SPID": postback.spid,
        "TIMESTAMP": postback.timestamp.astimezone(_ZONE).isoformat(timespec="milliseconds"),
        "STATUSDETAILS": event.detail or "",
        "AGGREGATORID": _AGGREGATOR if event.detail else "",
    }
    return f"<POSTBACK>\n{_elements(fields)}</POSTBACK>"


_WRITERS: Final[Mapping[PostbackForm, Callable[[Postback], str]]] = {
    PostbackForm.NOTIFICATION: _notification,
    PostbackForm.FLAT: _flat,
}


def _elements(fields: Mapping[str, str]) -> str:
    return "".join(
        f"<{name}>{safe_xml.escape(value)}</{name}>\n" for name, value in fields.items() if value
    )


def _attribute(value: str) -> str:
    return safe_xml.escape(value).replace('"', "&quot;")


def _with_space(time: datetime) -> str:
    """Write a time as `2011-07-26 10:22:25.262743-05`, with an hour-only offset."""
    return time.astimezone(_ZONE).strftime("%Y-%m-%d %H:%M:%S.%f-05")
