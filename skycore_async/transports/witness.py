"""How far an exchange over aiohttp has come, as the connector sees it.

Strategy: every request asks its session's connector for a connection, in the task
that makes the exchange.  So the connector knows whether one was ever given, and
a context variable tells it whose exchange that is.

Rules:

* A connection over which something came while it was idle is not used again:
  it is an end, or the answer to nobody's question.
* One exchange gets one connection.  aiohttp tries a GET again where a connection
  broke; it gets no second one to do so.
"""

from __future__ import annotations

import asyncio
import ssl
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, cast

import aiohttp

from .socket_probe import Readiness

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

# What aiohttp raises of a URL, before it asks for a connection.
_BEFORE_ANY_CONNECTION: Final = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)


class WitnessedExchange:
    """How far one exchange has come, which its connector writes down."""

    def __init__(self) -> None:
        self.connecting = False
        self.connected = False
        self.transport: asyncio.Transport | None = None
        self.answered = False

    def proves_not_sent(self, error: Exception | None = None) -> bool:
        """Return whether no byte can have left, where it ended by `error` or by its deadline."""
        if self.connected:
            return False
        return self.connecting or isinstance(error, _BEFORE_ANY_CONNECTION)

    def end(self) -> None:
        """Drop the connection, unless the exchange was answered to its end."""
        # Closing would wait for what is left to write, and nobody may read that.
        if self.transport is not None and not self.answered:
            self.transport.abort()


# Of the exchange that the running task makes.
progress_here: Final[ContextVar[WitnessedExchange]] = ContextVar("progress_here")


class WitnessConnector(aiohttp.TCPConnector):
    """The pool, which writes down in `progress_here` that it was asked and what it gave."""

    def __init__(self, *, limit: int, ssl: ssl.SSLContext, keepalive_timeout: float) -> None:
        super().__init__(limit=limit, ssl=ssl, keepalive_timeout=keepalive_timeout)
        # Of each connection that was used, and so may have come to its end.
        self._once_used: weakref.WeakKeyDictionary[ResponseHandler, Readiness] = (
            weakref.WeakKeyDictionary()
        )

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """Return a connection that nothing came over, for the one time that this exchange asks."""
        progress = progress_here.get()
        if progress.connected:
            raise aiohttp.ServerDisconnectedError
        progress.connecting = True
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = cast("ResponseHandler", connection.protocol)  # it is not closed yet
            transport = cast("asyncio.Transport", connection.transport)
            readiness = self._once_used.get(protocol)
            if readiness is None:
                self._once_used[protocol] = Readiness(transport.get_extra_info("socket"))
                break
            # The event loop may not have come round to what is there to be read.
            if not (protocol.should_close or readiness.is_readable()):
                break
            connection.close()
        progress.connected = True
        progress.transport = transport
        return connection

    def __del__(self, _warnings: object = None) -> None:
        # See `AiohttpTransport`; the sockets close themselves.
        pass
