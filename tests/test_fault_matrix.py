"""The fault matrix: what becomes of a message, whatever the network does to it.

Strategy: one table.  A row is what happens on the wire and the class of what
`send_sms` then gives or raises; every row holds on asyncio and trio, over every
road.  The server is the judge: it counts the requests that it read whole, and
one call of `send_sms` with one attempt is never more than one of them.

What is particular to a road is in the tests of that road.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest
from fault_server import (
    FAULTS,
    GOOD,
    SLOW_FAULTS,
    SUCCESS,
    FaultServer,
    Hang,
    Read,
    Reset,
    Script,
    Secure,
    Send,
    answer,
    html,
    refused,
    unreachable,
)

from skycore_async import (
    Accepted,
    AuthenticationFailed,
    InvalidRecipient,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Request,
    SkycoreClient,
    SkycoreError,
    Throttled,
)

if TYPE_CHECKING:
    from conftest import OpenClient

pytestmark = pytest.mark.anyio

SHORT = 0.15  # seconds, where waiting for a timeout is the subject
ANSWERED: Script = (Read(), Send(answer()))
ONE_ATTEMPT = {"max_attempts": 1}


@attrs.frozen
class Row:
    script: Script
    outcome: type[Accepted | SkycoreError]
    slow: bool = False  # it takes the client's whole timeout


def failure(code: str) -> bytes:
    return (
        b"<RESPONSE><STATUS>Failure</STATUS><ERRORCODE>%s</ERRORCODE></RESPONSE>" % code.encode()
    )


# An answer that comes whole, and what it says of the message.
ANSWERS: dict[str, tuple[bytes, type[Accepted | SkycoreError]]] = {
    "401": (html("401 Unauthorized"), OutcomeUnknown),
    "408": (html("408 Request Timeout"), OutcomeUnknown),
    "413": (html("413 Content Too Large"), OutcomeUnknown),
    "429": (html("429 Too Many Requests"), Throttled),
    "429 with Retry-After": (html("429 Too Many Requests", **{"Retry-After": "1"}), Throttled),
    "503": (html("503 Service Unavailable"), OutcomeUnknown),
    "504": (html("504 Gateway Timeout"), OutcomeUnknown),
    "200 with HTML": (html("200 OK"), OutcomeUnknown),
    "200, empty": (answer(b""), OutcomeUnknown),
    "truncated XML": (answer(SUCCESS[:-15]), OutcomeUnknown),
    "a length too small": (answer(headers={"Content-Length": "40"}), OutcomeUnknown),
    "a length too large": (answer(headers={"Content-Length": "4000"}), OutcomeUnknown),
    "a length that is no number": (answer(headers={"Content-Length": "all"}), OutcomeUnknown),
    "another root": (answer(SUCCESS.replace(b"RESPONSE", b"ANSWER")), OutcomeUnknown),
    "two roots": (answer(SUCCESS * 2), OutcomeUnknown),
    "Success without TRACKINGID": (
        answer(b"<RESPONSE><STATUS>Success</STATUS></RESPONSE>"),
        OutcomeUnknown,
    ),
    "E503": (answer(failure("E503")), OutcomeUnknown),
    "E104": (answer(failure("E104")), AuthenticationFailed),
    "E110, with status 400": (answer(failure("E110"), status="400 Bad"), InvalidRecipient),
    "a code in no table": (answer(failure("E999")), Rejected),
    "E106": (answer(failure("E106")), Throttled),
    "E113": (answer(failure("E113")), Throttled),
}

MATRIX: dict[str, Row] = {
    **{name: Row(script, OutcomeUnknown) for name, script in FAULTS.items()},
    **{name: Row(script, OutcomeUnknown, slow=True) for name, script in SLOW_FAULTS.items()},
    **{name: Row((Read(), Send(sent)), outcome) for name, (sent, outcome) in ANSWERS.items()},
    **{name: Row(script, Accepted) for name, script in GOOD.items()},
}


async def send(client: SkycoreClient) -> Accepted:
    return await client.send_sms(to="15551234888", text="Hello Jerry, Greetings from Marc")


async def outcome(client: SkycoreClient) -> Accepted | SkycoreError:
    try:
        return await send(client)
    except SkycoreError as error:
        return error


@pytest.mark.parametrize("row", MATRIX.values(), ids=MATRIX)
async def test_a_fault_has_one_outcome_and_one_request(open_client: OpenClient, row: Row) -> None:
    """The outcome is the one in the table, in time, and the request goes out once at most."""
    with FaultServer(row.script, ANSWERED) as server:
        timeout = SHORT if row.slow else 5
        async with open_client(server.url, timeout=timeout, **ONE_ATTEMPT) as client:
            began = time.monotonic()
            given = await outcome(client)
            took = time.monotonic() - began
        assert type(given) is row.outcome
        if row.slow:
            assert "no answer" in str(given)
            assert SHORT * 0.9 < took < SHORT + 1
        assert server.hung_up()
        assert server.connections == 1
        assert len(server.requests) == row.script.count(Read())


@contextmanager
def served(*script: Any, secure: bool = False, host: str = "127.0.0.1") -> Iterator[str]:
    with FaultServer(script, host=host) as server:
        yield server.secure_url if secure else server.url
        assert not server.requests


@contextmanager
def unresolvable() -> Iterator[str]:
    yield "http://nonexistent.invalid/"


@contextmanager
def wrongly_named() -> Iterator[str]:
    # The certificate is for localhost and 127.0.0.1, and this is the same loopback.
    with FaultServer((Secure(), Read()), host="127.0.0.2") as server:
        yield server.secure_url.replace("localhost", "127.0.0.2")
        assert server.connections
        assert not server.requests


Place = Callable[[], AbstractContextManager[str]]
BEFORE_THE_REQUEST: dict[str, Place] = {
    "connect refused": refused,
    "connect timeout": unreachable,
    "no such host": unresolvable,
    "no TLS": lambda: served(Send(b"220 smtp.example ESMTP\r\n"), secure=True),
    "TLS handshake closed": lambda: served(secure=True),
    "TLS handshake timeout": lambda: served(Hang(), secure=True),
    "a certificate for another name": wrongly_named,
}


@pytest.mark.parametrize("place", BEFORE_THE_REQUEST.values(), ids=BEFORE_THE_REQUEST)
async def test_without_a_connection_the_message_is_not_sent(
    open_client: OpenClient, place: Place
) -> None:
    """What fails before the request is NotSent, with a cause that has no frames."""
    with place() as url:
        async with open_client(url, timeout=0.5, **ONE_ATTEMPT) as client:
            with pytest.raises(NotSent, match="no connection") as caught:
                await send(client)
    assert type(caught.value) is NotSent
    assert not caught.value.may_have_been_sent
    assert getattr(caught.value.__cause__, "__traceback__", None) is None
    assert caught.value.__context__ is None


async def test_a_trusted_certificate_is_taken(open_client: OpenClient) -> None:
    """TLS works, so that the tests of its failures mean something."""
    with FaultServer((Secure(), *ANSWERED)) as server:
        async with open_client(server.secure_url) as client:
            assert (await send(client)).tracking_id == "SMS_12345"


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("end", [(), (Reset(),)], ids=["FIN", "RST"])
async def test_an_idle_connection_that_ended_costs_no_message(
    open_client: OpenClient, end: Script, method: str
) -> None:
    """An end that came while the connection was idle is seen: the next message takes a new one."""
    with FaultServer((*ANSWERED, *end)) as server:
        async with open_client(server.url, method=method, **ONE_ATTEMPT) as client:
            for _ in range(3):
                await send(client)
                server.hung_up()
        assert (server.connections, len(server.requests)) == (3, 3)


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("end", [(), (Reset(),)], ids=["FIN", "RST"])
async def test_a_connection_that_ends_at_its_second_use_leaves_doubt(
    open_client: OpenClient, end: Script, method: str
) -> None:
    """Where the second request was read, it is in doubt, and no other one is sent for it."""
    with FaultServer((*ANSWERED, Read(), *end), ANSWERED) as server:
        async with open_client(server.url, method=method, **ONE_ATTEMPT) as client:
            await send(client)
            assert type(await outcome(client)) is OutcomeUnknown
            assert len(server.requests) == 2
            await send(client)
        assert (server.connections, len(server.requests)) == (2, 3)


# --- Cancellation: of the exchange, whoever it is that waits for its outcome. ---

STANDSTILLS: dict[str, tuple[Script, Callable[[FaultServer], bool]]] = {
    "connecting": ((), lambda server: True),
    "sent, and nothing answered": ((Read(), Hang()), lambda server: bool(server.requests)),
    "half an answer": (
        (Read(), Send(answer()[:-40]), Hang()),
        lambda server: bool(server.requests),
    ),
}
STANDSTILL_TABLE = pytest.mark.parametrize(
    ("script", "reached"), STANDSTILLS.values(), ids=STANDSTILLS
)


async def reaches(reached: Callable[[FaultServer], bool], server: FaultServer) -> None:
    while not reached(server):  # noqa: ASYNC110 - the server is a thread
        await anyio.sleep(0.001)
    await anyio.sleep(0.02)  # for what was sent to arrive


@contextmanager
def standing(script: Script) -> Iterator[tuple[FaultServer, Request]]:
    """Give a server and a request that comes to stand still, at another one while it connects."""
    scripts = (script, ANSWERED) if script else (ANSWERED,)
    with unreachable() as nowhere, FaultServer(*scripts) as server:
        url = server.url if script else nowhere
        yield server, Request(method="POST", url=url, body=b"xml=")


@STANDSTILL_TABLE
async def test_a_cancelled_exchange_costs_its_connection_and_no_other(
    open_client: OpenClient, script: Script, reached: Callable[[FaultServer], bool]
) -> None:
    """Where a scope is cancelled, the connection is closed, and its place is free again."""
    with standing(script) as (server, request):
        async with open_client(server.url, max_in_flight=1) as client:
            transport = client._sender._transport
            async with anyio.create_task_group() as tasks:

                async def exchange() -> None:
                    await transport.send(request, timeout=60)

                tasks.start_soon(exchange)
                await reaches(reached, server)
                tasks.cancel_scope.cancel()
            await anyio.sleep(0.01)
            assert server.hung_up()
            assert (await send(client)).tracking_id == "SMS_12345"
        assert server.connections == len(server.requests) == script.count(Read()) + 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@STANDSTILL_TABLE
async def test_a_task_cancelled_by_asyncio_itself_costs_no_more(
    open_client: OpenClient, script: Script, reached: Callable[[FaultServer], bool]
) -> None:
    """`Task.cancel()` does what the cancelling of a scope does."""
    with standing(script) as (server, request):
        async with open_client(server.url, max_in_flight=1) as client:
            transport = client._sender._transport
            task = asyncio.ensure_future(transport.send(request, timeout=60))
            await reaches(reached, server)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await anyio.sleep(0.01)
            assert server.hung_up()
            assert (await send(client)).tracking_id == "SMS_12345"
        assert server.connections == len(server.requests) == script.count(Read()) + 1
