"""An ASGI application served on loopback, from a thread of its own.

The thread has an event loop of its own.  So the same server serves a plain
script, an asyncio program and a trio program, and goes on while its caller
blocks.

* The socket is bound in the caller's thread: an address in use is raised there.
* Starting returns once the application has started and requests are answered.
* Stopping gives requests in progress `grace` seconds, then resets their
  connections, which the application sees as a disconnect, and joins the thread.
* No logger's settings are touched, and no request is logged: a query string
  may hold an API key.

An application can reach its connection, to misbehave on it, through an ASGI
extension; see `transport_of`.

Needs the extra `server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, cast

from ..runtime.extras import missing

try:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as error:
    raise missing("server", error) from error

_BACKLOG: Final = 2048
_EXTENSION: Final = "skycore_async.transport"
# struct linger: on, for zero seconds, which makes closing send RST instead of FIN.
_NO_LINGER: Final = struct.pack("ii", 1, 0)

_App = Callable[..., Awaitable[None]]


def transport_of(scope: MutableMapping[str, Any]) -> asyncio.Transport:
    """Return the transport of the connection that a request came on.

    `scope` is the ASGI scope of a request to a `ServerThread`.  Raises KeyError
    for any other scope.
    """
    return cast("asyncio.Transport", scope["extensions"][_EXTENSION]["transport"])


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST, so that the peer sees it reset and not closed."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class ServerThread:
    """Serve an ASGI application over HTTP while the context is open.

    `port` 0 lets the system choose; `url` knows the choice.  `idle_timeout` is
    the time in seconds after which an idle connection is closed, by default
    the 5 s of common servers.  `grace` is the time in seconds that requests in
    progress get when the server stops.

    Entering raises OSError if the address cannot be bound, and RuntimeError
    if the application fails to start.  A server can be entered again after
    it was left.
    """

    def __init__(
        self,
        app: _App,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        idle_timeout: float = 5.0,
        grace: float = 5.0,
    ) -> None:
        self._app = app
        self._address = host, port
        self._idle_timeout = idle_timeout
        self._grace = grace
        self._running: _Running | None = None

    def __enter__(self) -> ServerThread:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Bind, start the thread, and return when requests are answered."""
        if self._running is not None:
            raise RuntimeError("the server is running already")
        listener = listen_on(*self._address)
        # Connections inherit this option, which asyncio sets only on listeners that it makes
        # itself.  Without it the second part of an answer waits for the ACK of the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        running = _Running(self._app, listener, idle_timeout=self._idle_timeout, grace=self._grace)
        running.start()
        self._running = running

    def stop(self) -> None:
        """Stop answering and join the thread; do nothing if it is not running."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    @property
    def url(self) -> str:
        """The server's address, as `http://host:port`; RuntimeError before it runs."""
        if self._running is None:
            raise RuntimeError("the server is not running, so it has no address")
        return self._running.url


def listen_on(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; OSError if it cannot."""
    try:
        host.encode("idna")  # if this fails, a socket would raise TypeError, and stay open
    except UnicodeError as error:
        raise OSError(errno.EINVAL, "it is no name of a host") from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


class _Running:
    """One run of a server: its socket, its uvicorn server and its thread."""

    def __init__(
        self, app: _App, listener: socket.socket, *, idle_timeout: float, grace: float
    ) -> None:
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._app = app
        self._listener = listener
        self._started = Future[None]()
        self._failure: Exception | None = None
        config = uvicorn.Config(
            self._remember_failed_start,
            http=type("Protocol", (_Protocol,), {"idle_timeout": idle_timeout}),
            interface="asgi3",
            ws="none",
            proxy_headers=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(grace) + 1,
        )
        self._server = _Server(config, started=self._started, grace=grace)
        self._thread = threading.Thread(
            target=self._serve, name=f"serving {self.url}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _serve(self) -> None:
        try:
            # Newer uvicorns raise SystemExit if the application fails to start.
            with contextlib.suppress(SystemExit):
                asyncio.run(self._server.serve(sockets=[self._listener]))
        finally:
            self._listener.close()
            if not self._started.done():
                failure = RuntimeError("the application failed to start")
                failure.__cause__ = self._failure
                self._started.set_exception(failure)

    async def _remember_failed_start(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            self._failure = error
            raise


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, *, started: Future[None], grace: float) -> None:
        super().__init__(config)
        self._ready = started
        self._grace = grace

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready.set_result(None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(self._grace, self._reset_connections)
        await super().shutdown(sockets)

    def _reset_connections(self) -> None:
        for connection in list(self.server_state.connections):
            reset(connection.transport)


class _Protocol(HttpToolsProtocol):
    idle_timeout: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False
        self.timeout_keep_alive = cast("int", self.idle_timeout)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions = cast("dict[str, Any]", self.scope.setdefault("extensions", {}))
        extensions[_EXTENSION] = {"transport": self.transport}
