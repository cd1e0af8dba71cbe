"""The sendSMS request and its answer, as values and bytes.  No I/O.

Strategy: `resolve` turns what the caller gave into what the API takes, or
refuses it; `post_body` and `query_string` write it; `parse_response` reads the
answer into an `Accepted` or raises what it says instead.

Rules:

* What the API would refuse, or would change (it cuts FROM_MASK), is refused
  here.  Text is never changed.
* The body of an answer decides; the HTTP status only speaks where there is no
  RESPONSE in it, not even a part of one, because the API answers 200 either way.
* An answer that names another number is to another message.
* A Failure is a rejection, pace (E106, E113) or doubt (E503).  Whatever is no
  clear answer is doubt: the request had left by then.
* The API key is spliced in last, where nothing can raise any more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from operator import attrgetter
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

from . import xml
from .codes import API_ERRORS, Scope
from .errors import InvalidMessage, OutcomeUnknown, Rejected, Throttled
from .messages import SMS, Accepted
from .text import describe, first_forbidden, segments

ENDPOINT: Final = "https://secure.skycore.com/API/wxml/1.3/index.php"
FROM_MASK_LENGTH: Final = 11  # characters; the provider cuts what is longer

_HTTP_TOO_MANY_REQUESTS: Final = 429
_HTTP_NOT_HERE: Final = frozenset({404, 405})  # what another address than the API's answers
_SECONDS: Final = re.compile(r"[0-9]{1,9}")

# In the order of the provider's own examples.
_FIELDS: Final = (
    ("SPID", "spid"),
    ("OPERATORID", "operator_id"),
    ("TO", "to"),
    ("FROM", "from_"),
    ("FROM_MASK", "from_mask"),
    ("CAMPAIGNREF", "campaign_ref"),
    ("TEXT", "text"),
)
_ATTRIBUTES: Final = (*(attribute for _, attribute in _FIELDS), "key")
_values_of: Final = attrgetter(*_ATTRIBUTES)

# An answer that says one of these twice says nothing.
_DECIDING: Final = frozenset({"STATUS", "TRACKINGID", "ERRORCODE", "TO"})
_HALF_SAID: Final = {
    "success": "Success without a TRACKINGID",
    "failure": "Failure with a TRACKINGID",
}

_HEAD: Final = "xml=" + quote_plus("<REQUEST><ACTION>sendSMS</ACTION><API_KEY>")
_AFTER_KEY: Final = quote_plus("</API_KEY>")
_FORM_FIELDS: Final = tuple(
    (quote_plus(f"<{name}>"), attribute, quote_plus(f"</{name}>")) for name, attribute in _FIELDS
)
_TAIL: Final = quote_plus("</REQUEST>")

# What people and address books put around a number: punctuation, the no-break
# spaces and hyphens of typeset text, and the invisible marks of copied text.
_FORMATTING: Final = re.compile(
    "[ \t\\-./()\u00a0\u2007\u2009\u202f\u2010-\u2015\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069]"
)
_NUMBER: Final = re.compile(r"(?!00)[0-9]{5,15}", re.ASCII)
# A number that passed through a table of amounts: the zeros are no digits of it.
_AMOUNT: Final = re.compile(r"\s*\+?[0-9]+\.00?\s*", re.ASCII)


def resolve(
    message: SMS,
    *,
    from_: str | None = None,
    campaign_ref: str | None = None,
    enforce_campaign_check: bool = False,
    max_segments: int | None = None,
) -> SMS:
    """Make the message that is to be sent, with the defaults filled in.

    The number is bare digits then.  Raises InvalidMessage, with the field at
    fault, for what the API would refuse or change.
    """
    resolved = SMS(
        to=number(message.to),
        text=message.text,
        from_=_named("from_", message.from_ or from_),
        campaign_ref=message.campaign_ref or campaign_ref,
        spid=message.spid,
        operator_id=message.operator_id,
        from_mask=message.from_mask,
        key=message.key,
    )
    if enforce_campaign_check and not resolved.campaign_ref:
        raise InvalidMessage(
            "none given, and the account has Enforce Campaign Check on", field="campaign_ref"
        )
    for attribute, value in zip(_ATTRIBUTES, _values_of(resolved), strict=True):
        if value is not None:
            _check_characters(attribute, value)
    if resolved.key == "":
        raise InvalidMessage("empty", field="key")
    if resolved.from_mask and len(resolved.from_mask) > FROM_MASK_LENGTH:
        raise InvalidMessage(
            f"longer than {FROM_MASK_LENGTH} characters; the API would cut it", field="from_mask"
        )
    _check_text(resolved.text, max_segments)
    return resolved


def number(to: str) -> str:
    """Strip the formatting from a phone number and give its digits.

    Raises InvalidMessage unless 5 to 15 digits without a `00` prefix are left,
    which is what the API takes, and for a decimal number: without its point
    `15551234888.0` would be somebody else's.
    """
    if not isinstance(to, str):
        raise InvalidMessage(f"a str is needed, not {type(to).__name__}", field="to")
    if _NUMBER.fullmatch(to):
        return to
    if _AMOUNT.fullmatch(to):
        raise InvalidMessage(
            f"{to[:40]!r} is a decimal number, and not in international format: give the digits"
            " before the point as text",
            field="to",
        )
    digits = _FORMATTING.sub("", to).removeprefix("+")
    if not _NUMBER.fullmatch(digits):
        raise InvalidMessage(
            f"{to[:40]!r} is no phone number in international format:"
            " 5 to 15 digits, with no 00 in front",
            field="to",
        )
    return digits


def _named(field: str, value: str | None) -> str:
    if not value:
        raise InvalidMessage("no short code given, by the message or the client", field=field)
    return value


def _check_characters(field: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidMessage(f"a str is needed, not {type(value).__name__}", field=field)
    if forbidden := first_forbidden(value):
        position, character = forbidden
        raise InvalidMessage(
            f"{describe(character)} at position {position} cannot be sent: XML 1.0 has no such"
            " character",
            field=field,
        )


def _check_text(text: str, max_segments: int | None) -> None:
    if not text:
        raise InvalidMessage("empty", field="text")
    if max_segments is None:
        return
    needed = segments(text)
    if needed.count > max_segments:
        raise InvalidMessage(
            f"takes {needed.count} segments in {needed.encoding}, and max_segments is"
            f" {max_segments}",
            field="text",
        )


def post_body(message: SMS, *, api_key: str) -> bytes:
    """Write a resolved message as the body of a POST: a form whose field `xml` is the REQUEST.

    What is the same in every request is encoded once, beforehand.
    """
    parts = [_HEAD, _form_text(api_key), _AFTER_KEY]
    for start, attribute, end in _FORM_FIELDS:
        if value := getattr(message, attribute):
            parts += start, _form_text(value), end
    parts.append(_TAIL)
    return "".join(parts).encode("ascii")


def _form_text(text: str) -> str:
    if text.isalnum() and text.isascii():
        return text  # nothing to escape, as in most numbers and keys
    return quote_plus(xml.escape(text))


def query_string(message: SMS, *, api_key: str) -> str:
    """Write a resolved message as the query string of a GET.

    The API key is in it, and URLs reach logs and proxies.
    """
    fields = [("action", "sendsms"), ("api_key", api_key)]
    fields += [
        (name.lower(), value)
        for name, attribute in _FIELDS
        if (value := getattr(message, attribute))
    ]
    return urlencode(fields)


_PLAIN: Final = ("STATUS", "TRACKINGID", "TO")
# The answer to nearly every message: what a parser makes of it can be read off.
_PLAIN_SUCCESS: Final = re.compile(
    rb"[ \t\r\n]*<RESPONSE>[ \t\r\n]*"
    rb"<STATUS>(Success)</STATUS>[ \t\r\n]*"
    rb"<TRACKINGID>([A-Za-z0-9_=+/.-]{1,200})</TRACKINGID>[ \t\r\n]*"
    rb"<TO>([0-9]{1,20})</TO>[ \t\r\n]*"
    rb"</RESPONSE>[ \t\r\n]*"
)


def parse_response(
    message: SMS, *, to: str, status: int, headers: Mapping[str, str], body: bytes
) -> Accepted:
    """Read the answer to a sendSMS request.

    `message` is what the caller gave and `to` the number it was sent to;
    `headers` have lower-case names.

    Raises Rejected, Throttled or OutcomeUnknown for every other answer than
    a Success with a TRACKINGID.
    """
    try:
        response = _response(body)
    except xml.XMLRefused as error:
        if status == _HTTP_TOO_MANY_REQUESTS and b"<response" not in body.lower():
            raise _throttled_by_http(headers) from error
        advice = "; see that base_url is the API's" if status in _HTTP_NOT_HERE else ""
        raise OutcomeUnknown(
            f"HTTP {status} with an answer that is no RESPONSE: {error}{advice}",
            http_status=status,
        ) from error
    if not _is_about(to, _text(response, "TO")):
        raise OutcomeUnknown(
            f"HTTP {status} with the answer to another number", http_status=status
        )
    verdict = _text(response, "STATUS").lower()
    tracking_id = _text(response, "TRACKINGID")
    if verdict == "success" and tracking_id:
        return Accepted(
            message=message,
            to=_text(response, "TO") or to,
            tracking_id=tracking_id,
            raw=response,
        )
    if verdict == "failure" and not tracking_id:
        raise _failure(response, status, headers)
    if status == _HTTP_TOO_MANY_REQUESTS and not (verdict or tracking_id):
        raise _throttled_by_http(headers)
    said = _HALF_SAID.get(verdict) or f"STATUS {verdict[:40]!r}"
    raise OutcomeUnknown(f"HTTP {status} with {said}", http_status=status)


def _is_about(to: str, said: str) -> bool:
    # An answer may leave the number out, or write it with or without its country code.
    if said == to:
        return True
    digits = "".join(filter(str.isdecimal, said))
    return digits.endswith(to) or to.endswith(digits)


def _response(body: bytes) -> dict[str, Any]:
    if plain := _PLAIN_SUCCESS.fullmatch(body):
        return {name: text.decode() for name, text in zip(_PLAIN, plain.groups(), strict=True)}
    root, tree = xml.parse(body)
    if root.upper() != "RESPONSE":
        raise xml.XMLRefused(f"its root is <{root[:40]}>")
    response: dict[str, Any] = {}
    for name, value in tree.items() if isinstance(tree, dict) else ():
        field = name.upper()
        if field in _DECIDING and (field in response or isinstance(value, list)):
            raise xml.XMLRefused(f"it has {field} more than once")
        # Indentation is text of the root to a parser.
        if name != "#text" or value.strip():
            response[field] = value
    return response


def _text(response: dict[str, Any], name: str) -> str:
    value = response.get(name)
    if isinstance(value, dict):  # as one with attributes is
        value = value.get("#text")
    return value.strip() if isinstance(value, str) else ""


def _failure(
    response: dict[str, Any], status: int, headers: Mapping[str, str]
) -> Rejected | Throttled | OutcomeUnknown:
    code = _text(response, "ERRORCODE").upper() or None
    info = _text(response, "ERRORINFO") or None
    known = API_ERRORS.get(code or "")
    if known and known.scope is Scope.THROTTLE:
        return Throttled(
            f"{code}: {info or known.meaning}",
            code=code,
            info=info,
            retry_after=_retry_after(headers),
        )
    if known and known.scope is Scope.UNKNOWN:
        return OutcomeUnknown(f"{code}: {info or known.meaning}", http_status=status, code=code)
    return Rejected.of(code=code, info=info)


def _throttled_by_http(headers: Mapping[str, str]) -> Throttled:
    return Throttled("HTTP 429", retry_after=_retry_after(headers))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Give the seconds that a Retry-After asks for (RFC 9110, section 10.2.3)."""
    wish = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(wish):
        return float(wish)
    try:
        # A date counts from the server's own clock, which Date shows.
        pause = parsedate_to_datetime(wish) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, pause.total_seconds())
