"""A connection pooler between clients and PostgreSQL, on loopback, like PgBouncer.

It tells each client a process id of its own, and lends it sessions of the server: one
for as long as the client stays, or one for each transaction, the last used first.  A session is
free again `lag` seconds after its client has the answer.  A session whose client left is closed;
if nothing `is_reset` (PgBouncer's `server_reset_query` is empty), the next client gets it as is.
"""

from __future__ import annotations

import os
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

PROTOCOL = 196608
CANCEL = 80877102
OK = b"R" + struct.pack("!ii", 8, 0)


def read(stream: Any, size: int) -> bytes:
    """Read so many bytes, or raise EOFError."""
    found: bytes = stream.read(size)
    if len(found) < size:
        raise EOFError
    return found


def message(stream: Any) -> tuple[bytes, bytes]:
    """Return the type of a message, and the whole of it."""
    head = read(stream, 5)
    return head[:1], head + read(stream, struct.unpack("!i", head[1:])[0] - 4)


class ServerSession:
    """A session of the server, and the parameters that the server sent at its start."""

    def __init__(self, host: str, user: str, database: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(f"{host}/.s.PGSQL.5432")
        self.stream = self._socket.makefile("rb")
        self.send = self._socket.sendall
        self.parameters = b""
        try:
            self._start(user, database)
        except BaseException:
            self.close()
            raise

    def _start(self, user: str, database: str) -> None:
        words = f"user\0{user}\0database\0{database}\0\0".encode()
        self.send(struct.pack("!ii", len(words) + 8, PROTOCOL) + words)
        while True:
            kind, whole = message(self.stream)
            if kind == b"S":
                self.parameters += whole
            if kind == b"Z":
                return

    def close(self) -> None:
        self.stream.close()
        self._socket.close()


class Pool:
    """At most `size` sessions of the server that `dsn` leads to."""

    def __init__(
        self,
        dsn: str,
        *,
        keeps_sessions: bool,
        size: int,
        patience: float,
        lag: float,
        is_reset: bool,
    ) -> None:
        words = conninfo_to_dict(dsn)
        self._way = (str(words["host"]), str(words["user"]), str(words["dbname"]))
        self.keeps_sessions = keeps_sessions
        self.is_reset = is_reset
        self._patience = patience
        self.lag = lag
        self._parameters = b""
        self._room = threading.Semaphore(size)
        self._free: list[ServerSession] = []
        self._is_closed = False

    def take(self) -> ServerSession | None:
        """Return a free session, the last used first; None if none is free in time."""
        if not self._room.acquire(timeout=self._patience):
            return None
        return self._free.pop() if self._free else ServerSession(*self._way)

    def parameters(self) -> bytes:
        """Return the server's start-up parameters, which are read only once."""
        if not self._parameters and (session := self.take()):
            self._parameters = session.parameters
            self.give(session)
        return self._parameters

    def give(self, session: ServerSession) -> None:
        """Give a session back."""
        self._free.append(session)
        self._room.release()
        if self._is_closed:  # by the test, while this client's thread was still at work
            self.close()

    def drop(self, session: ServerSession) -> None:
        """End a session whose client left in the middle of something."""
        session.close()
        self._room.release()

    def close(self) -> None:
        """End the sessions that are free, and those that are given back from now on."""
        self._is_closed = True
        with suppress(IndexError):
            while True:
                self._free.pop().close()


class Client(socketserver.StreamRequestHandler):
    """One client, whose start-up is answered here, and whose transactions are passed on."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        pool: Pool = self.server.pool  # type: ignore[attr-defined]
        held: ServerSession | None = None
        try:
            if not self._started():
                return
            start = OK + pool.parameters() + b"K" + struct.pack("!i", 12) + os.urandom(8)
            self.wfile.write(start + b"Z" + struct.pack("!i", 5) + b"I")
            while True:
                kind, whole = message(self.rfile)
                held = held or pool.take()
                if held is not None and kind == b"X" and not pool.is_reset:
                    pool.give(held)
                    held = None
                if kind == b"X" or held is None:
                    return
                held.send(whole)
                if kind in {b"Q", b"S"} and self._answer(held) == b"I" and not pool.keeps_sessions:
                    time.sleep(pool.lag)
                    pool.give(held)
                    held = None
        except (EOFError, OSError):
            pass
        finally:
            if held is not None:
                pool.drop(held)

    def _started(self) -> bool:
        while True:
            length, code = struct.unpack("!ii", read(self.rfile, 8))
            read(self.rfile, length - 8)
            if code in {PROTOCOL, CANCEL}:
                return bool(code == PROTOCOL)
            self.wfile.write(b"N")  # no TLS, and no GSSAPI

    def _answer(self, held: ServerSession) -> bytes:
        """Pass the server's answer on, and return the transaction status after it."""
        while True:
            kind, whole = message(held.stream)
            self.wfile.write(whole)
            if kind == b"Z":
                return whole[-1:]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    pool: Pool


@contextmanager
def pooler(
    dsn: str,
    *,
    keeps_sessions: bool,
    size: int = 5,
    patience: float = 0.3,
    lag: float = 0,
    is_reset: bool = True,
) -> Iterator[str]:
    """Run a pooler in front of the database that `dsn` leads to, and give the way through it."""
    pool = Pool(
        dsn,
        keeps_sessions=keeps_sessions,
        size=size,
        patience=patience,
        lag=lag,
        is_reset=is_reset,
    )
    with _Server(("127.0.0.1", 0), Client) as server:
        server.pool = pool
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            host, port = server.server_address[:2]
            yield make_conninfo(dsn, host=str(host), port=port, sslmode="disable")
        finally:
            server.shutdown()
            thread.join()
            pool.close()
