"""The HTTP reply for every `Answer`, as plain values.

The documents are laid out as in the provider's own examples, stray white space
included, because a client has to read such documents.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import attrs

from ..codes import API_ERRORS
from ..protocol import safe_xml
from .behaviours import Answer, Behaviour


class Ending(enum.Enum):
    """How an exchange ends, as far as HTTP goes."""

    WHOLE = enum.auto()
    CUT_SHORT = enum.auto()
    CLOSE = enum.auto()
    DROP = enum.auto()
    HANG = enum.auto()


@attrs.frozen(kw_only=True)
class Reply:
    """An HTTP answer, or how the exchange ends without one."""

    status: int = 200
    headers: Mapping[str, str] = MappingProxyType[str, str]({})
    body: bytes = b""
    ending: Ending = Ending.WHOLE


_XML: Final = MappingProxyType({"content-type": "text/xml; charset=utf-8"})
_HTML: Final = MappingProxyType({"content-type": "text/html; charset=utf-8"})


def reply(behaviour: Behaviour, *, to: str, tracking_id: str) -> Reply:
    """Make the answer that `behaviour` gives to a message for `to`."""
    return _REPLIES[behaviour.answer](behaviour, to, tracking_id)


def failure(code: str, *, to: str = "", info: str | None = None) -> Reply:
    """Make the RESPONSE that says Failure, with a reason or the code's documented meaning."""
    if info is None:
        known = API_ERRORS.get(code)
        info = known.meaning if known else "no description"
    return _response(STATUS="Failure", ERRORCODE=code, ERRORINFO=f" {info}", TO=to)


def link(url: str, *, well_formed: bool) -> Reply:
    """Make the RESPONSE with a link to a file; not `well_formed`, the link has a bare `&`."""
    made = _response(STATUS="Success", URL=url)
    return made if well_formed else attrs.evolve(made, body=made.body.replace(b"&amp;", b"&"))


def _success(_: Behaviour, to: str, tracking_id: str) -> Reply:
    return _response(STATUS="Success", TRACKINGID=tracking_id, TO=to)


def _failure(behaviour: Behaviour, to: str, _: str) -> Reply:
    return failure(behaviour.code or "", to=to)


def _without_tracking_id(_: Behaviour, to: str, __: str) -> Reply:
    return _response(STATUS="Success", TO=to)


def _truncated(behaviour: Behaviour, to: str, tracking_id: str) -> Reply:
    whole = _success(behaviour, to, tracking_id)
    return attrs.evolve(whole, body=whole.body.partition(b"</TRACKINGID>")[0])


def _cut_short(behaviour: Behaviour, to: str, tracking_id: str) -> Reply:
    return attrs.evolve(_success(behaviour, to, tracking_id), ending=Ending.CUT_SHORT)


def _throttled(behaviour: Behaviour, _: str, __: str) -> Reply:
    return _page(429, "Too Many Requests", {"retry-after": str(behaviour.retry_after)})


def _response(**fields: str) -> Reply:
    lines = [
        f"\t<{name}>{safe_xml.escape(value)}</{name}>" for name, value in fields.items() if value
    ]
    return Reply(headers=_XML, body="\n".join(["<RESPONSE>", *lines, " </RESPONSE>"]).encode())


def _page(status: int, title: str, headers: Mapping[str, str] = _HTML) -> Reply:
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Reply(status=status, headers={**_HTML, **headers}, body=page.encode())


NO_SUCH_FILE: Final = _page(404, "Not Found")
LOG_IN: Final = _page(200, "Please log in")
METHOD_NOT_ALLOWED: Final = _page(405, "Method Not Allowed", {"allow": "GET, POST"})

_Maker = Callable[[Behaviour, str, str], Reply]


def _always(reply: Reply) -> _Maker:
    return lambda _, __, ___: reply


_REPLIES: Final[Mapping[Answer, _Maker]] = {
    Answer.SUCCESS: _success,
    Answer.FAILURE: _failure,
    Answer.WITHOUT_TRACKING_ID: _without_tracking_id,
    Answer.TRUNCATED: _truncated,
    Answer.EMPTY: _always(Reply(headers=_XML)),
    Answer.HTML_200: _always(_page(200, "Scheduled maintenance")),
    Answer.THROTTLED_429: _throttled,
    Answer.BAD_GATEWAY: _always(_page(502, "Bad Gateway")),
    Answer.UNAVAILABLE: _always(_page(503, "Service Unavailable")),
    Answer.CUT_SHORT: _cut_short,
    Answer.CLOSE: _always(Reply(ending=Ending.CLOSE)),
    Answer.DROP: _always(Reply(ending=Ending.DROP)),
    Answer.HANG: _always(Reply(ending=Ending.HANG)),
}
