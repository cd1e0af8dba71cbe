"""What a transport is: one request out, one answer back, or one of two failures.

Only a transport knows whether a byte of the request can have left.  So it is
the transport that says `NotSent`, with proof, or `OutcomeUnknown`, without;
what the answer means is no concern of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol, runtime_checkable

import attrs

from ..runtime.event_loop import Clock, HomeLoop, RunningClock, clock, wrong_event_loop

# Bytes of an answer after which a transport stops reading: a real one takes a
# few hundred, and a longer one is read as none.
MAX_RESPONSE: Final = 1024 * 1024
# The same with what frames it, as early answers and the sizes of chunks do; and the parts that
# a body may come in, each of which takes h11 some 10 µs, one of a byte as much as one of 4 KiB.
# What is more than either is no answer.
MAX_FRAMED: Final = MAX_RESPONSE + 256 * 1024
MAX_PARTS: Final = 16 * 1024

# Seconds for which an idle connection is used again.  Common servers close one
# after 5, and a request that meets the closing is a message in doubt.
KEEPALIVE_EXPIRY: Final = 4.0
CLOSING_TIME: Final = 1.0  # seconds for closing a connection, before it is dropped


class TransportUnusable(RuntimeError):
    """A transport that is closed, or of another event loop or process: an error of the program.

    It is raised before anything can have left.
    """


class TransportLoop:
    """The event loop in which a transport is first used, to which its connections belong."""

    def __init__(self) -> None:
        self._home: HomeLoop | None = None
        self.clock: Clock = RunningClock()

    def check(self) -> None:
        """Raise TransportUnusable in another event loop, or a process that was forked since."""
        if self._home is None:
            self._home = HomeLoop()
            self.clock = clock()
        elif not self._home.is_here():
            raise TransportUnusable(*wrong_event_loop("transport").args)


# Without slots, as values are made sooner, and these live no longer than an exchange.
@attrs.frozen(kw_only=True, slots=False)
class Request:
    """One HTTP request.  What holds the API key is kept out of its `repr`.

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
    """The answer to a `Request`, its body as it came; header names are in lower case.

    What may repeat the request, and with it the API key, is kept out of its `repr`.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


@runtime_checkable
class Transport(Protocol):
    """Gets a request out and its answer back, exactly once.

    A transport never repeats a request and never follows a redirect: either
    could be a second SMS.

    Sending reports are downloaded apart from it, as streams.  One that has a proxy or certificates
    of its own says so by one method more, which is asked before each download: `for_downloads()`
    returns a new `httpx.AsyncBaseTransport` with the same, which is closed after it.  Beside one
    without that method, a report comes over httpx, by the proxy that the environment names.
    """

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send `request`, and return the answer, within `timeout` seconds.

        Raises NotSent where no byte of the request can have left, and
        OutcomeUnknown for every other failure.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
