"""Parse the answer to a sendSMS request: bytes in; an `Accepted` out, or an error.  No I/O.

Rules:

* The body of an answer decides; the HTTP status counts only if the body has no RESPONSE, not even
  a part of one, because the API answers 200 to failures, too.
* An answer that names another number, or an unreadable one, belongs to another message.
* Success with an ERRORCODE or an ERRORINFO contradicts itself, and is no clear answer.
* The error for an unclear answer quotes nothing of it: it may repeat number and text.
* A Failure is a rejection, a throttle (E106, E113) or a doubt (E503).  Every unclear answer is a
  doubt: the request had left by then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

from ..codes import API_ERRORS, Verdict
from ..errors import OutcomeUnknown, Rejected, Throttled
from ..messages import SMS, Accepted
from ..runtime.secret import Secret
from . import numbers, safe_xml

_HTTP_TOO_MANY_REQUESTS: Final = 429
_HTTP_NOT_HERE: Final = frozenset({404, 405})  # what another address than the API's answers
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
# An answer with one of these twice is unclear.
_DECIDING: Final = frozenset({"STATUS", "TRACKINGID", "ERRORCODE", "TO"})
_HALF_SAID: Final = {
    "": "no STATUS",
    "success": "Success without a TRACKINGID",
    "failure": "Failure with a TRACKINGID",
}
_ERROR: Final = ("ERRORCODE", "ERRORINFO")
_READ_HEADERS: Final = ("date", "retry-after")
# The answer to nearly every message, with the result that a parser would give.
_PLAIN_SUCCESS: Final = re.compile(
    rb"[ \t\r\n]*<RESPONSE>[ \t\r\n]*"
    rb"<STATUS>(Success)</STATUS>[ \t\r\n]*"
    rb"<TRACKINGID>([A-Za-z0-9_=+/.-]{1,200})</TRACKINGID>[ \t\r\n]*"
    rb"<TO>([0-9]{1,20})</TO>[ \t\r\n]*"
    rb"</RESPONSE>[ \t\r\n]*"
)


def parse_response(
    message: SMS,
    *,
    to: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    api_key: Secret,
) -> Accepted:
    """Return the `Accepted` of an answer; any copy of `api_key` in the answer is masked first.

    `message` is what the caller gave and `to` the number it was sent to;
    `headers` have lower-case names.

    Raises Rejected, Throttled or OutcomeUnknown for every answer other than a Success with a
    TRACKINGID.
    """
    usual = _usual_success(message, to, body, api_key)
    if usual is not None:
        return usual
    # No other header is read, and others may repeat the key, for example Location.
    headers = {name: headers[name] for name in _READ_HEADERS if name in headers}
    body = api_key.hide_in(body)  # nor does a frame that a traceback shows
    response = _response_in(body, status, headers)
    if not _is_about(to, text_of(response, "TO")):
        raise OutcomeUnknown(
            f"HTTP {status} with the answer to another number", http_status=status
        )
    api_status = text_of(response, "STATUS").lower()
    tracking_id = text_of(response, "TRACKINGID")
    if api_status == "success" and any(map(_has_content, map(response.get, _ERROR))):
        raise OutcomeUnknown(f"HTTP {status} with Success and an error", http_status=status)
    if api_status == "success" and tracking_id:
        return Accepted(
            message=message,
            to=text_of(response, "TO") or to,
            tracking_id=tracking_id,
            raw=response,
        )
    if api_status == "failure" and not tracking_id:
        raise _failure(response, status, headers)
    if status == _HTTP_TOO_MANY_REQUESTS and not (api_status or tracking_id):
        raise _throttled_by_http(headers)
    said = _HALF_SAID.get(api_status) or "a STATUS that is neither Success nor Failure"
    raise OutcomeUnknown(f"HTTP {status} with {said}", http_status=status)


def _usual_success(message: SMS, to: str, body: bytes, api_key: Secret) -> Accepted | None:
    """Parse the answer that nearly every message gets, with the same result as the general way."""
    plain = _PLAIN_SUCCESS.fullmatch(body)
    if plain is None or plain[3].decode() != to or api_key.hide_in(plain[2]) != plain[2]:
        return None
    raw = _plain_fields(plain)
    return Accepted(message=message, to=to, tracking_id=raw["TRACKINGID"], raw=raw)


def _response_in(body: bytes, status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the elements of the RESPONSE in a body; without one, raise the status's error."""
    try:
        return read_fields(body)
    except safe_xml.XMLRefused as error:
        # In UTF-16 there are zero bytes between the letters.
        has_part = b"<response" in body.replace(b"\0", b"").lower()
        if status == _HTTP_TOO_MANY_REQUESTS and not has_part:
            raise _throttled_by_http(headers) from error
        advice = "; see that base_url is the API's" if status in _HTTP_NOT_HERE else ""
        raise OutcomeUnknown(
            f"HTTP {status} with an answer that is no RESPONSE: {error}{advice}",
            http_status=status,
        ) from error


def _has_content(value: object) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)


def _is_about(to: str, said: str) -> bool:
    # An answer may leave the number out, or write it with or without its country code.
    return said in {to, ""} or numbers.may_be_same(numbers.digits(said) or "", to)


def read_fields(body: bytes) -> dict[str, Any]:
    """Return the elements of a RESPONSE, by their names in upper case.

    Raises XMLRefused if it is none, or repeats an element that may occur only once.
    """
    if plain := _PLAIN_SUCCESS.fullmatch(body):
        return _plain_fields(plain)
    root, tree = safe_xml.parse(body)
    if root.upper() != "RESPONSE":
        what = "it is an HTML page" if root.lower() == "html" else "its root is another element"
        raise safe_xml.XMLRefused(what)
    response: dict[str, Any] = {}
    for name, value in tree.items() if isinstance(tree, dict) else ():
        field = name.upper()
        if field in _DECIDING and (field in response or isinstance(value, list)):
            raise safe_xml.XMLRefused(f"it has {field} more than once")
        # For a parser, indentation is text of the root.
        if name != "#text" or value.strip():
            response[field] = value
    return response


def _plain_fields(plain: re.Match[bytes]) -> dict[str, Any]:
    status, tracking_id, to = plain.groups()
    return {"STATUS": status.decode(), "TRACKINGID": tracking_id.decode(), "TO": to.decode()}


def text_of(response: dict[str, Any], name: str) -> str:
    """Return the text of an element without the white space around it, empty if there is none."""
    value = response.get(name)
    if isinstance(value, dict):  # as one with attributes is
        value = value.get("#text")
    return value.strip() if isinstance(value, str) else ""


def _failure(
    response: dict[str, Any], status: int, headers: Mapping[str, str]
) -> Rejected | Throttled | OutcomeUnknown:
    code = text_of(response, "ERRORCODE").upper() or None
    info = text_of(response, "ERRORINFO") or None
    known = API_ERRORS.get(code or "")
    if known and known.verdict is Verdict.NOT_SENT:
        return Throttled(
            f"{code}: {info or known.meaning}",
            code=code,
            info=info,
            retry_after=retry_after_of(headers),
        )
    if known and known.verdict is Verdict.IN_DOUBT:
        return OutcomeUnknown(f"{code}: {known.meaning}", http_status=status, code=code)
    return Rejected.of(code=code, info=info)


def _throttled_by_http(headers: Mapping[str, str]) -> Throttled:
    return Throttled("HTTP 429", retry_after=retry_after_of(headers))


def date_of(headers: Mapping[str, str]) -> float | None:
    """Return the server's time from its Date header, in seconds since 1970; None without one."""
    try:
        at = parsedate_to_datetime(headers.get("date", ""))
        return at.replace(tzinfo=at.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After asks for (RFC 9110, section 10.2.3)."""
    seconds = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(seconds):
        return float(seconds)
    try:
        # A date counts from the server's own clock, which Date shows.
        pause = parsedate_to_datetime(seconds) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, pause.total_seconds())
