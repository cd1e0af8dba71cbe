"""What others' code raises in the middle of the sending costs no outcome and no slot.

Strategy: twenty messages through two slots, so that a slot which is not given back is missed,
with something of the caller's that raises: a logging filter or handler, a hook of telemetry, a
rate limiter, a transport, a source.
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
    """Send all of them one by one, and return what each gave or raised."""
    came: list[Accepted | Exception] = []
    for message in MESSAGES:
        try:
            came.append(await client.send_sms(to=message.to, text=message.text, key=message.key))
        except Exception as error:  # noqa: BLE001 - what it is is looked at
            came.append(error)
    return came


async def send_all(client: SkycoreClient) -> tuple[list[Accepted | Failed], Exception | None]:
    """Send all of them as a bulk, and return the outcomes and what ended it."""
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
async def test_a_log_that_raises_costs_nothing(how: str) -> None:
    """Accepted messages stay accepted, in the ledger and for their callers."""
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


class Ended(BaseException):
    """What ends a program, as KeyboardInterrupt does."""


class Hooks:
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
async def test_a_hook_of_telemetry_that_raises_costs_nothing(at: str) -> None:
    """Each message is sent, once, and is accepted, whatever its trace became of."""
    transport, telemetry = StubTransport(), cast("Telemetry", Hooks(at))
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
async def test_a_hook_whose_future_was_cancelled_costs_nothing(at: str) -> None:
    """Asyncio's CancelledError that telemetry raises by itself is an accident, too."""
    telemetry = cast("Telemetry", Hooks(at, asyncio.CancelledError))
    async with sending(telemetry=telemetry) as (client, ledger):
        assert all(isinstance(each, Accepted) for each in await send_each(client))
        assert await states(ledger) == ALL_ACCEPTED


async def test_an_end_that_comes_in_a_hook_of_telemetry_goes_on() -> None:
    """What ends a program is none of telemetry's, and the slot of its message is free again."""
    hooks = cast("Telemetry", Hooks("here", Ended))
    async with sending(telemetry=hooks) as (client, ledger):
        with pytest.raises(Ended):
            await client.send_sms(to=MESSAGES[0].to, text="Hello")
        assert client._dispatcher.admission.taken == 0
        assert await states(ledger) == {}
    with pytest.raises(Ended), GuardedTelemetry(Hooks("begin", Ended)._inside, what="an SMS"):
        pass


async def test_a_hook_that_raises_hides_no_error_of_the_exchange() -> None:
    """What came of the message is told, and not what its telemetry raised after it."""
    transport = StubTransport(lambda _: OutcomeUnknown("no answer"))
    async with sending(transport, telemetry=Hooks("end")) as (client, ledger):
        for each in await send_each(client):
            assert isinstance(each, OutcomeUnknown)
        assert await states(ledger) == {"in_doubt": COUNT}


# --- The rate limiter ---------------------------------------------------------


class Odd:
    """A limiter that raises in one of its methods, from the `since`-th call of it on."""

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
    """Its caller has the error, nothing was begun, and no slot is lost."""
    transport, limiter = StubTransport(), Odd(at)
    async with sending(transport, rate=limiter) as (client, ledger):
        for each in await send_each(client):
            assert isinstance(each, ZeroDivisionError)
        assert await states(ledger) == {}
        assert not transport.sent
        limiter._at = "nowhere"
        assert all(isinstance(each, Accepted) for each in await send_each(client))


@pytest.mark.parametrize("at", ["start_now", "wait"])
async def test_a_limiter_that_raises_ends_a_bulk(at: str) -> None:
    """What was taken is yielded, as not sent where it was not, and then the error is raised."""
    transport = StubTransport()
    async with sending(transport, rate=Odd(at, since=10)) as (client, ledger):
        outcomes, error = await send_all(client)
        assert isinstance(error, ZeroDivisionError)
        failed = [each for each in outcomes if isinstance(each, Failed)]
        assert failed
        assert {type(each.error) for each in failed} == {NotSent}
        assert len(outcomes) - len(failed) == len(transport.sent) == 9
        assert await states(ledger) == {"accepted": 9}


async def test_an_error_that_looks_like_the_end_of_the_messages_is_none() -> None:
    """Whoever iterates learns that the rest was not sent, and does not take it for the end."""
    async with sending(rate=Odd("wait", since=10, raised=StopAsyncIteration)) as (client, _):
        outcomes, error = await send_all(client)
        assert len(outcomes) < COUNT
        assert isinstance(error, RuntimeError)
        assert isinstance(error.__cause__, StopAsyncIteration)


async def test_what_a_limiter_does_not_let_start_is_not_sent() -> None:
    """A limiter of the caller's may say so by NotSent: it is the outcome, and ends nothing."""

    class Refusing(Odd):
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
async def test_a_limiter_that_raises_between_attempts_changes_no_outcome(
    at: str, raised: type[BaseException]
) -> None:
    """A message that the API refused for pace, or that was not sent, is not in doubt for it."""
    error = Throttled("HTTP 429") if at == "slow_down" else NotSent("no connection")
    transport = StubTransport(lambda _: error)
    limiter = Odd(at, since=1 if at == "slow_down" else 2, raised=raised)
    async with sending(transport, rate=limiter, max_attempts=2) as (client, ledger):
        client._dispatcher._chance = lambda: 0.0
        with pytest.raises(type(error)):
            await client.send_sms(to=MESSAGES[0].to, text="Hello", key="k0")
        assert await states(ledger) == {"not_sent": 1}
        assert client._dispatcher.admission._slots.value == 2


class Last(Odd):
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
def test_the_end_of_the_event_loop_is_no_accident(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that waits to be tried again when the program ends is left as it is."""
    limiter = Last()
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


def test_a_caller_who_outlives_the_tasks_of_the_client_is_told_of_doubt() -> None:
    """What it waits for may be out, where the program cancels all the other tasks there are."""
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


class Careless(StubTransport):
    """A transport that keeps no contract."""

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
async def test_a_transport_without_a_contract_leaves_doubt(
    answer: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The message may be out: it is in doubt, as an outcome, and the log says where that was."""
    async with sending(Careless(answer)) as (client, ledger):
        outcomes, error = await send_all(client)
        assert error is None
        assert len(outcomes) == COUNT
        for each in outcomes:
            assert isinstance(each, Failed)
            assert type(each.error) is OutcomeUnknown
            assert "15550000000" not in f"{each.error} {each.error.__cause__!r}"
        assert await states(ledger) == {"in_doubt": COUNT}
    assert "a transport raised" in caplog.text


async def test_a_closed_transport_leaves_nothing_in_doubt() -> None:
    """It is an error of the program, raised before anything was sent."""
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


class Clumsy(MemoryLedger):
    """A ledger of the caller's own that raises in one of its methods, while it is `broken`."""

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
    """What was not begun is not sent; an outcome is its caller's, and is written later."""
    transport = StubTransport()
    async with (
        Clumsy(at) as ledger,
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


async def test_a_clock_that_raises_costs_no_slot() -> None:
    """Of a rate limit that is given one: nothing is begun, until it shows the time again."""
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


async def test_a_source_that_is_cut_off_does_not_seem_to_have_ended() -> None:
    """Where a worker is cancelled from within, the caller's loop ends with an error."""

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
