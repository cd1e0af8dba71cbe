"""What httpcore's trace proves of an exchange: whether the request can have begun.

Rule: proof takes an event that is known.  Where there was none at all, or one that is not
known to come before the request, the request may be out.  So a release of httpcore that
names its events otherwise leaves messages in doubt, and never sends one twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .failures import SENT_AGAIN

# What httpcore traces of a connection, and of the answer to a CONNECT.
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


# Of these, what begins a connection, which the event has.
_BEGINS: Final = ("connect_tcp.complete", "connect_unix_socket.complete")

# Of HTTP/2, what opens a connection, which other requests may share from then on: its preface
# and its settings, and nothing of a request.
_OPENS_TO_OTHERS: Final = "http2.send_connection_init.started"

# Of HTTP/1.1, what is traced first where nothing had to be connected.
_USES_AGAIN: Final = "http11.send_request_headers.started"


class UsedBefore(Exception):
    """The connection had another request before; nothing of this one was sent over it.

    What a server sent after that one's answer would be read as the answer to this.  httpcore
    closes the connection where this is raised.
    """


class ExchangeProgress:
    """What was traced of one exchange.

    `pool_timeout` is what its client raises where it had no connection for it in time.
    `unfinished` is the connection that was begun for it, until the request is: httpcore
    forgets one whose handshake is cancelled, and leaves its socket to the garbage collector.
    """

    def __init__(self, pool_timeout: type[Exception]) -> None:
        self._pool_timeout = pool_timeout
        self.given_to_client = False
        self.traced = False
        self.unfinished: Any = None
        self.request_began = False
        self.look_at_the_next()

    def look_at_the_next(self) -> None:
        """Begin with another connection, as the one before was not used."""
        self._is_first = True

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take an event of httpcore's into account; it is what the extension `trace` calls."""
        self.traced = True
        is_first, self._is_first = self._is_first, False
        if event.endswith(_BEGINS):
            self.unfinished = info.get("return_value")
        if event.endswith((".complete", ".failed")):
            return  # it has begun before
        if event == _OPENS_TO_OTHERS:
            self.unfinished = None
            return
        # A CONNECT goes to a proxy, before the request itself.
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
        """Return whether the request is proven not to have begun, where `error` ended it."""
        if not self.given_to_client:
            return True
        # Without a trace the connections are not httpcore's, and what is called a
        # ConnectError there may be one that broke after the request.  InvalidURL is also
        # what httpx says of an answer whose Location is no address of a web page.
        if not self.traced:
            return isinstance(error, self._pool_timeout)
        return not self.request_began
