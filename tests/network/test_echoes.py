"""An answer that repeats the request: nothing of it reaches an error, a pickle or our log.

Strategy: a server puts what it was sent into each place of an answer that a library would quote. A
broken answer of that kind leaves the message in doubt, and its error, pickle and log are searched
for the key, the number and the text.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

import pytest

from skycore_async import OutcomeUnknown, SkycoreError
from tests.conftest import KEY
from tests.support.fault_server import FaultServer, Read, Reply, answer
from tests.unit.runtime.test_secret import frames

if TYPE_CHECKING:
    from tests.conftest import OpenClient

pytestmark = [pytest.mark.anyio, pytest.mark.unmeasured]

NUMBER, TEXT = "15551234888", "Greetings from Marc"
# As they are, and as a form or a URL has them.
WRITTEN = (KEY, NUMBER, TEXT, TEXT.replace(" ", "+"), TEXT.replace(" ", "%20"))


def what_came(request: bytes) -> bytes:
    """Return the body of a POST, or the target of a GET."""
    head, _, body = request.partition(b"\r\n\r\n")
    return body or head.split(b" ")[1]


def as_decoded(request: bytes) -> bytes:
    """Return the same text, decoded."""
    return unquote_plus(what_came(request).decode()).encode()


def in_chunks(size: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n"


PLACES: dict[str, Callable[[bytes], bytes]] = {
    "the status line": lambda said: said + b"\r\n\r\n",
    "the version": lambda said: b"HTTP/" + said + b" 200 OK\r\n\r\n",
    "the status": lambda said: b"HTTP/1.1 " + said + b"\r\n\r\n",
    "the reason": lambda said: b"HTTP/1.1 500 " + said + b"\r\nContent-Length: 0\r\n\r\n",
    "a header line": lambda said: b"HTTP/1.1 200 OK\r\n" + said + b"\r\n\r\n",
    "a header's name": lambda said: b"HTTP/1.1 200 OK\r\n" + said + b": 1\r\n\r\n",
    "a header's value": lambda said: b"HTTP/1.1 200 OK\r\nX: \0" + said + b"\r\n\r\n",
    "the length": lambda said: b"HTTP/1.1 200 OK\r\nContent-Length: " + said + b"\r\n\r\n",
    "a length that is a number": lambda said: (
        b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\nhalf" % NUMBER.encode()
    ),
    "the transfer coding": lambda said: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + said + b"\r\n\r\n"
    ),
    "the content coding": lambda said: answer(
        headers={"Content-Encoding": "x"}, body=said, status="400 Bad"
    ),
    "a chunk's size": in_chunks,
    "a chunk's extension": lambda said: in_chunks(b"z;" + said),
    "a body that is no XML": answer,
    "a root": lambda said: answer(b"<x%s/>" % NUMBER.encode()),
    "an encoding": lambda said: answer(
        b'<?xml version="1.0" encoding="x%s"?><RESPONSE/>' % NUMBER.encode()
    ),
    "a character that is none": lambda said: answer(b"<RESPONSE>\xff" + said),
    "a STATUS": lambda said: answer(
        b"<RESPONSE><STATUS><![CDATA[%s]]></STATUS></RESPONSE>" % said
    ),
    "the words of E503": lambda said: answer(
        b"<RESPONSE><STATUS>Failure</STATUS><ERRORCODE>E503</ERRORCODE>"
        b"<ERRORINFO><![CDATA[%s]]></ERRORINFO></RESPONSE>" % said
    ),
    "an HTML page": lambda said: answer(b"<html>" + said, status="502 Bad Gateway"),
}


def all_of(error: BaseException | None) -> Iterator[str]:
    """Return all text of an error and of its causes."""
    while error is not None:
        yield from (str(error), repr(error), repr(vars(error)), repr(error.args))
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("decode", [what_came, as_decoded], ids=["as it came", "decoded"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_secrets_repeated_in_an_answer_appear_nowhere(
    open_client: OpenClient,
    place: Callable[[bytes], bytes],
    decode: Callable[[bytes], bytes],
    method: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An answer that repeats the request puts no key, number or text into error or log."""
    caplog.set_level(logging.DEBUG, "skycore_async")
    with FaultServer((Read(), Reply(lambda request: place(decode(request))))) as server:
        async with open_client(server.url, method=method) as client:
            with pytest.raises(SkycoreError) as caught:
                await client.send_sms(to=NUMBER, text=TEXT)
    error = caught.value
    assert type(error) is OutcomeUnknown
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    ours = [record for record in caplog.records if record.name == "skycore_async"]
    said = [*all_of(error), *all_of(again), repr(pickle.dumps(error))]
    said += [text for record in ours for text in (record.getMessage(), repr(vars(record)))]
    assert ours
    assert not [text for text in said for written in WRITTEN if written in text]
    assert not [text for text in frames(error.__traceback__) if KEY in text]


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_no_library_logs_the_key(
    open_client: OpenClient, place: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Debug logs of HTTP libraries have no API key in them."""
    caplog.set_level(logging.DEBUG)
    with FaultServer((Read(), Reply(lambda request: place(what_came(request))))) as server:
        async with open_client(server.url) as client:
            with pytest.raises(OutcomeUnknown):
                await client.send_sms(to=NUMBER, text=TEXT)
    assert not [record for record in caplog.records if KEY in repr(vars(record))]


async def test_no_library_logs_a_key_that_stands_alone(
    open_client: OpenClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Debug logs of HTTP libraries mask the key even if it stands alone in a header."""
    caplog.set_level(logging.DEBUG)
    with FaultServer((Read(), Reply(lambda _: answer(headers={"X-Consumer": KEY})))) as server:
        async with open_client(server.url) as client:
            await client.send_sms(to=NUMBER, text=TEXT)
    assert not [record for record in caplog.records if KEY in repr(vars(record))]


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_no_library_logs_number_and_text_of_a_url(
    open_client: OpenClient, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Debug logs of HTTP libraries show neither number nor text of an accepted message."""
    caplog.set_level(logging.DEBUG)
    with FaultServer((Read(), Reply(lambda _: answer()))) as server:
        async with open_client(server.url, method=method) as client:
            await client.send_sms(to=NUMBER, text=TEXT)
    said = [repr(vars(record)) for record in caplog.records]
    assert said
    assert not [text for text in said for written in WRITTEN if written in text]
