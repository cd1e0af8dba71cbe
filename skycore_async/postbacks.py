"""Postback bodies in, typed notifications out.  No I/O, no framework.

Strategy: find the document (bare, or in a field `xml` of either kind of form), parse it safely,
split it into notifications, and build each from a table by its ORIGIN and CODE.

Rules:

* A body that is not a postback raises `PostbackError`, and nothing else raises.
* A postback is never lost.  A notification of an unknown kind, or one that contradicts its kind
  (an element twice that may occur once), becomes an `UnknownNotification` with all of it in `raw`;
  the others in the bundle are read all the same.
* A notification that is not well-formed does not affect the others either: it is read as far as it
  is unambiguous (`malformed_xml`), and otherwise kept as received, as an `UnknownNotification`.
* An unknown status is never guessed to be good or bad news.
* Element and attribute names are read in any letter case, since the provider's
  own examples differ in it (`ID`/`id`, `CREATED`/`created`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar, get_args
from urllib.parse import unquote_to_bytes

import attrs

from .codes import CODE_STATES, STATUS_TEXTS, DeliveryState, FailureReason, carrier_status
from .errors import PostbackError
from .notifications import (
    DeliveryReceipt,
    InboundSMS,
    Notification,
    SentNotification,
    SubscriptionChange,
    UnknownNotification,
)
from .protocol import malformed_xml, safe_xml

_FORM_FIELD: Final = re.compile(rb"(?:^|&)xml=", re.IGNORECASE)
# The same field of a form in parts (RFC 7578), up to where its value begins.
_FORM_PART: Final = re.compile(
    rb'^Content-Disposition:[^\r\n]{0,99};[ \t]{0,9}name="?xml"?(?:;[^\r\n]{0,199})?\r\n'
    rb"(?:[^\r\n]{1,199}\r\n){0,9}\r\n",
    re.IGNORECASE | re.MULTILINE,
)
_BEFORE_PART: Final = 8 * 1024  # bytes before that value: other parts, and its own head
_Fields = dict[str, Any]


def parse_postback(body: bytes | bytearray | memoryview | str) -> tuple[Notification, ...]:
    """Parse the body of a postback request into its notifications, in order.

    `body` is what the provider posted: a `<NOTIFICATION>`, a `<POSTBACK>` that
    bundles many, a flat `<POSTBACK>`, or any of these in the field `xml` of a form, which may
    be one in parts (`multipart/form-data`).
    Pass bytes where you have them; they are decoded as the document declares.

    If it is not well-formed, as much as possible is read, and the rest is an
    `UnknownNotification` that says why.

    Raises PostbackError for a body that is none of these, such as None, or is hostile or larger
    than 1 MiB.
    """
    try:
        parts = _parts(_document(body))
    except safe_xml.XMLRefused as error:
        raise PostbackError(f"this body is no postback: {error}") from error
    notifications: list[Notification] = []
    for root, tree in parts:
        take_apart = _ROOTS.get(root.upper())
        if take_apart is None:
            raise PostbackError(
                f"this body is no postback: <{root[:40]}> is neither <POSTBACK> nor <NOTIFICATION>"
            )
        notifications += map(notification, take_apart(tree))
    if not notifications:
        raise PostbackError("this body is no postback: <POSTBACK> is empty")
    return tuple(notifications)


def _parts(document: bytes | str) -> list[malformed_xml.Part]:
    try:
        return [safe_xml.parse(document)]
    except safe_xml.NotWellFormed:
        if (parts := malformed_xml.readable_parts(document)) is None:
            raise
        return parts


def _document(body: bytes | bytearray | memoryview | str) -> bytes | str:
    if not isinstance(body, bytes | str):
        body = _in_bytes(body)
    if body.startswith("<") if isinstance(body, str) else body.startswith(b"<"):
        return body
    if len(body) > safe_xml.MAX_BYTES:
        raise PostbackError(f"this body is no postback: larger than {safe_xml.MAX_BYTES:,} bytes")
    encoded = body if isinstance(body, bytes) else body.encode(errors="surrogatepass")
    encoded = encoded.lstrip(safe_xml.BEFORE_DOCUMENT)
    if not encoded:
        raise PostbackError("this body is no postback: it is empty")
    before = encoded.partition(b"<")[0]
    if encoded.startswith(b"--") and (part := _FORM_PART.search(before, 0, _BEFORE_PART)):
        delimiter = b"\r\n" + encoded.partition(b"\r\n")[0]
        document = encoded[part.end() :].partition(delimiter)[0]
        return document if isinstance(body, bytes) else document.decode(errors="surrogatepass")
    field = _FORM_FIELD.search(before)
    if field is None:
        return body
    value = encoded[field.end() :]
    first = value.partition(b"&")[0]
    if b"<" in first:
        # Declared as a form, but not encoded as one: `&` and `+` are plain characters.
        document = value[: value.rfind(b">") + 1]
        return document if isinstance(body, bytes) else document.decode(errors="surrogatepass")
    if 3 * first.count(b"%") > len(first):
        # More `%` than escapes: decoding those that are none would cost much for nothing.
        raise PostbackError("this body is no postback: its form is not encoded as one")
    return unquote_to_bytes(first.rstrip().replace(b"+", b" "))


def _in_bytes(body: bytearray | memoryview) -> bytes:
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    raise PostbackError(
        f"this body is no postback: bytes or a str are needed, not {type(body).__name__}"
    )


def _of_postback(tree: Any) -> list[_Fields]:
    flat = _node(tree)
    nodes: list[_Fields] = []
    for name in [name for name in flat if name.upper() == "NOTIFICATION"]:
        value = flat.pop(name)
        elements: list[Any] = value if type(value) is list else [value]
        nodes += map(_node, elements)
    if {name[0] for name in flat} - {"@"}:
        nodes.append(flat)
    return nodes


_ROOTS: Final[dict[str, Callable[[Any], list[_Fields]]]] = {
    "NOTIFICATION": lambda tree: [_node(tree)],
    "POSTBACK": _of_postback,
}


def _node(element: Any) -> _Fields:
    """Return xmltodict's value of an element as a dict, without the indentation in it."""
    node: _Fields = element if type(element) is dict else {"#text": element or ""}
    if "#text" in node and not node["#text"].strip(safe_xml.WHITE_SPACE):
        del node["#text"]
    return node


# Names in upper case, and the other spelling in the provider's own examples.
_ELEMENTS: Final[dict[str, str]] = {
    "AGGREGATORID": "aggregator_id",
    "BODY": "body",
    "BRANDNAME": "brand_name",
    "CAMPAIGNID": "campaign_id",
    "CAMPAIGNTITLE": "campaign_title",
    "CODE": "code",
    "FROM": "from_",
    "FROM_MASK": "from_mask",
    "HISTORYID": "history_id",
    "KEYWORD": "keyword",
    "MOBILE": "mobile",
    "ORIGIN": "origin",
    "RECEIVED": "received",
    "SHORTCODE": "short_code",
    "SOURCE": "source",
    "SPID": "spid",
    "STATUS": "status",
    "STATUSDETAILS": "detail",
    "TEXT": "text",
    "TIMESTAMP": "timestamp",
    "TO": "to",
    "TRACKINGID": "tracking_id",
    "TRANSACTIONID": "transaction_id",
}
# An attribute of BODY does not belong to the notification.
_ATTRIBUTES: Final[dict[str, str]] = {
    **_ELEMENTS,
    "@CREATED": "created",
    "@ID": "id",
    "@created": "created",
    "@id": "id",
    malformed_xml.UNREADABLE: "unreadable",
}
# The STATUS of the NOTIFICATION form; `protocole` is the spelling of the N202 edition.
_PAIR: Final[dict[str, str]] = {
    "@PROTOCOL": "protocol",
    "@PROTOCOLE": "protocol",
    "@STATUS": "status",
    "@protocole": "protocol",
    "@status": "status",
}
_TIMES: Final = ("created", "received", "timestamp")
# White space is part of an SMS; around any other field it is layout.
_VERBATIM: Final = frozenset({"keyword", "text"})


def notification(node: _Fields) -> Notification:
    """Return the notification for its elements, given in the form of a notification's `raw`."""
    values: _Fields = {}
    fits = _gather(node, values)
    for attribute in _TIMES:
        if attribute in values:
            values[attribute] = _time(values[attribute])
    values["raw"] = node
    kind = (values.get("origin"), values.get("code"))
    build = _BUILDERS.get(kind, _unknown) if fits else _unknown
    return build(values)


def _gather(fields: _Fields, values: _Fields, known: dict[str, str] = _ATTRIBUTES) -> bool:
    """Add the fields that are attributes of notifications to `values`.

    Returns False if one occurs twice, or holds elements instead of a text.
    """
    fits = True
    for name, value in fields.items():
        attribute = known.get(name) or known.get(name.upper())
        if attribute is None or value is None:
            continue
        if attribute in values:
            fits = False
        elif type(value) is not str:
            fits &= _gather_element(name, attribute, value, values)
        elif attribute in _VERBATIM:
            values[attribute] = value
        elif text := value.strip():
            values[attribute] = text
    return fits


def _gather_element(name: str, attribute: str, element: Any, values: _Fields) -> bool:
    if type(element) is not dict:
        return False
    if attribute == "body":
        return _gather(_node(element), values, _ELEMENTS)
    if attribute == "status" and not (
        _PAIR.keys().isdisjoint(element) and _PAIR.keys().isdisjoint(map(str.upper, element))
    ):
        fits = _gather(element, values, _PAIR)
        values.setdefault("protocol", None)  # of a pair, though half of it may be missing
        values.setdefault("status", None)
        return fits
    if any(inner[0] not in "@#" for inner in element):
        return False
    # A text is kept when its element has attributes, too.
    return _gather({name: element.get("#text")}, values)


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


_N = TypeVar("_N", bound=Notification)

_FIELDS: Final[dict[Any, frozenset[str]]] = {
    kind: frozenset(attrs.fields_dict(kind)) for kind in get_args(Notification)
}


def _make(kind: type[_N], values: _Fields) -> _N:
    try:
        return kind(**values)
    except TypeError:  # of an element that belongs to another kind; it is still in `raw`
        fields = _FIELDS[kind]
        return kind(**{name: values[name] for name in values.keys() & fields})


def _unknown(values: _Fields) -> UnknownNotification:
    return _make(UnknownNotification, values)


def _sent(values: _Fields) -> SentNotification | DeliveryReceipt:
    # The NOTIFICATION form has receipts with the code of a sent notification;
    # only the STATUS element tells them apart.
    if "protocol" not in values and _by_status(values) in (None, _SENT):
        return _make(SentNotification, values)
    return _receipt(values)


def _receipt(values: _Fields) -> DeliveryReceipt:
    by_status = _by_status(values)
    values["state"], values["reason"] = _reconciled(CODE_STATES[values["code"]], by_status)
    return _make(DeliveryReceipt, values)


_StateAndReason = tuple[DeliveryState, FailureReason | None]
_SENT: Final[_StateAndReason] = (DeliveryState.SENT, None)
_UNKNOWN: Final[_StateAndReason] = (DeliveryState.UNKNOWN, None)


def _by_status(values: _Fields) -> _StateAndReason | None:
    """Return the meaning of the STATUS, with its text in `detail`; None if there is no STATUS."""
    status = values.get("status")
    if "protocol" in values:
        carrier = carrier_status(values["protocol"] or "", status or "")
        if carrier is None:
            return _UNKNOWN
        values.setdefault("detail", carrier.meaning)
        return carrier.state, carrier.reason
    return None if status is None else STATUS_TEXTS.get(status.lower(), _UNKNOWN)


def _reconciled(by_code: DeliveryState, by_status: _StateAndReason | None) -> _StateAndReason:
    """Return the state and reason by the CODE and by the STATUS, which is more exact."""
    if by_code is not DeliveryState.FAILED:
        return by_status or (by_code, None)
    if by_status is None or by_status == _UNKNOWN:
        return by_code, FailureReason.UNKNOWN
    # Where the code says failed and the status says not, believe neither.
    return by_status if by_status[0] is DeliveryState.FAILED else _UNKNOWN


def _inbound(values: _Fields) -> InboundSMS:
    values.setdefault("timestamp", values.get("received"))
    values["text"] = values.get("text") or values.get("keyword") or ""
    return _make(InboundSMS, values)


def _subscription(values: _Fields) -> SubscriptionChange:
    values["subscribed"] = values["code"] == "N301"
    return _make(SubscriptionChange, values)


# The kinds not listed (MMS, e-mail, passes, E999) are documented by the
# provider and not about SMS: they stay whole as unknown notifications.
_BUILDERS: Final[dict[tuple[str | None, str | None], Callable[[_Fields], Notification]]] = {
    ("SMS_MT", "N201"): _sent,
    ("SMS_MT", "N202"): _receipt,
    ("SMS_MT", "E201"): _receipt,
    ("SMS_MT", "E202"): _receipt,
    ("SMS_MO", "N211"): _inbound,
    ("SUB", "N301"): _subscription,
    ("SUB", "N302"): _subscription,
}
