"""The fault matrix: the outcome of a message for each thing that the network can do.

Strategy: one table. A row is what happens on the wire and the class of what `send_sms` then
returns or raises; every row holds on asyncio and trio, over every transport. The server is the
judge: it counts the requests that it read whole, and one call of `send_sms`, with the default
attempts, is never more than one of them, unless the first was throttled. What is particular to a
transport is in its own tests.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from skycore_async import (
    Accepted,
    AuthenticationFailed,
    InvalidRecipient,
    NotSent,
    OutcomeUnknown,
    RateLimiter,
    Rejected,
    Request,
    Response,
    SkycoreClient,
    SkycoreError,
    Throttled,
)
from skycore_async.runtime.event_loop import now
from tests import conftest
from tests.support.fault_server import (
    CERTIFICATE,
    FAULTS,
    GOOD,
    SLOW_FAULTS,
    SUCCESS,
    Arrive,
    Drip,
    FaultServer,
    Finish,
    Hang,
    Hold,
    Read,
    Reset,
    Script,
    Secure,
    Send,
    Step,
    Together,
    answer,
    chunked,
    html,
    known_client_context,
    refused,
    unreachable,
)
from tests.support.passing_time import pass_time

if TYPE_CHECKING:
    from tests.conftest import OpenClient

pytestmark = pytest.mark.anyio

TIMEOUT = 5.0  # seconds, which pass at once where waiting for them is the subject
CONNECTING = 0.9 * TIMEOUT  # more than connecting may take, and not all of it
ANSWERED: Script = (Read(), Send(answer()))
KEPT_ALIVE: Script = (*ANSWERED * 20, Hang())
SPEAKS_HTTP_2 = Secure(protocols=("h2", "http/1.1"))
ONE_ATTEMPT = {"max_attempts": 1}
DEFAULT_ATTEMPTS = {
    "max_attempts": inspect.signature(SkycoreClient).parameters["max_attempts"].default
}


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


Run = Callable[[], Coroutine[Any, Any, Any]]


async def send(client: SkycoreClient) -> Accepted:
    return await client.send_sms(to="15551234888", text="Hello Jerry, Greetings from Marc")


async def outcome(client: SkycoreClient) -> Accepted | SkycoreError:
    try:
        return await send(client)
    except SkycoreError as error:
        return error


async def in_time(
    client: SkycoreClient, standing: Callable[[], Awaitable[None]], *, passing: float = TIMEOUT
) -> Accepted | SkycoreError:
    """Return the outcome of a message whose time passes once all is `standing` still."""
    given: list[Accepted | SkycoreError] = []

    async def wait() -> None:
        given.append(await outcome(client))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await standing()
        pass_time(passing)
    return given[0]


@pytest.mark.parametrize("row", MATRIX.values(), ids=MATRIX)
async def test_a_fault_has_one_outcome_and_one_request(open_client: OpenClient, row: Row) -> None:
    """Each fault has the table's outcome, and the request goes out at most once.

    A throttled message has one attempt here; more attempts are tested below.
    """
    attempts = ONE_ATTEMPT if row.outcome is Throttled else DEFAULT_ATTEMPTS
    with FaultServer(row.script, ANSWERED) as server:
        async with open_client(server.url, timeout=TIMEOUT, **attempts) as client:
            began = now()
            standing = partial(until, lambda: server.stands_still)
            given = await (in_time(client, standing) if row.slow else outcome(client))
            took = now() - began
        assert type(given) is row.outcome
        if row.slow:
            assert "no answer" in str(given)
            assert TIMEOUT * 0.9 < took < 2 * TIMEOUT
        assert server.hung_up()
        assert server.connections == 1
        assert len(server.requests) == row.script.count(Read())


class NotingClock:
    """A clock that moves only for sleepers, and notes how many requests came before each."""

    def __init__(self, server: FaultServer) -> None:
        self.now = 100.0
        self.slept: list[tuple[float, int]] = []
        self._server = server

    async def sleep(self, seconds: float) -> None:
        self.slept.append((seconds, len(self._server.requests)))
        await anyio.lowlevel.checkpoint()
        self.now += seconds

    def limiter(self) -> RateLimiter:
        return RateLimiter(None, clock=lambda: self.now, sleep=self.sleep)


# An answer that refuses a message for pace, and the pause that the client then makes.
PACED: dict[str, tuple[bytes, float]] = {
    "429": (html("429 Too Many Requests", Connection="close"), 1),
    "429 with Retry-After": (
        html("429 Too Many Requests", Connection="close", **{"Retry-After": "7"}),
        7,
    ),
    "429 until a date": (
        html(
            "429 Too Many Requests",
            Connection="close",
            Date="Sun, 06 Nov 1994 08:49:37 GMT",
            **{"Retry-After": "Sun, 06 Nov 1994 08:49:40 GMT"},
        ),
        3,
    ),
    "E106": (answer(failure("E106"), headers={"Connection": "close"}), 1),
    "E113": (answer(failure("E113"), headers={"Connection": "close"}), 1),
}


@pytest.mark.parametrize(("refusal", "pause"), PACED.values(), ids=PACED)
async def test_a_throttled_message_goes_out_again_after_the_pause(
    open_client: OpenClient, refusal: bytes, pause: float
) -> None:
    """A throttled message is sent again after the pause that the answer asked for."""
    with FaultServer((Read(), Send(refusal)), ANSWERED) as server:
        clock = NotingClock(server)
        async with open_client(server.url, rate=clock.limiter(), **DEFAULT_ATTEMPTS) as client:
            client._dispatcher._chance = lambda: 0.0
            assert type(await outcome(client)) is Accepted
        assert len(server.requests) == 2
    assert clock.slept == [(pause, 1)]


@pytest.mark.parametrize(("refusal", "pause"), PACED.values(), ids=PACED)
async def test_after_a_throttle_answer_every_message_waits(
    open_client: OpenClient, refusal: bytes, pause: float
) -> None:
    """After a throttle answer no message of the client or its views starts before the pause."""
    with FaultServer((Read(), Send(refusal)), ANSWERED) as server:
        clock = NotingClock(server)
        async with open_client(server.url, rate=clock.limiter(), **ONE_ATTEMPT) as client:
            assert type(await outcome(client)) is Throttled
            assert not clock.slept
            await send(client.with_options(campaign_ref="1"))
        assert len(server.requests) == 2
    assert clock.slept == [(pause, 1)]


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


@attrs.frozen
class Place:
    url: Callable[[], AbstractContextManager[str]]
    slow: bool = False  # it takes the time that the client has for connecting


BEFORE_THE_REQUEST: dict[str, Place] = {
    "connect refused": Place(refused),
    "connect timeout": Place(unreachable, slow=True),
    "no such host": Place(unresolvable),
    "no TLS": Place(lambda: served(Send(b"220 smtp.example ESMTP\r\n"), secure=True)),
    "TLS handshake closed": Place(lambda: served(secure=True)),
    "TLS handshake timeout": Place(lambda: served(Hang(), secure=True), slow=True),
    "a certificate for another name": Place(wrongly_named),
    "a certificate of nobody known": Place(
        lambda: served(Secure(trusted=False), Read(), secure=True)
    ),
}
PLACES = pytest.mark.parametrize("place", BEFORE_THE_REQUEST.values(), ids=BEFORE_THE_REQUEST)


def exchanges_of(client: SkycoreClient, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Return the list of requests whose exchanges begin from now on."""
    begun: list[Request] = []
    transport = client._dispatcher.transport
    send_over_it = transport.send

    async def noted(request: Request, *, timeout: float) -> Response:
        begun.append(request)
        return await send_over_it(request, timeout=timeout)

    monkeypatch.setattr(transport, "send", noted)
    return begun


@PLACES
async def test_without_a_connection_the_message_is_not_sent(
    open_client: OpenClient, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure before the request is NotSent, with a cause without frames."""
    with place.url() as url:
        async with open_client(url, timeout=TIMEOUT, **ONE_ATTEMPT) as client:
            begun = exchanges_of(client, monkeypatch)
            if place.slow:
                given = await in_time(
                    client, partial(until, lambda: bool(begun)), passing=CONNECTING
                )
            else:
                given = await outcome(client)
    assert type(given) is NotSent
    assert str(given).startswith("no connection")
    assert not given.may_have_been_sent
    assert getattr(given.__cause__, "__traceback__", None) is None
    assert given.__context__ is None


async def test_without_a_connection_attempts_are_no_requests(open_client: OpenClient) -> None:
    """A failed connection costs an attempt, and the next attempt sends once."""
    with FaultServer((), (Secure(trusted=False),), (Secure(), *ANSWERED)) as server:
        async with open_client(server.secure_url, **DEFAULT_ATTEMPTS) as client:
            client._dispatcher._chance = lambda: 0.0
            await send(client)
        assert (server.connections, len(server.requests)) == (3, 1)


@pytest.mark.parametrize("shown", [True, False], ids=["shown", "not shown"])
async def test_a_certificate_of_the_clients_is_shown(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch, *, shown: bool
) -> None:
    """A client certificate is shown to a server that demands one; without it there is doubt."""
    if shown:
        monkeypatch.setattr(conftest, "client_context", known_client_context)
    with FaultServer((Secure(demanding=True), *ANSWERED)) as server:
        async with open_client(server.secure_url, **DEFAULT_ATTEMPTS) as client:
            assert type(await outcome(client)) is (Accepted if shown else OutcomeUnknown)
        assert (server.connections, len(server.requests)) == (1, int(shown))


async def test_a_trusted_certificate_is_taken(open_client: OpenClient) -> None:
    """A message goes out over TLS with a trusted certificate."""
    with FaultServer((Secure(), *ANSWERED)) as server:
        async with open_client(server.secure_url) as client:
            assert (await send(client)).tracking_id == "SMS_12345"


async def test_a_tls_context_that_an_http2_client_has_as_well_offers_what_is_spoken(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP/2 that another client sets on a shared TLS context is not offered for messages."""
    context = ssl.create_default_context(cadata=CERTIFICATE)
    monkeypatch.setattr(conftest, "client_context", lambda: context)
    with FaultServer((SPEAKS_HTTP_2, *ANSWERED)) as server:
        async with open_client(server.secure_url) as client:
            context.set_alpn_protocols(["h2", "http/1.1"])
            assert (await send(client)).tracking_id == "SMS_12345"
        assert server.agreed == "http/1.1"


class _TwoClientsContext(ssl.SSLContext):
    """A TLS context on which another client's handshake begins just before each one."""

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        self.set_alpn_protocols(["h2", "http/1.1"])
        return super().wrap_bio(*args, **options)


async def test_a_handshake_that_ends_with_another_protocol_is_not_sent(
    open_reusing_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handshake that agrees on HTTP/2 is NotSent, and the error says what to do."""
    context = _TwoClientsContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=CERTIFICATE)
    monkeypatch.setattr(conftest, "client_context", lambda: context)
    with FaultServer((SPEAKS_HTTP_2, *ANSWERED)) as server:
        async with open_reusing_client(server.secure_url) as client:
            given = await outcome(client)
        assert type(given) is NotSent
        assert "give the transport one of its own" in str(given)
        assert not server.requests


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("end", [(), (Reset(),)], ids=["FIN", "RST"])
async def test_an_idle_connection_that_ended_costs_no_message(
    open_client: OpenClient, end: Script, method: str
) -> None:
    """A message after an idle connection ended goes over a new one."""
    with FaultServer((*ANSWERED, *end)) as server:
        async with open_client(server.url, method=method, **ONE_ATTEMPT) as client:
            for _ in range(3):
                await send(client)
                server.hung_up()
        assert (server.connections, len(server.requests)) == (3, 3)


@pytest.mark.parametrize(
    ("said", "idle", "connections"),
    [
        ("timeout=3, max=100", 1.9, 1),
        ("timeout=3", 2.1, 2),
        ("timeout=1", 0.6, 2),
        ("max=9", 3, 1),
    ],
)
async def test_a_connection_is_not_used_again_just_before_its_server_closes_it(
    open_reusing_client: OpenClient, said: str, idle: float, connections: int
) -> None:
    """A connection is not reused shortly before the end of the server's Keep-Alive."""
    answered = (Read(), Send(answer(headers={"Keep-Alive": said})))
    with FaultServer((*answered * 2, Hang())) as server:
        async with open_reusing_client(server.url) as client:
            await send(client)
            pass_time(idle)
            await send(client)
        assert server.connections == connections


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("end", [(), (Reset(),)], ids=["FIN", "RST"])
async def test_a_connection_that_ends_at_its_second_use_leaves_doubt(
    open_reusing_client: OpenClient, end: Script, method: str
) -> None:
    """A reused connection that ends after the request was read leaves the message in doubt."""
    with FaultServer((*ANSWERED, Read(), *end), ANSWERED) as server:
        async with open_reusing_client(server.url, method=method, **ONE_ATTEMPT) as client:
            await send(client)
            assert type(await outcome(client)) is OutcomeUnknown
            assert len(server.requests) == 2
            await send(client)
        assert (server.connections, len(server.requests)) == (2, 3)


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("end", [(Finish(), Hang()), (Reset(),)], ids=["FIN", "RST"])
async def test_a_connection_that_ends_as_it_is_used_again_leaves_doubt(
    open_reusing_client: OpenClient, end: Script, method: str
) -> None:
    """A reused connection whose end crosses the request leaves the message in doubt."""
    with FaultServer((*ANSWERED, Arrive(), *end), ANSWERED) as server:
        async with open_reusing_client(server.url, method=method, **DEFAULT_ATTEMPTS) as client:
            await send(client)
            assert type(await outcome(client)) is OutcomeUnknown
            assert (server.connections, len(server.requests)) == (1, 1)
            await send(client)
        assert (server.connections, len(server.requests)) == (2, 2)


def tracked(number: int) -> bytes:
    return SUCCESS.replace(b"12345", b"%d" % number)


# What comes with an answer or after it, and what the answer means all the same.
MORE_THAN_AN_ANSWER: dict[str, tuple[Script, type[Accepted | SkycoreError]]] = {
    "a second answer": ((Read(), Send(answer(tracked(1)) + answer(tracked(3)))), Accepted),
    "a second answer, in chunks": (
        (Read(), Send(chunked(tracked(1)) + answer(tracked(3)))),
        Accepted,
    ),
    "a second answer, in a packet of its own": (
        (Read(), Together((answer(tracked(1)), answer(tracked(3))))),
        Accepted,
    ),
    "a second answer, in a TLS record of its own": (
        (Secure(), Read(), Together((answer(tracked(1)), answer(tracked(3))))),
        Accepted,
    ),
    "a second answer, of another status": (
        (Read(), Send(answer(tracked(1)) + answer(tracked(3), status="500 Oops"))),
        Accepted,
    ),
    "half of a second answer": (
        (Read(), Send(answer(tracked(1)) + answer(tracked(3))[:40])),
        Accepted,
    ),
    "100 Continue": (
        (Read(), Send(answer(tracked(1)) + b"HTTP/1.1 100 Continue\r\n\r\n")),
        Accepted,
    ),
    "blank lines": ((Read(), Send(answer(tracked(1)) + b"\r\n\r\n")), Accepted),
    "bytes that are no HTTP": ((Read(), Send(answer(tracked(1)) + b"\0\1more")), Accepted),
    "an answer after one without a body": (
        (Read(), Send(b"HTTP/1.1 204 No Content\r\n\r\n" + answer(tracked(3)))),
        OutcomeUnknown,
    ),
    "the rest of an answer that is longer than it said": (
        (Read(), Send(answer(tracked(1), headers={"Content-Length": "40"}))),
        OutcomeUnknown,
    ),
}


@pytest.mark.parametrize(
    ("first", "expected"), MORE_THAN_AN_ANSWER.values(), ids=MORE_THAN_AN_ANSWER
)
async def test_surplus_bytes_after_an_answer_are_no_part_of_the_next(
    open_client: OpenClient, first: Script, expected: type[Accepted | SkycoreError]
) -> None:
    """Bytes after an answer are not taken for the next message's answer."""
    second = (Read(), Send(answer(tracked(2))), Hang())
    secure = (Secure(),) if Secure() in first else ()
    with FaultServer((*first, *second), (*secure, *second)) as server:
        url = server.secure_url if secure else server.url
        async with open_client(url, **DEFAULT_ATTEMPTS) as client:
            assert type(await outcome(client)) is expected
            assert (await send(client)).tracking_id == "SMS_2"
        assert (server.connections, len(server.requests)) == (2, 2)


# --- Cancellation: of a caller, whose exchange runs on. -----------------------


async def cancel_by_scope(run: Run, when: Callable[[], bool]) -> None:
    """Start `run()` and cancel it by the scope around it, when it is time."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await until(when)
        tasks.cancel_scope.cancel()


async def cancel_natively(run: Run, when: Callable[[], bool]) -> None:
    """Start `run()` and cancel its task, when it is time."""
    task = asyncio.ensure_future(run())
    await until(when)
    task.cancel()
    await asyncio.wait([task])


Cancel = Callable[[Run, Callable[[], bool]], Awaitable[None]]


# trio has cancel scopes alone.
BOTH_CANCELS = pytest.mark.parametrize(
    ("anyio_backend", "cancel"),
    [("asyncio", cancel_by_scope), ("asyncio", cancel_natively), ("trio", cancel_by_scope)],
    ids=["asyncio-scope", "asyncio-native", "trio-scope"],
)


async def until(when: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        await anyio.lowlevel.checkpoint()
        while not when():  # noqa: ASYNC110 - the server is a thread
            await anyio.sleep(0.001)


def held(script: Script) -> Script:
    """Stop the script where the request was read, or else at its start."""
    read = int(script[:1] == (Read(),))
    return (*script[:read], Hold(), *script[read:])


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "skycore_async"]


def name_in_log(outcome: type[Accepted | SkycoreError]) -> str:
    return " accepted as SMS_12345" if outcome is Accepted else f": {outcome.__name__}: "


@pytest.mark.slow
@pytest.mark.unmeasured
@BOTH_CANCELS
@pytest.mark.parametrize("row", MATRIX.values(), ids=MATRIX)
async def test_a_caller_cancelled_at_a_fault_costs_nothing(
    open_client: OpenClient, row: Row, cancel: Cancel, caplog: pytest.LogCaptureFixture
) -> None:
    """A cancelled caller's outcome is logged as in the table, and the next message goes out."""
    caplog.set_level(logging.DEBUG, "skycore_async")
    with FaultServer(held(row.script), ANSWERED) as server:
        async with open_client(
            server.url,
            timeout=TIMEOUT,
            max_in_flight=1,
            rate=NotingClock(server).limiter(),
            **DEFAULT_ATTEMPTS,
        ) as client:
            client._dispatcher._chance = lambda: 0.0
            await cancel(lambda: outcome(client), lambda: server.is_holding)
            assert not logged(caplog)
            server.let_go()
            if row.slow:
                await until(lambda: server.stands_still)
                pass_time(TIMEOUT)
            await until(lambda: bool(logged(caplog)))
            assert await anyio.to_thread.run_sync(server.hung_up)
            assert (await send(client)).tracking_id == "SMS_12345"
        first, second = logged(caplog)
        assert name_in_log(row.outcome) in first
        assert name_in_log(Accepted) in second
        assert server.connections == 2
        assert len(server.requests) == row.script.count(Read()) + 1


@BOTH_CANCELS
@pytest.mark.parametrize("reached", [Arrive(), Read()], ids=["on its way", "read"])
@pytest.mark.parametrize("end", [(Finish(), Hang()), (Reset(),)], ids=["FIN", "RST"])
async def test_a_caller_cancelled_at_the_end_of_a_connection_in_use_again_costs_nothing(
    open_reusing_client: OpenClient,
    end: Script,
    reached: Step,
    cancel: Cancel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A caller cancelled as a reused connection ends leaves a logged doubt, and no resend."""
    caplog.set_level(logging.DEBUG, "skycore_async")
    with FaultServer((*ANSWERED, reached, Hold(), *end), ANSWERED) as server:
        async with open_reusing_client(server.url, max_in_flight=1, **DEFAULT_ATTEMPTS) as client:
            await send(client)
            await cancel(lambda: outcome(client), lambda: server.is_holding)
            assert len(logged(caplog)) == 1
            server.let_go()
            await until(lambda: len(logged(caplog)) > 1)
            await send(client)
        names = [Accepted, OutcomeUnknown, Accepted]
        said = zip(logged(caplog), map(name_in_log, names), strict=True)
        assert all(name in line for line, name in said)
        assert server.connections == 2
        assert len(server.requests) == 2 + isinstance(reached, Read)


@pytest.mark.slow
@BOTH_CANCELS
@PLACES
async def test_a_caller_cancelled_without_a_connection_costs_nothing(
    open_client: OpenClient,
    place: Place,
    cancel: Cancel,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cancelled caller's message without connection is logged as NotSent and not retried."""
    caplog.set_level(logging.DEBUG, "skycore_async")
    with FaultServer(ANSWERED) as server, place.url() as url:
        async with open_client(server.url, max_in_flight=1, **DEFAULT_ATTEMPTS) as client:
            client._dispatcher._chance = lambda: 0.2  # of half a second
            begun = exchanges_of(client, monkeypatch)
            elsewhere = client.with_options(base_url=url, timeout=TIMEOUT)
            await cancel(lambda: outcome(elsewhere), lambda: bool(begun))
            while not logged(caplog):
                await anyio.sleep(0.01)
                if place.slow:
                    pass_time(TIMEOUT)
            await send(client)
        first, second = logged(caplog)
        assert name_in_log(NotSent) + "no connection" in first
        assert name_in_log(Accepted) in second
        assert len(server.requests) == 1


@pytest.mark.slow
@BOTH_CANCELS
async def test_a_throttle_answer_to_a_cancelled_caller_pauses_the_client(
    open_client: OpenClient, cancel: Cancel, caplog: pytest.LogCaptureFixture
) -> None:
    """A throttle answer to a cancelled caller's message pauses the client."""
    caplog.set_level(logging.DEBUG, "skycore_async")
    refusal, pause = PACED["429 with Retry-After"]
    with FaultServer((Read(), Hold(), Send(refusal)), ANSWERED) as server:
        clock = NotingClock(server)
        async with open_client(server.url, rate=clock.limiter(), **DEFAULT_ATTEMPTS) as client:
            client._dispatcher._chance = lambda: 0.0
            await cancel(lambda: send(client), lambda: server.is_holding)
            server.let_go()
            await until(lambda: bool(logged(caplog)))
            await send(client)
        assert len(server.requests) == 2
    assert clock.slept == [(pause, 1)]


# --- Life cycle ---------------------------------------------------------------


async def in_a_task(run: Run) -> None:
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)


async def test_a_client_is_opened_used_and_closed_in_tasks_of_their_own(
    open_client: OpenClient,
) -> None:
    """A client may be opened, used and closed in different tasks, over any transport."""
    with FaultServer(KEPT_ALIVE) as server:
        async with open_client(server.url) as client:
            for step in (client.__aenter__, lambda: send(client), lambda: send(client)):
                await in_a_task(step)
            await in_a_task(client.aclose)
            with pytest.raises(RuntimeError, match="this client is closed"):
                await send(client)
        connections = 2 if open_client is conftest.over_http_client else 1
        assert (server.connections, len(server.requests)) == (connections, 2)


async def test_a_second_event_loop_is_refused_while_the_first_runs(
    open_client: OpenClient, anyio_backend: str
) -> None:
    """A client in use by one event loop raises RuntimeError in another, and sends nothing."""

    async def send_many(client: SkycoreClient) -> None:
        async with client.send_many([]):
            pass

    with FaultServer(KEPT_ALIVE) as server:
        async with open_client(server.url) as client:
            await send(client)
            for use in (send, send_many):
                elsewhere = partial(anyio.run, backend=anyio_backend)
                with pytest.raises(RuntimeError, match="make one for each event loop"):
                    await anyio.to_thread.run_sync(elsewhere, use, client)
            await send(client)
        connections = 2 if open_client is conftest.over_http_client else 1
        assert (server.connections, len(server.requests)) == (connections, 2)


# --- Cancellation: of the exchange itself, whoever waits for its outcome. -----

STANDSTILLS: dict[str, tuple[Script, Callable[[FaultServer], bool]]] = {
    "connecting": ((), lambda server: True),
    "sent, and nothing answered": ((Read(), Hang()), lambda server: bool(server.requests)),
    "half an answer": (
        (Read(), Send(answer()[:-40]), Hang()),
        lambda server: bool(server.requests),
    ),
    "half a status line": (
        (Read(), Send(b"HTTP/1.1 2"), Hang()),
        lambda server: bool(server.requests),
    ),
    "half a chunk": (
        (Read(), Send(chunked(SUCCESS)[:-60]), Hang()),
        lambda server: bool(server.requests),
    ),
    "100 Continue, and no more": (
        (Read(), Send(b"HTTP/1.1 100 Continue\r\n\r\n"), Hang()),
        lambda server: bool(server.requests),
    ),
    "a slow drip": (
        (Read(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"), Drip(b" ")),
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
    """Return a server and a request that stands still, in the exchange or while connecting."""
    scripts = (script, ANSWERED) if script else (ANSWERED,)
    with unreachable() as nowhere, FaultServer(*scripts) as server:
        url = server.url if script else nowhere
        yield server, Request(method="POST", url=url, body=b"xml=")


@pytest.mark.slow
@STANDSTILL_TABLE
async def test_a_cancelled_exchange_costs_its_connection_and_no_other(
    open_client: OpenClient, script: Script, reached: Callable[[FaultServer], bool]
) -> None:
    """An exchange cancelled by a scope closes its connection, and frees its slot."""
    with standing(script) as (server, request):
        async with open_client(server.url, max_in_flight=1) as client:
            transport = client._dispatcher.transport
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
    """An exchange cancelled by `Task.cancel()` closes its connection, and frees its slot."""
    with standing(script) as (server, request):
        async with open_client(server.url, max_in_flight=1) as client:
            transport = client._dispatcher.transport
            task = asyncio.ensure_future(transport.send(request, timeout=60))
            await reaches(reached, server)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await anyio.sleep(0.01)
            assert server.hung_up()
            assert (await send(client)).tracking_id == "SMS_12345"
        assert server.connections == len(server.requests) == script.count(Read()) + 1
