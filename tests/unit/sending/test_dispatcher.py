"""The path of one message: tries, pace, cancellation, and the end of the client."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import attrs
import pytest

from skycore_async import (
    SMS,
    Accepted,
    Failed,
    NotSent,
    Outcome,
    OutcomeUnknown,
    Rejected,
    SkycoreClient,
    SkycoreError,
    Throttled,
)
from skycore_async.limits.local import RateLimiter
from skycore_async.runtime.secret import Secret
from skycore_async.sending.dispatcher import Dispatcher
from skycore_async.sending.retry import FIRST_PAUSE
from skycore_async.sending.settings import Settings
from tests.support.measuring import measured
from tests.support.passing_time import pass_time
from tests.support.stub_transport import Answer, StubTransport, accepted, refused

pytestmark = pytest.mark.anyio

MESSAGE = SMS(to="15551234888", text="Hello")
SETTINGS = Settings(
    api_key=Secret("a key"),
    from_="60856",
    campaign_ref=None,
    enforce_campaign_check=False,
    base_url="http://127.0.0.1/",
    timeout=30,
    max_attempts=3,
    max_segments=None,
    number_reader=None,
    method="POST",
)


class FreeLimiter:
    """A caller's own limiter that lets everything start and records each call of `slow_down`."""

    def __init__(self) -> None:
        self.starts = 0
        self.heard: list[float | None] = []

    def start_now(self) -> float | None:
        self.starts += 1
        return float(self.starts)

    async def wait(self) -> float:
        raise AssertionError("nothing has to wait here")

    def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
        assert started == self.starts
        self.heard.append(retry_after)


def answers(*given: Answer) -> Callable[[str], Answer]:
    """Return a function that returns these answers, one after the other."""
    left = list(given)
    return lambda _to: left.pop(0)


async def send(
    transport: StubTransport, limiter: FreeLimiter | None = None, settings: Settings = SETTINGS
) -> Outcome:
    sender = Dispatcher(transport, limiter or FreeLimiter(), chance=lambda: 0.0)
    outcome = await sender.send(MESSAGE, settings)
    await sender.tasks.close()
    return outcome


@pytest.mark.parametrize("failure", [NotSent("no connection"), refused("E106"), refused("E113")])
async def test_a_message_not_sent_is_tried_again(failure: Answer) -> None:
    """A message that was not sent, or was throttled, is tried again until it is accepted."""
    transport = StubTransport(answers(failure, failure, accepted(MESSAGE.to)))
    assert isinstance(await send(transport), Accepted)
    assert len(transport.sent) == 3


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (OutcomeUnknown("no answer"), OutcomeUnknown),
        (refused("E503"), OutcomeUnknown),
        (b"<html/>", OutcomeUnknown),
        (refused("E110"), Rejected),
        (refused("E713"), Rejected),
        (refused("E999"), Rejected),
    ],
)
async def test_a_rejected_or_in_doubt_message_is_not_tried_again(
    failure: Answer, error: type[SkycoreError]
) -> None:
    """A message that the API rejected, or that may have been sent, is submitted once."""
    transport = StubTransport(answers(failure))
    outcome = await send(transport)
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, error)
    assert len(transport.sent) == 1


async def test_tries_are_bounded() -> None:
    """After `max_attempts` tries the last failure is the outcome."""
    transport = StubTransport(lambda _to: NotSent("no connection"))
    outcome = await send(transport)
    assert isinstance(outcome, Failed)
    assert type(outcome.error) is NotSent
    assert len(transport.sent) == 3


async def test_each_try_asks_for_a_start_and_throttling_is_passed_on() -> None:
    """Each try asks the limiter for a start, and the limiter learns of each throttled one."""
    throttled = Throttled("HTTP 429", retry_after=7)
    transport = StubTransport(answers(throttled, refused("E113"), accepted(MESSAGE.to)))
    limiter = FreeLimiter()
    assert isinstance(await send(transport, limiter), Accepted)
    assert limiter.starts == 3
    assert limiter.heard == [7, None]


async def test_no_try_begins_beyond_the_timeout() -> None:
    """A message whose next pause would outlast the timeout is not tried again."""
    transport = StubTransport(lambda _to: NotSent("no connection"))
    sender = Dispatcher(transport, FreeLimiter(), chance=lambda: 1000.0)
    outcome = await sender.send(MESSAGE, SETTINGS)
    await sender.tasks.close()
    assert isinstance(outcome, Failed)
    assert len(transport.sent) == 1


async def test_no_try_begins_without_time_for_its_answer() -> None:
    """A message is not tried again when too little of the timeout is left for an answer."""
    transport = StubTransport(lambda _to: NotSent("no connection"))
    almost_all = 0.99 * SETTINGS.timeout / FIRST_PAUSE
    sender = Dispatcher(transport, FreeLimiter(), chance=lambda: almost_all)
    outcome = await sender.send(MESSAGE, SETTINGS)
    await sender.tasks.close()
    assert isinstance(outcome, Failed)
    assert outcome.error.args == ("no connection",)
    assert len(transport.sent) == 1


async def test_a_message_that_may_start_in_the_last_moment_is_not_sent() -> None:
    """A message that the limiter lets start just before the timeout is not sent."""

    class LateLimiter(FreeLimiter):
        def start_now(self) -> float | None:
            return None

        async def wait(self) -> float:
            pass_time(0.99 * SETTINGS.timeout)
            return 1.0

    transport = StubTransport()
    outcome = await send(transport, LateLimiter())
    assert isinstance(outcome, Failed)
    assert type(outcome.error) is NotSent
    assert not transport.sent


async def test_a_message_that_cannot_start_in_time_is_not_sent() -> None:
    """A message that the rate does not let start within the timeout is NotSent."""
    transport = StubTransport()
    client = SkycoreClient(
        api_key="a key", from_="60856", transport=transport, rate=0.001, timeout=0.05
    )
    async with client:
        await client.send_sms(to="15551234888", text="Hello")
        with pytest.raises(NotSent, match=r"it could not start within 0\.05 seconds"):
            await client.send_sms(to="15551234888", text="Hello")
    assert len(transport.sent) == 1


async def test_a_message_is_sent_once_it_may_start() -> None:
    """A message that has to wait for the limiter is sent once the limiter lets it start."""

    class BusyLimiter(FreeLimiter):
        def start_now(self) -> float | None:
            return None

        async def wait(self) -> float:
            return 1.0

    transport = StubTransport()
    assert isinstance(await send(transport, BusyLimiter()), Accepted)
    assert len(transport.sent) == 1


@pytest.mark.slow
async def test_a_next_try_that_cannot_start_ends_with_the_last_failure() -> None:
    """A message whose next try cannot start in time ends with the failure of the try before."""

    class OneStart(FreeLimiter):
        def start_now(self) -> float | None:
            return None if self.starts else super().start_now()

        async def wait(self) -> float:
            await anyio.sleep_forever()
            raise AssertionError

    throttled = Throttled("HTTP 429", retry_after=3600)
    transport = StubTransport(lambda _to: throttled)
    settings = attrs.evolve(SETTINGS, timeout=0.3)
    outcome = await send(transport, OneStart(), settings)
    assert outcome == Failed(message=MESSAGE, error=throttled)
    assert len(transport.sent) == 1


async def test_a_throttle_answer_pauses_the_whole_client() -> None:
    """After E113 no other message of the client starts before the pause is over."""
    transport = StubTransport(answers(refused("E113"), accepted("15551234888")))
    now = 100.0
    limiter = RateLimiter(None, clock=lambda: now)
    client = SkycoreClient(
        api_key="a key", from_="60856", transport=transport, rate=limiter, timeout=0.05
    )
    async with client:
        with pytest.raises(Throttled):
            await client.with_options(max_attempts=1).send_sms(to="15551234888", text="Hello")
        with pytest.raises(NotSent, match="could not start"):
            await client.send_sms(to="15551234888", text="Hello")
        now += 60
        await client.send_sms(to="15551234888", text="Hello")
    assert len(transport.sent) == 2


async def test_a_cancelled_caller_breaks_off_no_exchange(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The exchange of a cancelled caller runs to its end, and the log has its outcome."""
    caplog.set_level(logging.DEBUG, "skycore_async")
    transport = StubTransport()
    transport.held = anyio.Event()
    async with SkycoreClient(api_key="a key", from_="60856", transport=transport) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.send_sms(to="15551234888", text="Hello"))
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        assert transport.under_way == 1
        transport.held.set()
    assert transport.under_way == 0
    assert "SMS to *******4888 accepted as SMS_15551234888" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_natively_cancelled_caller_breaks_off_no_exchange(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The exchange of a caller cancelled by `Task.cancel()` runs to its end."""
    caplog.set_level(logging.DEBUG, "skycore_async")
    transport = StubTransport()
    transport.held = anyio.Event()
    async with SkycoreClient(api_key="a key", from_="60856", transport=transport) as client:
        sending = asyncio.create_task(client.send_sms(to="15551234888", text="Hello"))
        await anyio.wait_all_tasks_blocked()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert transport.under_way == 1
        transport.held.set()
    assert "accepted as SMS_15551234888" in caplog.text


async def test_a_caller_cancelled_while_waiting_for_the_rate_sends_nothing() -> None:
    """A caller cancelled while waiting for the rate sends nothing."""
    transport = StubTransport()
    client = SkycoreClient(api_key="a key", from_="60856", transport=transport, rate=0.001)
    async with client:
        await client.send_sms(to="15551234888", text="Hello")
        with anyio.move_on_after(0.01):
            await client.send_sms(to="15551234888", text="Hello")
    assert len(transport.sent) == 1


async def test_a_caller_cancelled_between_two_tries_has_no_further_try() -> None:
    """A caller cancelled while the next try waits to start has no further try."""
    may_start = anyio.Event()

    class Later(FreeLimiter):
        def start_now(self) -> float | None:
            return None if self.starts else super().start_now()

        async def wait(self) -> float:
            await may_start.wait()
            return 2.0

    transport = StubTransport(lambda _to: NotSent("no connection"))
    sender = Dispatcher(transport, Later(), chance=lambda: 0.0)
    async with anyio.create_task_group() as group:
        group.start_soon(sender.send, MESSAGE, SETTINGS)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    may_start.set()
    await sender.tasks.close()
    assert len(transport.sent) == 1


async def test_closing_waits_for_what_is_in_flight() -> None:
    """Closing the client waits for the last exchange, and closes the transport once after it."""
    transport = StubTransport()
    transport.held = anyio.Event()
    client = SkycoreClient(api_key="a key", from_="60856", transport=transport)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: client.send_sms(to="15551234888", text="Hello"))
        await anyio.wait_all_tasks_blocked()
        group.start_soon(client.aclose)
        await anyio.wait_all_tasks_blocked()
        assert (transport.under_way, transport.closed) == (1, 0)
        transport.held.set()
    assert (transport.under_way, transport.closed) == (0, 1)
    with pytest.raises(RuntimeError, match="this client is closed"):
        await client.send_sms(to="15551234888", text="Hello")


async def test_closing_ends_the_tries() -> None:
    """A message between two tries ends with its last failure when the client closes."""
    transport = StubTransport(lambda _to: NotSent("no connection"))
    sender = Dispatcher(transport, FreeLimiter(), chance=lambda: 0.2)
    outcomes: list[Outcome] = []

    async def run() -> None:
        outcomes.append(await sender.send(MESSAGE, SETTINGS))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        while not transport.sent:
            await anyio.lowlevel.checkpoint()
        await sender.tasks.close()
    (outcome,) = outcomes
    assert isinstance(outcome, Failed)
    assert len(transport.sent) == 1


def test_a_client_of_an_ended_event_loop_says_so() -> None:
    """Sending in a second event loop raises RuntimeError that says to make one client per loop."""
    client = SkycoreClient(api_key="a key", from_="60856", transport=StubTransport())

    async def send_one() -> None:
        await client.send_sms(to="15551234888", text="Hello")

    anyio.run(send_one)
    with pytest.raises(RuntimeError, match="make one for each event loop"):
        anyio.run(send_one)


NEVER_CLOSED = """
import anyio
from skycore_async import SkycoreClient
from tests.support.stub_transport import StubTransport

async def main():
    client = SkycoreClient(api_key="a key", from_="60856", transport=StubTransport())
    await client.send_sms(to="15551234888", text="Hello")
    if {held}:
        client._dispatcher.transport.held = anyio.Event()
        with anyio.move_on_after(0.05):
            await client.send_sms(to="15551234888", text="Hello")

anyio.run(main, backend={backend!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize("held", [False, True], ids=["idle", "in flight"])
async def test_a_program_that_closes_nothing_still_ends(
    anyio_backend_name: str, *, held: bool
) -> None:
    """A program that never closes its client exits, and logs the exchange that was broken off."""
    done = subprocess.run(  # noqa: ASYNC221, S603 - a program of its own is what is tested
        [
            sys.executable,
            "-X",
            "dev",
            "-c",
            "import logging; logging.basicConfig()\n"
            + NEVER_CLOSED.format(held=held, backend=anyio_backend_name),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=Path(__file__).parents[3],
        env=measured(),
    )
    assert done.returncode == 0, done.stderr
    assert ("the exchange was broken off" in done.stderr) is held
    assert "Task was destroyed" not in done.stderr


async def test_a_client_that_is_forgotten_open_says_so() -> None:
    """A client that has sent and was never closed gives a ResourceWarning when it is deleted."""
    clients = [SkycoreClient(api_key="a key", from_="60856", transport=StubTransport())]
    await clients[0].send_sms(to="15551234888", text="Hello")
    tasks = clients[0]._dispatcher.tasks
    with pytest.warns(ResourceWarning, match="was never closed"):
        clients.clear()
    await tasks.close()


async def test_a_retry_after_is_limited_to_an_hour() -> None:
    """The limiter gets a pause of an hour at most, however long the Retry-After header is."""
    limiter = FreeLimiter()
    throttled = Throttled("HTTP 429", retry_after=999_999_999.0)
    outcome = await send(StubTransport(lambda _to: throttled), limiter)
    assert isinstance(outcome, Failed)
    assert limiter.heard[0] == 3600


async def test_a_caller_cancelled_while_waiting_for_a_slot_has_sent_nothing() -> None:
    """Callers cancelled while waiting for a slot send nothing, and lose no slot."""
    transport = StubTransport()
    transport.held = anyio.Event()
    sender = Dispatcher(transport, FreeLimiter(), slots=1)
    async with anyio.create_task_group() as group:
        group.start_soon(sender.send, MESSAGE, SETTINGS)
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as queued:
            for _ in range(20):
                queued.start_soon(sender.send, MESSAGE, SETTINGS)
            await anyio.wait_all_tasks_blocked()
            queued.cancel_scope.cancel()
        transport.held.set()
    assert isinstance(await sender.send(MESSAGE, SETTINGS), Accepted)
    await sender.tasks.close()
    assert len(transport.sent) == 2


async def test_a_message_that_waits_while_the_client_is_closed_is_not_sent() -> None:
    """Messages that wait for a slot when the client closes are refused, and not sent."""
    transport = StubTransport()
    transport.held = anyio.Event()
    sender = Dispatcher(transport, FreeLimiter(), slots=1)
    refused: list[str] = []

    async def late() -> None:
        try:
            await sender.send(MESSAGE, SETTINGS)
        except RuntimeError as error:
            refused.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(sender.send, MESSAGE, SETTINGS)
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            group.start_soon(late)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(sender.tasks.close)
        await anyio.wait_all_tasks_blocked()
        transport.held.set()
    assert refused == ["this client is closed"] * 3
    assert len(transport.sent) == 1
