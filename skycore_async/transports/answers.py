"""Parse an HTTP/1.1 answer: bytes in; a response, "need more", or an error out.  No I/O.

Strategy: nearly every answer comes in one piece, with a head that was seen lately or has the
usual form.  So a head is looked up among the last ones, and a new one is parsed by one strict
regular expression.  h11 parses all other answers, from their first byte on.

Rules:

* h11 parses every head that the expression matches in the same way: it has one length and no other
  framing, and no white space or character that a parser could read differently.
* An answer is clean, and its connection may be used again, only if nothing came after it.
* A head and a body with its framing are bounded: an answer that is longer than any real one is
  read no further.  An invalid answer raises `h11.RemoteProtocolError`, whose text may quote it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, cast

import attrs
import h11

from .base import MAX_FRAMED, MAX_PARTS, MAX_RESPONSE, Response

_LONGEST_USUAL_HEAD: Final = 2048
_LONGEST_HEAD: Final = 100 * 1024  # as httpcore has it

_USUAL: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2}) [!-~]+(?: [!-~]+)*\r\n"
    rb"((?:[A-Za-z0-9-]+:(?: [!-~]+)+\r\n)+)\r\n"
)
_FIELD: Final = re.compile(rb"([A-Za-z0-9-]+): ([^\r]+)\r\n")
_LENGTH: Final = re.compile("[0-9]{1,7}")
_WITHOUT_A_BODY: Final = frozenset({204, 304})
_END_OF_HEAD: Final = b"\r\n\r\n"

_MOST_EARLY: Final = 32  # answers of 1xx

# The answer to these methods is framed by its own headers only.
_USUAL_METHODS: Final = frozenset({"GET", "POST"})


@attrs.frozen
class UsualHead:
    """A head that frames its body by a length."""

    status: int
    headers: Mapping[str, str]
    length: int
    keeps_alive: bool


@functools.lru_cache(maxsize=64)
def usual_head(head: bytes) -> UsualHead | None:
    """Parse a head of the usual form; return None if it has another form."""
    found = _USUAL.fullmatch(head)
    if found is None:
        return None
    status = int(found[1])
    fields = _FIELD.findall(found[2])
    headers = _named(fields)
    length = headers.get("content-length", "")
    connection = headers.get("connection", "keep-alive").lower()
    is_framed_otherwise = (
        len(headers) < len(fields)  # one is there twice
        or "transfer-encoding" in headers
        or connection not in {"keep-alive", "close"}
        or status in _WITHOUT_A_BODY
    )
    if is_framed_otherwise or not _LENGTH.fullmatch(length):
        return None
    return UsualHead(status, MappingProxyType(headers), int(length), connection != "close")


def _named(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode().lower(): value.decode("latin-1") for name, value in fields}


class AnswerReader:
    """Parse the answer to one request of this method."""

    __slots__ = ("_h11", "_method", "is_clean")

    def __init__(self, method: str = "POST") -> None:
        self.is_clean = False
        self._method = method
        self._h11: _ByH11 | None = None

    def feed(self, data: bytes) -> Response | None:
        """Add received bytes, and return the answer if it is complete.

        Raises h11.RemoteProtocolError if it is not valid.
        """
        if self._h11 is None:
            end = data.find(_END_OF_HEAD, 0, _LONGEST_USUAL_HEAD) + len(_END_OF_HEAD)
            if end >= len(_END_OF_HEAD) and self._method in _USUAL_METHODS:
                head = usual_head(data[:end])
                if head is not None and end + head.length == len(data):
                    self.is_clean = head.keeps_alive
                    return Response(status=head.status, headers=head.headers, body=data[end:])
            self._h11 = _ByH11(self._method)
        response = self._h11.feed(data)
        self.is_clean = response is not None and self._h11.is_clean
        return response

    def end(self) -> Response:
        """Return an answer that ends with the connection.

        Raises h11.RemoteProtocolError if there is none, or it is incomplete.
        """
        if self._h11 is None:
            raise h11.RemoteProtocolError("Server disconnected without sending a response.")
        return cast("Response", self._h11.feed(b""))  # h11 needs no more after the end


class _ByH11:
    """An answer that h11 parses."""

    def __init__(self, method: str) -> None:
        self.is_clean = False
        self._came = self._early = self._parts = 0
        self._head: h11.Response  # which is h11's first event, or there is none
        self._body = bytearray()
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)
        self._connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        self._connection.send(h11.EndOfMessage())

    def feed(self, data: bytes) -> Response | None:
        """Add received bytes, or none at the end of the connection."""
        self._came += len(data)
        self._connection.receive_data(data)
        while True:
            match self._connection.next_event():
                case h11.Response() as head:
                    self._head = head
                case h11.Data(data=part):
                    self._add(part)
                    if len(self._body) > MAX_RESPONSE:
                        return self._response()
                case h11.EndOfMessage():
                    self.is_clean = self._is_clean()
                    return self._response()
                case h11.PAUSED:  # after the answer to a CONNECT, a tunnel begins
                    self.is_clean = self._connection.trailing_data == (b"", False)
                    return self._response()
                case h11.NEED_DATA:
                    if self._came > MAX_FRAMED:
                        raise h11.RemoteProtocolError("the answer is longer than one can be")
                    return None
                case _:
                    self._early += 1
                    if self._early > _MOST_EARLY:
                        raise h11.RemoteProtocolError("more early answers than there can be")

    def _add(self, part: bytes) -> None:
        self._body += part
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise h11.RemoteProtocolError("more parts than an answer can have")

    def _is_clean(self) -> bool:
        is_alone = self._connection.trailing_data == (b"", False)
        return is_alone and self._connection.states == {
            h11.CLIENT: h11.DONE,
            h11.SERVER: h11.DONE,
        }

    def _response(self) -> Response:
        return Response(
            status=self._head.status_code,
            headers=_named(self._head.headers),
            body=bytes(self._body),
        )
