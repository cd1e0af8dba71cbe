"""One HTTP connection on `asyncio.Protocol`, in any asyncio event loop.

Strategy: a request is one write, and its answer mostly one `data_received`, so an exchange takes a
future and two callbacks.  Its deadline is a number, which one timer of the connection checks; the
timer is set anew only for an earlier deadline.

Rules:

* `written` is set before the only write, however much of it the socket takes.
* An answer counts only once the whole request was written; it may come before.
* Bytes that come while no exchange is waiting make the connection unusable.
* Received bytes are read before the exchange is said to have timed out.  After the process was
  suspended for longer, as by Ctrl-Z, the event loop runs its timers before it polls its sockets.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, cast

import anyio
import h11

from .answers import AnswerReader
from .base import CLOSING_TIME, LAST_LOOK, MAX_RESPONSE, Response
from .socket_probe import Readiness
from .tls import check_agreed, offer_http_1_1

# Seconds until the next address is tried beside the one before, as in RFC 8305.
_ATTEMPT_DELAY: Final = 0.25

_HUNG_UP: Final = "Server disconnected without sending a response."


class AsyncioConnection(asyncio.Protocol):
    """An open connection, which carries one exchange after another."""

    def __init__(self) -> None:
        self.written = False
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport
        self._is_secure = False
        self._reader: AnswerReader
        self._waiter: asyncio.Future[Response | None] | None = None
        self._came = b""  # which nobody waited for
        self._has_ended = False
        self._is_writing = False
        self._answer: Response | None = None  # which waits for the request to be out
        self._deadline = self._goes_off = math.inf
        self._has_looked = False  # for what came, after the time was over
        self._timer: asyncio.TimerHandle | None = None

    # Called by a transport.

    async def start_tls(self, context: ssl.SSLContext, hostname: str) -> None:
        """Speak TLS from here on."""
        offer_http_1_1(context)
        try:
            secured = await self._loop.start_tls(
                self._transport, self, context, server_hostname=hostname
            )
        except BaseException:
            self._lost.cancel()  # as it is not told of the end of a broken handshake
            raise
        secured = cast("asyncio.Transport", secured)
        self._transport, self._is_secure = secured, True
        self._transport.set_write_buffer_limits(high=1)
        check_agreed(secured.get_extra_info("ssl_object"))

    async def exchange(
        self, request: bytes, reader: AnswerReader, timeout: float
    ) -> Response | None:
        """Write a request, once, and return its answer, or None if none comes in time."""
        self._reader = reader
        waiter: asyncio.Future[Response | None] = self._loop.create_future()
        self._waiter = waiter
        self._expire_at(self._loop.time() + timeout)
        self._has_looked = False
        try:
            self.written = True
            self._transport.write(request)
            if self._came or self._has_ended:
                self._take_early()
            return await waiter
        finally:
            self._waiter = self._answer = None

    def is_usable(self) -> bool:
        """Return whether it is open, and nothing was received since the last answer."""
        if self._came or self._has_ended or self._transport.is_closing():
            return False
        # Bytes may have come that the event loop has not read yet.
        return not self._readiness.is_readable()

    async def aclose(self) -> None:
        """Abort it, without notice to the other side, as httpx does."""
        self._transport.abort()
        with anyio.move_on_after(CLOSING_TIME, shield=True):
            await asyncio.wait([self._lost])

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, plain."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self._readiness = Readiness(self._transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Read an answer, or keep bytes that no exchange waits for."""
        waiter = self._waiter
        if waiter is None or waiter.done() or self._answer is not None:
            self._came += data
            if len(self._came) > MAX_RESPONSE:
                self._transport.abort()
            return
        try:
            answer = self._reader.feed(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message is in doubt
            waiter.set_exception(error)
            return
        if answer is not None:
            self._give(answer)

    def eof_received(self) -> bool:
        """Note that the other side has closed its half; return whether ours stays open."""
        self._has_ended = True
        if self._is_waited_for():
            self._end()
            return False
        # A request may still be partly unwritten; TLS cannot close one half of a connection.
        return not (self.written or self._is_secure)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that both halves are closed."""
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
        if exc is not None:
            self._fail(exc)
        elif self._is_waited_for():  # uvloop tells of an end without TLS's own in this way
            self._end()
        else:
            self._fail(h11.RemoteProtocolError(_HUNG_UP))
        if not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        """Note that some of the request is not written yet."""
        self._is_writing = True

    def resume_writing(self) -> None:
        """Note that all of it is written."""
        self._is_writing = False
        if self._answer is not None:
            with suppress(asyncio.InvalidStateError):  # who waited has just been cancelled
                self._give(self._answer)

    # The end of an exchange.

    def _is_waited_for(self) -> bool:
        return self._waiter is not None and not self._waiter.done() and self._answer is None

    def _take_early(self) -> None:
        came, self._came = self._came, b""
        if came:
            self.data_received(came)
        if self._has_ended and self._is_waited_for():
            self._end()

    def _end(self) -> None:
        try:
            self._give(self._reader.end())
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)

    def _give(self, answer: Response) -> None:
        if self._is_writing:
            self._answer = answer
        else:
            cast("asyncio.Future[Response | None]", self._waiter).set_result(answer)

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    # The deadline.

    def _expire_at(self, deadline: float) -> None:
        self._deadline = deadline
        if self._timer is None or deadline < self._goes_off:
            if self._timer is not None:
                self._timer.cancel()
            self._goes_off = deadline
            self._timer = self._loop.call_at(deadline, self._go_off)

    def _go_off(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._expire_at(self._deadline)
        elif not self._has_looked and self._readiness.is_readable():
            self._has_looked = True
            # Not at once: uvloop calls what is due now before it polls its sockets.
            self._expire_at(self._loop.time() + LAST_LOOK)
        else:
            self._waiter.set_result(None)


async def connect(host: str, port: int) -> AsyncioConnection:
    """Connect to the first address of a host that answers.

    Raises OSError if none answers.
    """
    return await _over(await _connected(host, port))


async def _over(connected: socket.socket) -> AsyncioConnection:
    try:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(AsyncioConnection, sock=connected)
    except BaseException:
        connected.close()
        raise
    return connection


async def _connected(host: str, port: int) -> socket.socket:
    """Try the addresses of a host, each a moment after the one before, until one answers."""
    errors: list[OSError] = []
    winners: list[socket.socket] = []

    async def attempt(family: int, address: Any, over: anyio.Event) -> None:
        try:
            winner = await _attempt(family, address)
        except OSError as error:
            errors.append(error)
            over.set()
            return
        winners.append(winner)
        race.cancel()

    addresses = await _addresses(host, port)
    try:
        with anyio.CancelScope() as race:
            async with anyio.create_task_group() as attempts:
                for family, address in addresses:
                    over = anyio.Event()
                    attempts.start_soon(attempt, family, address, over)
                    with anyio.move_on_after(_ATTEMPT_DELAY):
                        await over.wait()
    except BaseException:
        for winner in winners:
            winner.close()
        raise
    for late in winners[1:]:
        late.close()
    if not winners:
        raise errors[0]
    return winners[0]


async def _attempt(family: int, address: Any) -> socket.socket:
    attempted = socket.socket(family, socket.SOCK_STREAM)
    try:
        attempted.setblocking(False)
        await asyncio.get_running_loop().sock_connect(attempted, address)
    except BaseException:
        attempted.close()
        raise
    return attempted


async def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    """Return the addresses of a host, IPv6 and IPv4 by turns, as in RFC 8305."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [(family, address) for family, *_, address in found]
    return by_turns(addresses)


def by_turns(addresses: Sequence[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """Return addresses such that the first one's family and the others take turns."""
    of_first = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each[0] != addresses[0][0]]
    pairs = itertools.zip_longest(of_first, others)
    return [each for pair in pairs for each in pair if each is not None]
