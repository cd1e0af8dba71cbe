"""A hostile server's answers over real sockets: bounded in time and memory.

How bytes are read is tested in `tests/unit/transports/test_answers.py`; here such a connection has
to be given up in time, its socket closed, and the next message unharmed.
"""

from __future__ import annotations

import time
import tracemalloc

import anyio
import attrs
import pytest

from skycore_async import Accepted, OutcomeUnknown, SkycoreError
from skycore_async.transports.base import MAX_RESPONSE
from tests.conftest import OpenClient, over_direct, over_httpx
from tests.network.test_direct import anyio_backend
from tests.network.test_fault_matrix import outcome, send
from tests.support.fault_server import (
    SUCCESS,
    Drip,
    FaultServer,
    Hang,
    Read,
    Script,
    Secure,
    Send,
    answer,
)

__all__ = ["anyio_backend"]  # the three event loops

pytestmark = pytest.mark.anyio

TIMEOUT = 60.0  # seconds, which nothing that is endless comes near
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SECOND = SUCCESS.replace(b"12345", b"2")


def endless(start: bytes, of: bytes, *, size: int = 256 * 1024) -> Script:
    """Send `start`, and then `of` repeatedly at full speed, some KiB at a time."""
    return (Read(), Send(start or of), Drip(of * max(1, size // len(of)), pause=0))


ENDLESS: dict[str, Script] = {
    "a status line": endless(OK[:-2], b"K"),
    "a header": endless(OK + b"X: ", b"a"),
    "headers": endless(OK, b"X: 1\r\n"),
    "early answers": endless(b"", b"HTTP/1.1 103 Early Hints\r\nX: %b\r\n\r\n" % (b"a" * 1000)),
    "early answers of a line": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "blank lines": endless(b"", b"\r\n"),
    "a body of a gigabyte": endless(OK + b"Content-Length: 1000000000\r\n\r\n", b"x"),
    "a chunk of a gigabyte": endless(CHUNKED + b"3b9aca00\r\n", b"x"),
    "chunks of a byte": endless(CHUNKED, b"1\r\nx\r\n"),
    "an extension of a chunk": endless(CHUNKED + b"1;", b"a"),
    "chunks with extensions": endless(CHUNKED, b"1;%b\r\nx\r\n" % (b"a" * 1000)),
    "trailers": endless(CHUNKED + b"0\r\n", b"X: 1\r\n"),
}


OVER: dict[str, tuple[OpenClient, bool]] = {
    "direct": (over_direct, False),
    "direct, TLS": (over_direct, True),
    "httpx": (over_httpx, False),
}
# Of which httpx reads some 50,000 before they are too much: seconds, where memory is traced.
TINY = ("early answers of a line", "chunks of a byte")


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("script", "open_it", "secure"),
    [
        pytest.param(
            script, *over, id=f"{what}-{how}", marks=pytest.mark.slow if what in TINY else ()
        )
        for what, script in ENDLESS.items()
        for how, over in OVER.items()
        if what not in TINY or how == "direct"
    ],
)
async def test_an_answer_without_an_end_is_given_up(
    script: Script, open_it: OpenClient, *, secure: bool
) -> None:
    """An endless answer is given up long before the timeout, in bounded memory, as in doubt."""
    tls: Script = (Secure(),) if secure else ()
    with FaultServer((*tls, *script), (*tls, Read(), Send(answer()))) as server:
        url = server.secure_url if secure else server.url
        async with open_it(url, timeout=TIMEOUT) as client:
            tracemalloc.start()
            given = await outcome(client)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert await anyio.to_thread.run_sync(server.hung_up)
            await send(client)
        assert type(given) is OutcomeUnknown
        assert (server.connections, len(server.requests)) == (2, 2)
    assert "no answer within" not in str(given)  # as it says where the time was over
    assert peak < 12 * MAX_RESPONSE


SLOW: dict[str, Script] = {
    "of a status line": (Read(), Send(OK[:-2]), Drip(b"K", pause=0.05)),
    "of a header": (Read(), Send(OK + b"X: "), Drip(b"a", pause=0.05)),
    "of a body": (Read(), Send(OK + b"Content-Length: 9999\r\n\r\n"), Drip(b"x", pause=0.05)),
    "of an extension": (Read(), Send(CHUNKED + b"1;"), Drip(b"a", pause=0.05)),
    "of a body by early answers": (
        Read(),
        Drip(b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.2),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
async def test_a_byte_now_and_then_buys_no_time(script: Script) -> None:
    """The timeout bounds the whole answer, not each piece."""
    with FaultServer(script) as server:
        async with over_direct(server.url, timeout=0.5) as client:
            began = time.monotonic()
            given = await outcome(client)
            took = time.monotonic() - began
            assert await anyio.to_thread.run_sync(server.hung_up)
        assert type(given) is OutcomeUnknown
    assert 0.4 < took < 5


@attrs.frozen
class Shape:
    """An answer that two readers might frame differently, and its message's outcome."""

    sent: bytes
    outcome: type[Accepted | SkycoreError]


def framed(*headers: bytes, body: bytes = SUCCESS, start: bytes = OK) -> bytes:
    return start + b"".join(b"%b\r\n" % header for header in headers) + b"\r\n" + body


LENGTH = b"Content-Length: %d" % len(SUCCESS)
IN_CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SUCCESS), SUCCESS)
SMUGGLING: dict[str, Shape] = {
    "two lengths": Shape(framed(LENGTH, b"Content-Length: 5"), OutcomeUnknown),
    "two lengths in one": Shape(framed(LENGTH + b", 5"), OutcomeUnknown),
    "a length with a sign": Shape(framed(LENGTH.replace(b": ", b": +")), OutcomeUnknown),
    "a length in hexadecimal": Shape(framed(b"Content-Length: 0x64"), OutcomeUnknown),
    "a length that wraps around": Shape(
        framed(b"Content-Length: 18446744073709551716"), OutcomeUnknown
    ),
    "white space before the colon": Shape(framed(LENGTH.replace(b":", b" :")), OutcomeUnknown),
    "a NUL in the status line": Shape(
        framed(LENGTH, start=b"HTTP/1.1 200 O\0K\r\n"), OutcomeUnknown
    ),
    "a NUL in a header": Shape(framed(LENGTH, b"X: a\0b"), OutcomeUnknown),
    "an unknown coding": Shape(
        framed(b"Transfer-Encoding: gzip, chunked", body=IN_CHUNKS), OutcomeUnknown
    ),
    "chunked twice": Shape(
        framed(b"Transfer-Encoding: chunked, chunked", body=IN_CHUNKS), OutcomeUnknown
    ),
    "a size with a sign": Shape(
        framed(b"Transfer-Encoding: chunked", body=b"+" + IN_CHUNKS), OutcomeUnknown
    ),
    "a chunk without its end": Shape(
        framed(
            b"Transfer-Encoding: chunked",
            body=b"%x\r\n%b0\r\n\r\n" % (len(SUCCESS), SUCCESS),
        ),
        OutcomeUnknown,
    ),
    "a second answer behind a chunked one with a length": Shape(
        framed(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=IN_CHUNKS)
        + answer(SUCCESS.replace(b"12345", b"666")),
        Accepted,
    ),
}


@pytest.mark.parametrize("shape", SMUGGLING.values(), ids=SMUGGLING)
async def test_an_answer_that_could_be_framed_in_two_ways_frames_no_other(shape: Shape) -> None:
    """An ambiguously framed answer is never read into the next message's answer."""
    second: Script = (Read(), Send(answer(SECOND)), Hang())
    with FaultServer((Read(), Send(shape.sent), *second), second) as server:
        async with over_direct(server.url) as client:
            impatient = client.with_options(timeout=0.5)
            assert type(await outcome(impatient)) is shape.outcome
            assert (await send(client)).tracking_id == "SMS_2"
        assert (server.connections, len(server.requests)) == (2, 2)
