"""Whether httpcore's trace of an exchange proves that the request cannot have begun.

Rule: proof needs a known event.  If there was no event, or one that is not known to come before
the request, the request may have left.  So a release of httpcore that renames its events leaves
messages in doubt, and never sends one twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .failures import SENT_AGAIN

# httpcore's events of connecting, and of the answer to a CONNECT.
_BEFORE_THE_REQUEST: Final = frozenset(
    {
        "close",
        "connect_tcp",
        "connect_unix_socket",
        "response_closed",
        "retry",
        "setup_socks5_connection",
        "start_tls",
    }
)


# Those of them that start a connection, which is in the event.
_BEGINS: Final = ("connect_tcp.complete", "connect_unix_socket.complete")

# HTTP/2's events of opening a connection, which other requests may share from then on: its preface
# and its settings, and nothing of a request.
_OPENS_TO_OTHERS: Final = "http2.send_connection_init.started"

# HTTP/2's event if h2 refuses to write a head, as on a connection that the server has ended:
# httpcore keeps giving it requests until all that is under way there has failed.
_HEAD_OF_HTTP_2: Final = "http2.send_request_headers.failed"
# What h2 raises before it holds any byte of the head.
_NOT_WRITTEN: Final = frozenset({"ProtocolError", "TooManyStreamsError"})

# HTTP/1.1's first event on a connection that exists already.
_USES_AGAIN: Final = "http11.send_request_headers.started"


class UsedBefore(Exception):
    """The connection had another request before; nothing of this one was sent over it.

    Bytes that the server sent after that request's answer would be read as the answer to this
    one.  httpcore closes the connection when this is raised.
    """


class ExchangeProgress:
    """The trace of one exchange.

    `pool_timeout` is the class that the client raises if no connection was free in time.
    `unfinished` is the connection made for this exchange, until its request begins: httpcore
    forgets a connection whose handshake is cancelled, and leaves its socket to the garbage
    collector.
    """

    def __init__(self, pool_timeout: type[Exception]) -> None:
        self._pool_timeout = pool_timeout
        self.given_to_client = False
        self.traced = False
        self.unfinished: Any = None
        self.request_began = False
        self.look_at_the_next()

    def look_at_the_next(self) -> None:
        """Start anew for the next connection, since the one before was not used."""
        self._is_first = True

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take an event of httpcore's into account: the callback of the extension `trace`."""
        self.traced = True
        is_first, self._is_first = self._is_first, False
        if event.endswith(_BEGINS):
            self.unfinished = info.get("return_value")
        if event == _HEAD_OF_HTTP_2 and _is_not_written(info.get("exception")):
            self.request_began = False
        if event.endswith((".complete", ".failed")):
            return  # it has begun before
        if event == _OPENS_TO_OTHERS:
            self.unfinished = None
            return
        # A CONNECT is for a proxy, and comes before the request itself.
        request = info.get("request")
        step = event.split(".")[1]
        if step in _BEFORE_THE_REQUEST or (request and request.method == b"CONNECT"):
            return
        if self.request_began and event.endswith(".send_request_headers.started"):
            raise RuntimeError(SENT_AGAIN)
        if is_first and event == _USES_AGAIN:
            raise UsedBefore
        self.request_began = True
        self.unfinished = None

    def proves_not_sent(self, error: Exception | None = None) -> bool:
        """Return whether the request that `error` ended is proven not to have begun."""
        if not self.given_to_client:
            return True
        # Without a trace the connections are not httpcore's, and their ConnectError may come from
        # a connection that broke after the request.  httpx also raises InvalidURL for an answer
        # whose Location is not a web address.
        if not self.traced:
            return isinstance(error, self._pool_timeout)
        return not self.request_began


def _is_not_written(raised: object) -> bool:
    kind = type(raised)
    return kind.__module__ == "h2.exceptions" and kind.__name__ in _NOT_WRITTEN
