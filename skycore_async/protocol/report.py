"""The request for a sending report, and the link in its answer.  No I/O.

Rules:

* The link is an absolute URL anywhere in the answer, since the documentation shows no example.  An
  element that is only a URL comes before one that has a URL among other words.
* An answer need not be well-formed, since a link may have a bare `&`.
* A refusal of the account raises `Rejected` or `LookupTooSoon`; any other answer without a link
  raises `ReportError`.  Error texts quote only the answer's own reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import attrs

from ..codes import API_ERRORS, Verdict
from ..errors import LookupTooSoon, Rejected, ReportError
from ..runtime.secret import Secret
from . import safe_xml
from .report_tags import clean
from .responses import read_fields, retry_after_of, text_of

PAUSE: Final = 300.0
"""Seconds to wait for another look-up where the API does not say; the figure is the account's."""
_LONGEST_PAUSE: Final = 24 * 3600.0

_HTTP_TOO_MANY_REQUESTS: Final = 429
_HTTP_OK: Final = 200
_SECONDS_IN: Final = {"sec": 1.0, "min": 60.0, "hour": 3600.0}
_SAID_PAUSE: Final = re.compile(r"\b([0-9]{1,5}) ?(sec|min|hour)", re.IGNORECASE)

_URL: Final = re.compile(r"https?://[^\s<>\"'\\]++(?!\\)", re.IGNORECASE)
_ELEMENT: Final = re.compile(r"<([A-Za-z]\w{0,40})>([^<]*)</\1\s*>")


@attrs.frozen(kw_only=True)
class Link:
    """Where a report is; `has_key` says that its address has the API key in it."""

    url: str = attrs.field(repr=False)
    has_key: bool


def request_fields(since: datetime, until: datetime) -> dict[str, str]:
    """Return the dates of a request: whole seconds in UTC that cover the period."""
    begin = math.floor(since.timestamp())
    end = math.ceil(until.timestamp())
    return {"START_DATE": _date(begin), "END_DATE": _date(end)}


def _date(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def post_body(fields: Mapping[str, str], *, api_key: str) -> bytes:
    """Write a request as the body of a POST: a form whose field `xml` is the REQUEST."""
    all_fields = {"ACTION": "getSendingStatus", "API_KEY": api_key, **fields}
    elements = (f"<{name}>{safe_xml.escape(text)}</{name}>" for name, text in all_fields.items())
    return f"xml={quote_plus(f'<REQUEST>{str().join(elements)}</REQUEST>')}".encode("ascii")


def query_string(fields: Mapping[str, str], *, api_key: str) -> str:
    """Write a request as the query string of a GET, with the API key in it."""
    named = {name.lower(): text for name, text in fields.items()}
    return urlencode({"action": "getsendingstatus", "api_key": api_key, **named})


def read_link(*, status: int, headers: Mapping[str, str], body: bytes, api_key: Secret) -> Link:
    """Read the answer to a request; `headers` have lower-case names.

    Raises Rejected, LookupTooSoon or ReportError if it has no link.
    """
    hidden = _link(status, headers, api_key.hide_in(body))
    url = _link(status, headers, body)
    return Link(url=url, has_key=url != hidden)


def _link(status: int, headers: Mapping[str, str], body: bytes) -> str:
    fields = _fields(body)
    code = text_of(fields, "ERRORCODE").upper() or None
    info = text_of(fields, "ERRORINFO") or None
    if code or text_of(fields, "STATUS").lower() == "failure":
        raise _failure(code, info, headers)
    if status == _HTTP_TOO_MANY_REQUESTS:
        raise LookupTooSoon("HTTP 429", retry_after=_pause("", headers))
    texts = [text.strip() for text in _texts(fields)]
    urls = {text for text in texts if _URL.fullmatch(text)}
    urls = urls or {url for text in texts for url in _URL.findall(text)}
    if status != _HTTP_OK or len(urls) != 1:
        raise ReportError(
            f"HTTP {status} with {'several links' if urls else 'no link'} to a report"
        )
    return urls.pop()


def _fields(body: bytes) -> dict[str, Any]:
    """Return the elements of an answer, or only its text under an empty name."""
    try:
        return read_fields(body)
    except safe_xml.XMLRefused:
        text = body.decode("utf-8", "replace").strip("\ufeff \t\r\n")
    if _URL.fullmatch(text):
        return {"": text}
    if "<html" in text.lower() or "<response" not in text.lower():
        return {}
    return {name.upper(): clean(value) for name, value in _ELEMENT.findall(text)}


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of elements, but not of attributes, which name schemas."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            if not name.startswith("@"):
                yield from _texts(each)


def _failure(
    code: str | None, info: str | None, headers: Mapping[str, str]
) -> Rejected | LookupTooSoon | ReportError:
    known = API_ERRORS.get(code or "")
    if known and known.verdict is Verdict.NOT_SENT:
        said = info or known.meaning
        return LookupTooSoon(f"{code}: {said}", code=code, retry_after=_pause(said, headers))
    if known and known.verdict is Verdict.IN_DOUBT:
        return ReportError(f"{code}: there is no report: internal error at Skycore")
    return Rejected.of(code=code, info=info)


def _pause(said: str, headers: Mapping[str, str]) -> float:
    """Return the seconds to wait: those of the header, those in the reason, or a guess."""
    asked = retry_after_of(headers)
    if asked is None:
        found = _SAID_PAUSE.findall(said)
        pauses = [int(count) * _SECONDS_IN[unit.lower()] for count, unit in found]
        asked = max(pauses, default=PAUSE)
    return min(asked, _LONGEST_PAUSE)
