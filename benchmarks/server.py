"""A server that takes any request and answers at once, or after a delay.

Each answer has a tracking id of its own: a ledger would need more time for messages that share
one.

`python -m benchmarks.server DELAY BODY CHAIN` prints its port, and serves until its
standard input ends; over TLS if CHAIN is a file with a key and a certificate.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SUCCESS: Final = (
    "<RESPONSE><STATUS>Success</STATUS><TRACKINGID>SMS_10000000</TRACKINGID>"
    "<TO>15551234888</TO></RESPONSE>"
)

_FIRST: Final = 10_000_000  # which is in the answer, and counted up in those that follow
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class _Answering(asyncio.Protocol):
    def __init__(self, answers: Iterator[bytes], delay: float) -> None:
        self._answers = answers
        self._delay = delay
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._reply)
            else:
                self._reply()

    def _reply(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(next(self._answers))


def _numbered(answer: bytes) -> Iterator[bytes]:
    before, number, after = answer.partition(b"%d" % _FIRST)
    if not number:
        yield from itertools.repeat(answer)
    for each in itertools.count(_FIRST):
        yield b"%b%d%b" % (before, each, after)


async def _serve(delay: float, body: str, chain: str) -> None:
    kind = "application/json" if body.startswith("{") else "text/xml"
    answer = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    loop = asyncio.get_running_loop()
    answers = _numbered(answer)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if chain else None
    if tls is not None:
        tls.load_cert_chain(chain)
    server = await loop.create_server(lambda: _Answering(answers, delay), "127.0.0.1", 0, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


@contextmanager
def running(*, delay: float = 0.0, body: str = SUCCESS, chain: str = "") -> Iterator[str]:
    """Run the server in a process of its own, and return its URL; `delay` is in seconds.

    `chain` is the file of a key and a certificate for localhost, for TLS.
    """
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
        [sys.executable, "-m", "benchmarks.server", str(delay), body, chain],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            scheme, host = ("https", "localhost") if chain else ("http", "127.0.0.1")
            yield f"{scheme}://{host}:{int(process.stdout.readline())}/"
        finally:
            process.stdin.close()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]), *sys.argv[2:]))
