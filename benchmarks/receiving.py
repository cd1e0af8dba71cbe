"""How fast postbacks are received, each of them durable before its 200.

`python -m benchmarks.receiving PATH` serves a `PostbackReceiver` with the
ledger PATH under uvicorn, in a process of its own; it prints its port, and
serves until its standard input ends.  Fifty connections, kept alive, each post
the receipt of another message and wait for the answer before the next.

Its CPU time is compared with that of an earlier build; each runs as `receiver_side.py` in a
process of its own, by turns.

With `--inbox` the receiver gets only the ledger's path, and so writes to the inbox: another
process, here the one that measures, has the ledger open and takes the postbacks in from the inbox.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self

import anyio
import attrs

from skycore_async import MessageState, SQLiteLedger
from skycore_async.receiving.receiver import PostbackReceiver

from .earlier import COMMIT, earlier_build
from .harness import (
    Figure,
    at_least_absolute,
    at_most,
    at_most_absolute,
    medians,
    without_peer,
)
from .ledger import fill
from .sending import ROUNDS

CONNECTIONS: Final = 50
COUNT: Final = 5000
_FIRST: Final = 500  # postbacks that are not measured
_ROOT: Final = Path(__file__).parents[1]
_SIDE: Final = _ROOT / "benchmarks" / "receiver_side.py"

_BODY: Final = (
    "<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N202</CODE><STATUS>Message Sent/Delivered</STATUS>"
    "<FROM>60856</FROM><TO>1555{number:07}</TO><TRACKINGID>SMS_{number}</TRACKINGID>"
    "<SPID>0001470</SPID><TIMESTAMP>2013-11-05T05:41:08-05:00</TIMESTAMP></POSTBACK>"
)
_HEAD: Final = (
    "POST /postback HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/xml\r\n"
    "Content-Length: {length}\r\n\r\n"
)


@attrs.frozen(kw_only=True)
class _Run:
    """Postbacks per second, and the milliseconds within which 99 of 100 were answered."""

    per_second: float
    p99: float
    behind: float = 0.0  # seconds from the last answer until all of it is in the ledger


def _serve(path: str, *, by_inbox: bool) -> None:
    import uvicorn  # noqa: PLC0415 - only in the process that serves

    app = PostbackReceiver(ledger=path if by_inbox else SQLiteLedger(path))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as where uvicorn makes it
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))

    def end_with_the_input() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end_with_the_input, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    server.run(sockets=[listener])


@contextmanager
def _served(path: Path, *options: str) -> Iterator[int]:
    """Serve the ledger in a process of its own, and return the port."""
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
        [sys.executable, "-m", "benchmarks.receiving", str(path), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


class _Connection:
    """One that is kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect, and have something refused: what comes next meets a server that is awake."""
        connection = cls(*await asyncio.open_connection("127.0.0.1", port))
        assert await connection.post("nothing") == HTTPStatus.BAD_REQUEST
        return connection

    async def post(self, body: str) -> int:
        """Post, and return the status of the answer."""
        self._writer.write((_HEAD.format(length=len(body)) + body).encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split()[0]
        await self._reader.readexactly(int(length))
        return int(head.split()[1])

    def close(self) -> None:
        """Close it."""
        self._writer.close()


async def _post_all(port: int) -> _Run:
    """Post a receipt for each message, and time each answer."""
    numbers = iter(range(COUNT))
    took: list[float] = []

    async def post_some(connection: _Connection) -> None:
        for number in numbers:
            body = _BODY.format(number=number)
            began = time.perf_counter()
            assert await connection.post(body) == HTTPStatus.OK
            took.append(time.perf_counter() - began)

    connections = [await _Connection.open(port) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    await asyncio.gather(*map(post_some, connections))
    per_second = COUNT / (time.perf_counter() - began)
    for connection in connections:
        connection.close()
    return _Run(per_second=per_second, p99=statistics.quantiles(took, n=100)[-1] * 1000)


async def _fill(path: Path) -> None:
    async with SQLiteLedger(path) as ledger:
        await fill(ledger, COUNT)


async def _delivered(path: Path) -> int:
    async with SQLiteLedger(path) as ledger:
        return (await ledger.summary()).states.get(MessageState.DELIVERED, 0)


def _run() -> _Run:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "ledger.db")
        anyio.run(_fill, path)
        with _served(path) as port:
            run = asyncio.run(_post_all(port))
        assert anyio.run(_delivered, path) == COUNT
        return run


async def _post_beside(path: Path, port: int) -> _Run:
    """Post while this process has the ledger open, until it knows of every message."""
    async with SQLiteLedger(path) as ledger:
        run = await _post_all(port)
        answered = time.perf_counter()
        while True:
            if (await ledger.summary()).states.get(MessageState.DELIVERED, 0) == COUNT:
                return attrs.evolve(run, behind=time.perf_counter() - answered)
            await asyncio.sleep(0.01)


def _run_beside() -> _Run:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "ledger.db")
        anyio.run(_fill, path)
        with _served(path, "--inbox") as port:
            return asyncio.run(_post_beside(path, port))


async def _post_to(process: subprocess.Popen[str], port: int) -> float:
    """Post receipts, and return the microseconds of CPU that each took the program."""

    def used() -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    async def post_some(connection: _Connection, numbers: Iterator[int]) -> None:
        for number in numbers:
            assert await connection.post(_BODY.format(number=number)) == HTTPStatus.OK

    async def post_all(numbers: Iterator[int]) -> None:
        await asyncio.gather(*(post_some(each, numbers) for each in connections))

    connections = [await _Connection.open(port) for _ in range(CONNECTIONS)]
    await post_all(iter(range(_FIRST)))
    before = used()
    await post_all(iter(range(_FIRST, _FIRST + COUNT)))
    took = used() - before
    for connection in connections:
        connection.close()
    return took / COUNT * 1e6


def _cpu(build: Path) -> float:
    """Return the microseconds of CPU that a postback takes a build."""
    with tempfile.TemporaryDirectory() as folder:
        path, count = str(Path(folder, "ledger.db")), str(_FIRST + COUNT)
        with subprocess.Popen(  # noqa: S603 - our own interpreter and our own program
            [sys.executable, "-P", str(_SIDE), path, count],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(build)},
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                return asyncio.run(_post_to(process, int(process.stdout.readline())))
            finally:
                process.stdin.close()


def against_earlier() -> Iterator[Figure]:
    """Post the same receipts to this build and to an earlier one."""
    measured = f"receiver, {CONNECTIONS} connections: CPU of a postback"
    with earlier_build() as build:
        if build is None:
            yield without_peer(measured, f"build {COMMIT}, which is not here")
            return
        ours, theirs = medians(functools.partial(_cpu, _ROOT), functools.partial(_cpu, build))
    against = f"build {COMMIT}"
    yield at_most(0.74, measured, ours=ours, theirs=theirs, unit="µs", against=against)


def measure() -> Iterator[Figure]:
    """Post receipts over fifty connections, into a ledger and beside one that is in use."""
    yield from against_earlier()
    runs = [_run() for _ in range(ROUNDS)]
    receiver = f"receiver, {CONNECTIONS} connections"
    rate = statistics.median(run.per_second for run in runs)
    yield at_least_absolute(2000, receiver, rate, "postbacks/s")
    p99 = statistics.median(run.p99 for run in runs)
    yield at_most_absolute(100, f"{receiver}, p99", p99, "ms")
    runs = [_run_beside() for _ in range(ROUNDS)]
    receiver = f"receiver by way of the inbox, {CONNECTIONS} connections"
    rate = statistics.median(run.per_second for run in runs)
    yield at_least_absolute(500, receiver, rate, "postbacks/s")
    p99 = statistics.median(run.p99 for run in runs)
    yield at_most_absolute(500, f"{receiver}, p99", p99, "ms")
    behind = statistics.median(run.behind for run in runs)
    yield at_most_absolute(3, f"{receiver}, then all in the ledger", behind, "s")


if __name__ == "__main__":
    _serve(sys.argv[1], by_inbox="--inbox" in sys.argv)
