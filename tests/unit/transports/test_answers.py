"""How an answer's bytes are read: as h11 reads them, also on the short path for usual ones."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator

import attrs
import h11
import pytest

from skycore_async import Response
from skycore_async.transports.answers import AnswerReader, usual_head
from skycore_async.transports.base import MAX_RESPONSE
from tests.support.fault_server import SUCCESS, answer, chunked


@attrs.frozen
class Verdict:
    """What was read of an answer, and whether the connection is clean after it."""

    said: str
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    is_clean: bool = False


MORE, BROKEN = Verdict("more"), Verdict("broken")


def ours(*parts: bytes, method: str = "POST", ends: bool = False) -> Verdict:
    """Read an answer that comes in these parts; `ends` says that the connection ends then."""
    reader = AnswerReader(method)
    left = [*filter(None, parts)]
    try:
        response: Response | None = None
        while left and response is None:
            response = reader.feed(left.pop(0))
        if response is None and ends:
            response = reader.end()
    except h11.RemoteProtocolError:
        return BROKEN
    if response is None:
        return MORE
    headers = tuple(sorted(response.headers.items()))
    is_clean = reader.is_clean and not left
    return Verdict("answer", response.status, headers, response.body, is_clean)


def h11s(data: bytes, *, method: str = "POST", ends: bool = False) -> Verdict:
    """Read an answer by h11 alone, as httpcore does."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=100 * 1024)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    head, body = None, b""
    try:
        connection.receive_data(data)
        if ends:
            connection.receive_data(b"")
        while True:
            match event := connection.next_event():
                case h11.Response():
                    head = event
                case h11.Data():
                    body += event.data
                case h11.InformationalResponse():
                    pass
                case h11.NEED_DATA:
                    return MORE
                case _:  # EndOfMessage, or PAUSED after a CONNECT
                    break
    except h11.RemoteProtocolError:
        return BROKEN
    assert head
    named = {name.decode(): value.decode("latin-1") for name, value in head.headers}
    has_more = connection.trailing_data != (b"", False)
    is_clean = not has_more and connection.their_state in {h11.DONE, h11.SWITCHED_PROTOCOL}
    return Verdict("answer", head.status_code, tuple(sorted(named.items())), body, is_clean)


# --- A table ------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
EARLY = b"HTTP/1.1 100 Continue\r\n\r\n"

# What comes, and what it is; where an answer, its body and whether it is clean.
ANSWERS: dict[str, tuple[bytes, tuple[bytes, bool] | Verdict]] = {
    "plain": (answer(), (SUCCESS, True)),
    "without a body": (answer(b""), (b"", True)),
    "half of its head": (answer()[:30], MORE),
    "its head alone": (answer()[: -len(SUCCESS)], MORE),
    "half of its body": (answer()[:-1], MORE),
    "that ends the connection": (answer(headers={"Connection": "close"}), (SUCCESS, False)),
    "that keeps it": (answer(headers={"Connection": "keep-alive"}), (SUCCESS, True)),
    "with another connection option": (
        answer(headers={"Connection": "x, close"}),
        (SUCCESS, False),
    ),
    "in chunks": (chunked(SUCCESS), (SUCCESS, True)),
    "after an early one": (EARLY * 3 + answer(), (SUCCESS, True)),
    "an early one alone": (EARLY, MORE),
    "HTTP/1.0": (answer().replace(b"1.1", b"1.0"), (SUCCESS, False)),
    "204": (b"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", (b"", True)),
    "204 with a body": (b"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\nabc", (b"", False)),
    "a byte more": (answer() + b"\n", (SUCCESS, False)),
    "a second one": (answer() * 2, (SUCCESS, False)),
    "an early one behind it": (answer() + EARLY, (SUCCESS, False)),
    "zeros in its length": (OK + b"Content-Length: 0003\r\n\r\nabc", (b"abc", True)),
    "two lengths that agree": (OK + b"Content-Length: 3\r\n" * 2 + b"\r\nabc", (b"abc", True)),
    "lines that end otherwise": (OK[:-2] + b"\nContent-Length: 3\n\nabc", (b"abc", True)),
    "two lengths that do not": (
        OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        BROKEN,
    ),
    "a length and chunks": (
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        (b"abc", True),
    ),
    "another transfer coding": (OK + b"Transfer-Encoding: gzip\r\n\r\n", BROKEN),
    "a length below nothing": (OK + b"Content-Length: -3\r\n\r\nabc", BROKEN),
    "a length of other digits": (OK + b"Content-Length: \xb3\r\n\r\nabc", BROKEN),
    "a length with a sign": (OK + b"Content-Length: +3\r\n\r\nabc", BROKEN),
    "white space before the colon": (OK + b"Content-Length : 3\r\n\r\nabc", BROKEN),
    "a folded header": (OK + b"Content-Length: 3\r\n 0\r\n\r\nabc", BROKEN),
    "NUL in its status line": (b"HTTP/1.1 200 O\0K\r\nContent-Length: 3\r\n\r\nabc", BROKEN),
    "NUL in a header": (OK + b"X: a\0b\r\nContent-Length: 3\r\n\r\nabc", BROKEN),
    "a bare CR in a header": (
        OK + b"X: a\rContent-Length: 9\r\nContent-Length: 3\r\n\r\n",
        BROKEN,
    ),
    "a status of two digits": (b"HTTP/1.1 20 OK\r\nContent-Length: 3\r\n\r\nabc", BROKEN),
    "HTTP/2": (b"HTTP/2 200 OK\r\nContent-Length: 3\r\n\r\nabc", BROKEN),
    "101": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", BROKEN),
    "no HTTP": (b"220 smtp.example ESMTP\r\n\r\n", BROKEN),
    "a chunk too long for its size": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
        BROKEN,
    ),
}


@pytest.mark.parametrize(("came", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_read_however_it_comes(
    came: bytes, expected: tuple[bytes, bool] | Verdict
) -> None:
    """An answer is read alike in one piece, in two and byte by byte, and as h11 reads it."""
    whole = ours(came)
    assert whole == h11s(came)
    if isinstance(expected, Verdict):
        assert whole == expected
    else:
        assert (whole.said, whole.body, whole.is_clean) == ("answer", *expected)
    half = len(came) // 2
    for parts in (
        (came[:half], came[half:]),
        (came[:-1], came[-1:]),
        tuple(came[at : at + 1] for at in range(len(came))),
    ):
        assert ours(*parts) == whole


ENDS: dict[str, tuple[bytes, bytes | None]] = {
    "an answer without a length": (b"HTTP/1.1 200 OK\r\n\r\n" + SUCCESS, SUCCESS),
    "one of HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n" + SUCCESS, SUCCESS),
    "one without a body": (b"HTTP/1.1 200 OK\r\n\r\n", b""),
    "nothing": (b"", None),
    "half a head": (answer()[:30], None),
    "half a body": (answer()[:-1], None),
    "half of its chunks": (chunked(SUCCESS)[:-3], None),
    "an early answer": (EARLY, None),
}


@pytest.mark.parametrize(("came", "body"), ENDS.values(), ids=ENDS)
def test_an_answer_may_end_with_its_connection(came: bytes, body: bytes | None) -> None:
    """An answer without a length ends with its connection, and one that is too short is broken."""
    read = ours(came, ends=True)
    assert read == (BROKEN if body is None else attrs.evolve(read, body=body, is_clean=False))
    assert (read.said == "answer") is (body is not None)
    if came:
        assert read == h11s(came, ends=True)


@pytest.mark.parametrize("length", [0, 3])
def test_after_the_answer_to_a_connect_a_tunnel_begins(length: int) -> None:
    """The length of an accepted CONNECT is ignored; bytes after its head are no clean state."""
    agreed = OK + b"Content-Length: %d\r\n\r\n" % length
    assert ours(agreed, method="CONNECT").is_clean
    assert not ours(agreed + b"abc", method="CONNECT").is_clean
    refused = answer(b"no", status="407 Who")
    assert ours(refused, method="CONNECT") == h11s(refused, method="CONNECT")


# --- Bounds -------------------------------------------------------------------


def drip(*start: bytes, of: bytes) -> Iterator[bytes]:
    yield from start
    while True:
        yield of * max(1, 65536 // len(of))


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS: dict[str, tuple[Iterator[bytes], bool]] = {
    "a body": (drip(OK + b"\r\n", of=b"x"), True),
    "a body of a length": (drip(OK + b"Content-Length: 1000000000\r\n\r\n", of=b"x"), True),
    "chunks": (drip(CHUNKED, of=b"fff\r\n%b\r\n" % bytes(0xFFF)), True),
    "a status line": (drip(b"HTTP/1.1 200 ", of=b"x"), False),
    "a header": (drip(OK + b"X: ", of=b"x"), False),
    "headers": (drip(OK, of=b"X: 1\r\n"), False),
    "early answers": (drip(of=EARLY), False),
    "an extension of a chunk": (drip(CHUNKED + b"1;", of=b"x"), False),
    "small chunks with extensions": (drip(CHUNKED, of=b"1;%b\r\nx\r\n" % (b"y" * 500)), False),
    "trailers": (drip(CHUNKED + b"0\r\n", of=b"X: 1\r\n"), False),
    "zeros in a chunk's size": (drip(CHUNKED, of=b"0"), False),
    "blank lines": (drip(of=b"\r\n"), False),
}


@pytest.mark.parametrize(("parts", "is_answer"), ENDLESS.values(), ids=ENDLESS)
def test_an_endless_answer_is_read_no_further(parts: Iterator[bytes], *, is_answer: bool) -> None:
    """An endless answer is given up within bounded time and memory."""
    reader, read, response = AnswerReader(), 0, None
    tracemalloc.start()
    began = time.process_time()
    try:
        while response is None:
            part = next(parts)
            read += len(part)
            response = reader.feed(part)
    except h11.RemoteProtocolError:
        pass
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (response is not None) is is_answer
    assert response is None or len(response.body) > MAX_RESPONSE
    assert not reader.is_clean
    assert read < 2 * MAX_RESPONSE
    assert peak < 8 * MAX_RESPONSE
    assert took < 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "part"), [(OK + b"\r\n", b"x"), (CHUNKED, b"1\r\nx\r\n")], ids=["bytes", "chunks"]
)
def test_an_answer_of_tiny_parts_costs_little(start: bytes, part: bytes) -> None:
    """An answer in very many tiny parts is given up before it takes long."""
    began = time.process_time()
    assert ours(start, *[part] * 20_000) == BROKEN
    assert time.process_time() - began < 2


# --- Against h11, on inputs that nobody thought of ----------------------------

STATUS_LINES = [
    *(b"HTTP/1.1 %d OK\r\n" % status for status in (100, 101, 200, 200, 200, 204, 304, 404, 600)),
    *(b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200\r\n", b"HTTP/1.1 200 \r\n", b"HTTP/1.1  200 OK\r\n"),
    *(
        b"HTTP/1.1 200 O\0K\r\n",
        b"HTTP/1.1 200 \xe9\r\n",
        b"HTTP/1.1 200 OK \r\n",
        b"\r\nHTTP/1.1",
    ),
    *(
        b"http/1.1 200 OK\r\n",
        b"HTTP/1.1 200 O\tK\r\n",
        b"HTTP/1.1 200 OK\n",
        b"HTTP/1.12 200 OK\r\n",
    ),
]
USUAL_FIELDS = [
    *(b"Content-Type: text/xml\r\n", b"Server: a b\r\n", b"X-A: 1\r\n", b"X-B: a: b\r\n"),
    *(b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", b"Connection: close\r\n"),
]
ODD_FIELDS = [
    *(
        b"A: %b\r\n" % it
        for it in (b"a,  b", b" \t a", b"", b"a ", b"\0", b"\x7f", b"\x0b1", b"\xff")
    ),
    *(b"A: %b" % it for it in (b"a\rb\r\n", b"1\n", b"1\r\r\n")),
    *(b"%b1\r\n" % it for it in (b"A\xe9: ", b"A : ", b" A: ", b": ", b"A_b: ", b"A", b"A:")),
    *(b"%b: 1\r\n" % it for it in (b"x-a", b"X-A")),
    *(b"Connection: %b\r\n" % it for it in (b"Close", b"keep-alive", b"Upgrade", b"a,close")),
    *(b"Transfer-Encoding: %b\r\n" % it for it in (b"chunked", b"gzip, chunked", b"identity")),
]
BODIES = [b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", SUCCESS, b"HTTP/1.1 200 OK\r\n\r\n", b"\r\n"]
LENGTHS = [b"0%d", b"%d ", b" %d", b"+%d", b"-%d", b"%d, %d", b"0x%d", b"%d.0"]
JUNK = [bytes([byte]) for byte in b"\0\t\n\r :;,0123\x7f\x80\xffaH"]


def lengths(chance: random.Random, body: bytes) -> Iterator[bytes]:
    for _ in range(chance.choice((0, 1, 1, 1, 1, 1, 1, 2))):
        form = chance.choice(LENGTHS) if chance.random() < 0.1 else b"%d"
        length = len(body) + chance.choice((0, 0, 0, 0, 0, 0, 1, -1))
        name = chance.choice((b"Content-Length", b"content-length"))
        yield b"%b: %b\r\n" % (name, form.replace(b"%d", b"%d" % length))


def made_up(chance: random.Random) -> bytes:
    """Make an answer that is usual, nearly so, or not at all."""
    body = chance.choice(BODIES)
    fields = chance.sample(USUAL_FIELDS, k=chance.randrange(4))
    fields += chance.choices(ODD_FIELDS, k=chance.choice((0, 0, 1)))
    fields += lengths(chance, body)
    chance.shuffle(fields)
    made = chance.choice(STATUS_LINES) if chance.random() < 0.2 else OK
    made += b"".join(fields) + b"\r\n" + body
    made += chance.choice((b"", b"", b"", b"", b"\r\n", b"x", answer(), EARLY))
    for _ in range(chance.choice((0, 0, 0, 0, 1, 2))):
        at, width = chance.randrange(len(made)), chance.randrange(3)
        made = made[:at] + chance.choice(JUNK) + made[at + width :]
    return made


def disagreements(seed: int, count: int) -> tuple[list[bytes], int]:
    """Return which of `count` random answers h11 reads otherwise, and how many are usual."""
    chance, found, usual = random.Random(seed), [], 0
    for _ in range(count):
        made = made_up(chance)
        cuts = sorted(chance.choices(range(len(made) + 1), k=chance.choice((0, 0, 1, 2))))
        parts = [made[a:b] for a, b in zip([0, *cuts], [*cuts, len(made)], strict=True)]
        ends = chance.random() < 0.3
        method = chance.choice(("POST", "POST", "POST", "GET", "CONNECT"))
        usual += usual_head(made.partition(b"\r\n\r\n")[0] + b"\r\n\r\n") is not None
        read, expected = (
            ours(*parts, method=method, ends=ends),
            h11s(made, method=method, ends=ends),
        )
        # Of an answer whose connection ended there is no next.
        if ends:
            read, expected = (attrs.evolve(it, is_clean=False) for it in (read, expected))
        if read != expected:
            found.append(made)
    return found, usual


@pytest.mark.slow
def test_random_answers_are_read_as_h11_reads_them() -> None:
    """Thousands of random answers are read as h11 reads them."""
    found, usual = disagreements(seed=1, count=3000)
    assert not found
    assert 600 < usual < 1500  # so that it was not h11 against itself
