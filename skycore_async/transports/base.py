"""The interface of transports: one request out; one answer back, or one of two failures.

Only a transport knows whether a byte of the request can have left.  So the transport raises
`NotSent`, with proof, or `OutcomeUnknown`, without; it does not interpret the answer.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Final, Protocol, runtime_checkable

import attrs

from ..runtime.event_loop import Clock, HomeLoop, RunningClock, clock, wrong_event_loop

# Bytes of an answer after which a transport stops reading: a real one takes a few hundred, and a
# longer one counts as no answer.
MAX_RESPONSE: Final = 1024 * 1024
# The same with framing, such as early answers and the sizes of chunks; and the number of parts
# of a body, each of which takes h11 some 10 µs, whether it has one byte or 4 KiB.  An answer with
# more of either counts as none.
MAX_FRAMED: Final = MAX_RESPONSE + 256 * 1024
MAX_PARTS: Final = 16 * 1024

# Seconds for which an idle connection may be used again.  Common servers close one after 5, and a
# request that meets the closing leaves its message in doubt.
KEEPALIVE_EXPIRY: Final = 4.0
_BEFORE_CLOSING: Final = 1.0  # seconds, but at most half of those that the server says
_KEPT_FOR: Final = re.compile(r"timeout\s*=\s*([0-9]{1,9})\b", re.IGNORECASE)
CLOSING_TIME: Final = 1.0  # seconds for closing a connection, before it is dropped
LAST_LOOK: Final = 0.1  # seconds to read what was received in time, where the time is over


@functools.lru_cache(maxsize=8)
def idle_time(keep_alive: str | None) -> float:
    """Return how long a connection may be idle after an answer with this `Keep-Alive` header."""
    found = _KEPT_FOR.search(keep_alive or "")
    if found is None:
        return KEEPALIVE_EXPIRY
    said = float(found[1])
    return min(KEEPALIVE_EXPIRY, max(said - _BEFORE_CLOSING, said / 2))


class TransportUnusable(RuntimeError):
    """A transport that is closed, or of another event loop or process: an error of the program.

    It is raised before any byte can have left.
    """


class TransportLoop:
    """The event loop in which a transport is first used, to which its connections belong."""

    def __init__(self) -> None:
        self._home: HomeLoop | None = None
        self.clock: Clock = RunningClock()

    def check(self) -> None:
        """Raise TransportUnusable in another event loop, or in a process forked since."""
        if self._home is None:
            self._home = HomeLoop()
            self.clock = clock()
        elif not self._home.is_here():
            raise TransportUnusable(*wrong_event_loop("transport").args)


# Without slots, since such objects are created faster, and these live only for an exchange.
@attrs.frozen(kw_only=True, slots=False)
class Request:
    """One HTTP request.  The fields that hold the API key are not in its `repr`.

    `body` is sent with POST, `query` belongs to the URL of a GET.
    """

    method: str
    url: str
    query: str = attrs.field(default="", repr=False)
    body: bytes = attrs.field(default=b"", repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    @property
    def target(self) -> str:
        """The URL with its query."""
        return f"{self.url}?{self.query}" if self.query else self.url


@attrs.frozen(kw_only=True, slots=False)
class Response:
    """The answer to a `Request`, its body as received; header names are in lower case.

    The fields that may repeat the request, and with it the API key, are not in its `repr`.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


@runtime_checkable
class Transport(Protocol):
    """Sends a request, exactly once, and returns its answer.

    A transport never repeats a request and never follows a redirect: either
    could be a second SMS.

    Sending reports are downloaded separately, as streams.  A transport with its own proxy or
    certificates has one more method, `for_downloads()`, called before each download: it returns a
    new `httpx.AsyncBaseTransport` with the same ones, which is closed after the download.  Without
    that method, reports are downloaded with httpx, through the proxy that the environment names.
    """

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send `request`, and return the answer, within `timeout` seconds.

        Raises NotSent if no byte of the request can have left, and OutcomeUnknown for every other
        failure.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
