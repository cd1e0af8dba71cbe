"""Code of the caller that raises during a send loses no outcome and no in-flight slot.

Strategy: twenty messages go through two slots, so that a slot that is not released is noticed.
Something of the caller's raises: a logging filter or handler, a telemetry hook, a rate limiter, a
transport, a ledger, a source.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, cast

import anyio
import pytest

from skycore_async import (
    SMS,
    Accepted,
    BulkSend,
    Failed,
    MemoryLedger,
    NotSent,
    OutcomeUnknown,
    RateLimiter,
    Response,
    SkycoreClient,
    Submission,
    Throttled,
)
from skycore_async.runtime.guarded_telemetry import GuardedTelemetry
from skycore_async.telemetry import Telemetry
from tests.support.stub_transport import Answer, StubTransport

pytestmark = pytest.mark.anyio

COUNT = 20
MESSAGES = [SMS(to=str(15550000000 + n), text="Hello", key=f"k{n}") for n in range(COUNT)]
ALL_ACCEPTED = {"accepted": COUNT}


@asynccontextmanager
async def sending(
    transport: StubTransport | None = None, **settings: Any
) -> AsyncIterator[tuple[SkycoreClient, MemoryLedger]]:
    async with (
        MemoryLedger() as ledger,
        SkycoreClient(
            api_key="a key",
            from_="60856",
            transport=transport or StubTransport(),
            ledger=ledger,
            max_in_flight=2,
            timeout=5,
            **settings,
        ) as client,
    ):
        yield client, ledger


async def send_each(client: SkycoreClient) -> list[Accepted | Exception]:
    """Send all messages one by one, and return what each call returned or raised."""
    came: list[Accepted | Exception] = []
    for message in MESSAGES:
        try:
            came.append(await client.send_sms(to=message.to, text=message.text, key=message.key))
        except Exception as error:  # noqa: BLE001 - what it is is looked at
            came.append(error)
    return came


async def send_all(client: SkycoreClient) -> tuple[list[Accepted | Failed], Exception | None]:
    """Send all messages as a bulk, and return the outcomes and the error that ended the bulk."""
    outcomes: list[Accepted | Failed] = []
    try:
        async with client.send_many(MESSAGES) as sent:
            async for outcome in sent:
                outcomes.append(outcome)  # noqa: PERF401 - those before an error are wanted
    except Exception as error:  # noqa: BLE001 - the same
        return outcomes, error
    return outcomes, None


async def states(ledger: MemoryLedger) -> dict[str, int]:
    return dict(Counter([each.state.value async for each in ledger.deliveries()]))


# --- Logging ------------------------------------------------------------------


class BrokenFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise LookupError("no request id")


class BrokenHandler(logging.Handler):
    def handle(self, record: logging.LogRecord) -> bool:
        raise LookupError("no database")


@contextmanager
def broken(how: str) -> Iterator[None]:
    logger = logging.getLogger("skycore_async" if how != "a handler of the root" else None)
    level, on, handler = logger.level, BrokenFilter(), BrokenHandler()
    logger.setLevel(logging.DEBUG)
    if how == "a filter":
        logger.addFilter(on)
    else:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeFilter(on)
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.mark.parametrize("how", ["a filter", "a handler", "a handler of the root"])
async def test_a_logging_filter_or_handler_that_raises_changes_no_outcome(how: str) -> None:
    """Messages stay accepted, for caller and ledger, when a logging filter or handler raises."""
    with broken(how):
        async with sending() as (client, ledger):
            assert all(isinstance(each, Accepted) for each in await send_each(client))
            assert await states(ledger) == ALL_ACCEPTED
        async with sending() as (client, ledger):
            outcomes, error = await send_all(client)
            assert error is None
            assert all(isinstance(each, Accepted) for each in outcomes)
            assert await states(ledger) == ALL_ACCEPTED


# --- Telemetry ----------------------------------------------------------------


class ProgramExit(BaseException):
    """A BaseException that ends a program, as KeyboardInterrupt does."""


class RaisingTelemetry:
    """A telemetry that raises in one of its hooks."""

    def __init__(self, at: str, raised: type[BaseException] = ConnectionError) -> None:
        self._at = at
        self._raised = raised

    def _raise(self, hook: str) -> None:
        if hook == self._at:
            raise self._raised("no collector")

    def here(self) -> None:
        self._raise("here")

    def sending(self, base_url: str, *, parent: object) -> AbstractContextManager[Any]:
        self._raise("sending")
        return self._inside()

    @contextmanager
    def _inside(self) -> Iterator[Any]:
        self._raise("begin")
        try:
            yield self
        finally:
            self._raise("end")

    def ended(self, outcome: object) -> None:
        self._raise("ended")


@pytest.mark.parametrize("at", ["here", "sending", "begin", "ended", "end"])
async def test_a_telemetry_hook_that_raises_changes_no_outcome(at: str) -> None:
    """Each message is sent once and accepted when a telemetry hook raises."""
    transport, telemetry = StubTransport(), cast("Telemetry", RaisingTelemetry(at))
    async with sending(transport, telemetry=telemetry) as (client, ledger):
        assert all(isinstance(each, Accepted) for each in await send_each(client))
        assert await states(ledger) == ALL_ACCEPTED
    assert len(transport.sent) == COUNT
    async with sending(telemetry=telemetry) as (client, ledger):
        outcomes, error = await send_all(client)
        assert (len(outcomes), error) == (COUNT, None)
        assert await states(ledger) == ALL_ACCEPTED


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("at", ["here", "sending", "begin", "ended", "end"])
async def test_a_cancelled_error_from_a_telemetry_hook_changes_no_outcome(at: str) -> None:
    """A CancelledError that a telemetry hook raises by itself changes no outcome."""
    telemetry = cast("Telemetry", RaisingTelemetry(at, asyncio.CancelledError))
    async with sending(telemetry=telemetry) as (client, ledger):
        assert all(isinstance(each, Accepted) for each in await send_each(client))
        assert await states(ledger) == ALL_ACCEPTED


async def test_a_program_exit_in_a_telemetry_hook_is_passed_on() -> None:
    """A BaseException from a telemetry hook reaches the caller, and the slot is freed."""
    hooks = cast("Telemetry", RaisingTelemetry("here", ProgramExit))
    async with sending(telemetry=hooks) as (client, ledger):
        with pytest.raises(ProgramExit):
            await client.send_sms(to=MESSAGES[0].to, text="Hello")
        assert client._dispatcher.admission.taken == 0
        assert await states(ledger) == {}
    with (
        pytest.raises(ProgramExit),
        GuardedTelemetry(RaisingTelemetry("begin", ProgramExit)._inside, what="an SMS"),
    ):
        pass


async def test_a_hook_that_raises_hides_no_error_of_the_exchange() -> None:
    """The caller gets the exchange's error, not the one that a telemetry hook raised after it."""
    transport = StubTransport(lambda _: OutcomeUnknown("no answer"))
    async with sending(transport, telemetry=RaisingTelemetry("end")) as (client, ledger):
        for each in await send_each(client):
            assert isinstance(each, OutcomeUnknown)
        assert await states(ledger) == {"in_doubt": COUNT}


# --- The rate limiter ---------------------------------------------------------


class RaisingLimiter:
    """A limiter that raises in the method `at`, from the `since`-th call on."""

    def __init__(
        self, at: str, *, since: int = 1, raised: type[BaseException] = ZeroDivisionError
    ) -> None:
        self._at = at
        self._left = since
        self._raised = raised

    def _raise(self, method: str) -> None:
        if method == self._at:
            self._left -= 1
            if self._left <= 0:
                raise self._raised

    def start_now(self) -> float | None:
        self._raise("start_now")
        return None if self._at == "wait" else 1.0

    async def wait(self) -> float:
        await anyio.lowlevel.checkpoint()
        self._raise("wait")
        return 1.0

    def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
        self._raise("slow_down")


@pytest.mark.parametrize("at", ["start_now", "wait"])
async def test_a_limiter_that_raises_leaves_nothing_in_doubt(at: str) -> None:
    """A limiter's error reaches the caller, no message begins, and no slot is lost."""
    transport, limiter = StubTransport(), RaisingLimiter(at)
    async with sending(transport, rate=limiter) as (client, ledger):
        for each in await send_each(client):
            assert isinstance(each, ZeroDivisionError)
        assert await states(ledger) == {}
        assert not transport.sent
        limiter._at = "nowhere"
        assert all(isinstance(each, Accepted) for each in await send_each(client))


@pytest.mark.parametrize("at", ["start_now", "wait"])
async def test_a_limiter_that_raises_ends_a_bulk(at: str) -> None:
    """A bulk yields an outcome for each message it read, and then raises the limiter's error."""
    transport = StubTransport()
    async with sending(transport, rate=RaisingLimiter(at, since=10)) as (client, ledger):
        outcomes, error = await send_all(client)
        assert isinstance(error, ZeroDivisionError)
        failed = [each for each in outcomes if isinstance(each, Failed)]
        assert failed
        assert {type(each.error) for each in failed} == {NotSent}
        assert len(outcomes) - len(failed) == len(transport.sent) == 9
        assert await states(ledger) == {"accepted": 9}


async def test_a_stop_async_iteration_from_a_limiter_does_not_end_a_bulk_silently() -> None:
    """A StopAsyncIteration from a limiter ends a bulk with a RuntimeError, not silently."""
    async with sending(rate=RaisingLimiter("wait", since=10, raised=StopAsyncIteration)) as (
        client,
        _,
    ):
        outcomes, error = await send_all(client)
        assert len(outcomes) < COUNT
        assert isinstance(error, RuntimeError)
        assert isinstance(error.__cause__, StopAsyncIteration)


async def test_a_not_sent_from_a_limiter_is_the_outcome_of_the_message() -> None:
    """A NotSent that a caller's limiter raises is the message's outcome, and the bulk goes on."""

    class Refusing(RaisingLimiter):
        def start_now(self) -> float | None:
            raise NotSent("not on a Sunday")

    async with sending(rate=Refusing("nowhere")) as (client, ledger):
        outcomes, error = await send_all(client)
        assert (len(outcomes), error) == (COUNT, None)
        assert {str(each.error) for each in outcomes if isinstance(each, Failed)} == {
            "not on a Sunday"
        }
        assert await states(ledger) == {}


@pytest.mark.parametrize("raised", [ZeroDivisionError, asyncio.CancelledError])
@pytest.mark.parametrize("at", ["start_now", "wait", "slow_down"])
async def test_a_limiter_that_raises_between_tries_changes_no_outcome(
    at: str, raised: type[BaseException]
) -> None:
    """A throttled or unsent message stays not sent when the limiter raises before its next try."""
    error = Throttled("HTTP 429") if at == "slow_down" else NotSent("no connection")
    transport = StubTransport(lambda _: error)
    limiter = RaisingLimiter(at, since=1 if at == "slow_down" else 2, raised=raised)
    async with sending(transport, rate=limiter, max_attempts=2) as (client, ledger):
        client._dispatcher._chance = lambda: 0.0
        with pytest.raises(type(error)):
            await client.send_sms(to=MESSAGES[0].to, text="Hello", key="k0")
        assert await states(ledger) == {"not_sent": 1}
        assert client._dispatcher.admission._slots.value == 2


class OneStartLimiter(RaisingLimiter):
    """A limiter that lets one message start, and no other."""

    def __init__(self) -> None:
        super().__init__("nowhere")
        self.starts = [1.0]
        self.is_asked = anyio.Event()

    def start_now(self) -> float | None:
        return self.starts.pop() if self.starts else None

    async def wait(self) -> float:
        self.is_asked.set()
        await anyio.sleep_forever()
        raise AssertionError


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_wait_for_the_next_try_logs_no_error(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A program cancelled while a message waits for its next try closes without a logged error."""
    limiter = OneStartLimiter()
    transport = StubTransport(lambda _: NotSent("no connection"))
    client = SkycoreClient(
        api_key="a key", from_="60856", transport=transport, rate=limiter, timeout=60
    )
    client._dispatcher._chance = lambda: 0.0

    async def program() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.send_sms(to=MESSAGES[0].to, text="Hello"))
            await limiter.is_asked.wait()
            group.cancel_scope.cancel()

    anyio.run(program, backend=backend)
    assert transport.closed
    assert "raised" not in caplog.text


def test_a_caller_whose_sending_task_is_cancelled_gets_outcome_unknown() -> None:
    """A caller gets OutcomeUnknown when the program cancels the client's sending task."""
    transport = StubTransport()

    async def program() -> None:
        transport.held = anyio.Event()
        client = SkycoreClient(api_key="a key", from_="60856", transport=transport)
        sending = asyncio.ensure_future(client.send_sms(to=MESSAGES[0].to, text="Hello"))
        await anyio.wait_all_tasks_blocked()
        for task in asyncio.all_tasks() - {asyncio.current_task(), sending}:
            task.cancel()
        with pytest.raises(OutcomeUnknown, match="broken off"):
            await sending

    asyncio.run(program())
    assert transport.sent


# --- The transport ------------------------------------------------------------


class BrokenTransport(StubTransport):
    """A transport that breaks the Transport protocol."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        super().__init__()
        self._careless = answer

    async def send(self, *given: Any, **named: Any) -> Response:
        await super().send(*given, **named)
        return cast("Response", self._careless())


def accident() -> Answer:
    raise ValueError("to=15550000000")


def cancellation() -> Answer:
    raise asyncio.CancelledError


CARELESS: dict[str, Callable[[], Any]] = {
    "it raises": accident,
    "what it waits for is cancelled": cancellation,
    "it returns nothing": lambda: None,
    "it returns text": lambda: Response(status=200, headers={}, body=cast("bytes", "<RESPONSE/>")),
}


@pytest.mark.parametrize("answer", CARELESS.values(), ids=CARELESS)
async def test_a_transport_that_breaks_its_protocol_leaves_the_message_in_doubt(
    answer: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A transport that raises or returns nonsense leaves its message in doubt and is logged."""
    async with sending(BrokenTransport(answer)) as (client, ledger):
        outcomes, error = await send_all(client)
        assert error is None
        assert len(outcomes) == COUNT
        for each in outcomes:
            assert isinstance(each, Failed)
            assert type(each.error) is OutcomeUnknown
            assert "15550000000" not in f"{each.error} {each.error.__cause__!r}"
        assert await states(ledger) == {"in_doubt": COUNT}
    assert "a transport raised" in caplog.text


async def test_a_closed_http_client_leaves_nothing_in_doubt() -> None:
    """Sending over a closed `http_client` raises RuntimeError, and the message is not sent."""
    import httpx

    http_client = httpx.AsyncClient(trust_env=False)
    await http_client.aclose()
    async with (
        MemoryLedger() as ledger,
        SkycoreClient(
            api_key="a key", from_="60856", http_client=http_client, ledger=ledger, max_in_flight=2
        ) as client,
    ):
        for each in await send_each(client):
            assert isinstance(each, RuntimeError)
        assert await states(ledger) == {"not_sent": COUNT}


# --- The ledger ---------------------------------------------------------------


class RaisingLedger(MemoryLedger):
    """A caller's own ledger that raises in one of its methods while `broken` is true."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self._at = at
        self.broken = True

    def _raise(self, method: str) -> None:
        if self.broken and method == self._at:
            raise ZeroDivisionError("to=15550000000")

    async def lookup(self, *given: Any, **named: Any) -> Submission | None:
        self._raise("lookup")
        return await super().lookup(*given, **named)

    async def begin(self, *given: Any, **named: Any) -> Submission | None:
        self._raise("begin")
        return await super().begin(*given, **named)

    async def finish(self, *given: Any, **named: Any) -> None:
        self._raise("finish")
        await super().finish(*given, **named)


@pytest.mark.parametrize("at", ["lookup", "begin", "finish"])
async def test_a_ledger_that_raises_costs_no_outcome_and_no_slot(
    at: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A ledger's error stops messages before they begin, and an outcome is recorded later."""
    transport = StubTransport()
    async with (
        RaisingLedger(at) as ledger,
        SkycoreClient(
            api_key="a key",
            from_="60856",
            transport=transport,
            ledger=ledger,
            max_in_flight=2,
            rate=10_000,
        ) as client,
    ):
        came = await send_each(client)
        if at == "finish":
            assert isinstance(came[0], Accepted)
            assert "was not recorded: ZeroDivisionError" in caplog.text
        else:
            assert {type(each) for each in came} == {ZeroDivisionError}
            assert not transport.sent
        assert client._dispatcher.admission._slots.value == 2
        ledger.broken = False
        assert all(isinstance(each, Accepted) for each in await send_each(client))
        assert await states(ledger) == ALL_ACCEPTED
        assert len(transport.sent) == COUNT


async def test_a_rate_limit_whose_clock_raises_keeps_no_slot() -> None:
    """No message begins while the rate limit's clock raises; all are sent once it works."""
    works: list[bool] = []

    def clock() -> float:
        if not works:
            raise OSError("no time")
        return time.monotonic()

    async with sending(rate=RateLimiter(10_000, clock=clock)) as (client, ledger):
        for each in await send_each(client):
            assert isinstance(each, OSError)
        assert await states(ledger) == {}
        works.append(True)
        assert all(isinstance(each, Accepted) for each in await send_each(client))


# --- The source ---------------------------------------------------------------


async def read(outcomes: BulkSend) -> None:
    async with outcomes:
        async for _ in outcomes:
            pass


async def test_a_source_that_raises_cancelled_error_ends_the_bulk_with_an_error() -> None:
    """A source that raises CancelledError ends the bulk with RuntimeError, not silently."""

    def source() -> Iterator[SMS]:
        yield from MESSAGES[:5]
        raise cancelled

    cancelled = anyio.get_cancelled_exc_class()
    if "trio" in cancelled.__module__:
        pytest.skip("trio makes none for others to raise")
    async with sending() as (client, ledger):
        with pytest.raises(RuntimeError, match="broken off"):
            await read(client.send_many(source()))
        assert await states(ledger) == {"accepted": 5}
