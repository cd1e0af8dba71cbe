"""Sending many: bounded look-ahead, outcomes as they complete, and nothing lost."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
)
from contextlib import aclosing, suppress

import anyio
import attrs
import pytest

from skycore_async import (
    SMS,
    Accepted,
    BillingProblem,
    Failed,
    InvalidCampaign,
    InvalidMessage,
    InvalidRecipient,
    InvalidRequest,
    InvalidSender,
    NotSent,
    Outcome,
    OutcomeUnknown,
    RateLimiter,
    Rejected,
    Request,
    Response,
    SendingHalted,
    SkycoreClient,
)
from skycore_async.sending.bulk import BulkSend
from tests.support.stub_transport import Answer, StubTransport, accepted, refused

pytestmark = pytest.mark.anyio


MakeSource = Callable[[int], Iterable[SMS] | AsyncIterable[SMS]]


def numbers(count: int) -> list[str]:
    return [message.to for message in messages(count)]


def messages(count: int) -> Iterator[SMS]:
    return (SMS(to=str(15550000000 + index), text="Hello") for index in range(count))


async def messages_async(count: int) -> AsyncIterator[SMS]:
    for message in messages(count):
        await anyio.lowlevel.checkpoint()
        yield message


def client(transport: StubTransport, *, in_flight: int = 4) -> SkycoreClient:
    return SkycoreClient(
        api_key="a key", from_="60856", transport=transport, max_in_flight=in_flight
    )


def begun(outcomes: list[Outcome]) -> list[str]:
    """Return the numbers sent to, and check that every other message ended before it started."""
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            assert "ended before it started" in str(outcome.error)
    return sorted(each.message.to for each in outcomes if isinstance(each, Accepted))


async def read(outcomes: BulkSend, *, into: list[Outcome]) -> None:
    async for outcome in outcomes:
        into.append(outcome)  # noqa: PERF401 - those before an error are wanted


@pytest.mark.parametrize("source", [messages, messages_async], ids=["iterable", "async iterable"])
@pytest.mark.parametrize("count", [0, 1, 100])
async def test_every_message_has_one_outcome(source: MakeSource, count: int) -> None:
    """Each message of an iterable or async iterable is sent once and has one outcome."""
    transport = StubTransport()
    async with client(transport) as skycore, skycore.send_many(source(count)) as outcomes:
        taken = [outcome async for outcome in outcomes]
    assert sorted(transport.sent) == numbers(count)
    assert all(isinstance(outcome, Accepted) for outcome in taken)
    assert sorted(outcome.message.to for outcome in taken) == numbers(count)


async def test_a_bad_message_stops_nothing() -> None:
    """An invalid, rejected or in-doubt message is an outcome, and the bulk goes on."""
    bad: dict[str, Answer] = {
        "15550000001": refused("E110"),
        "15550000002": OutcomeUnknown("no answer"),
    }
    transport = StubTransport(lambda to: bad.get(to) or accepted(to))
    source = [SMS(to="nobody", text="Hello"), *messages(10)]
    async with client(transport) as skycore, skycore.send_many(source) as outcomes:
        failed = {o.message.to: o.error async for o in outcomes if isinstance(o, Failed)}
    assert {to: type(error) for to, error in failed.items()} == {
        "nobody": InvalidMessage,
        "15550000001": InvalidRecipient,
        "15550000002": OutcomeUnknown,
    }


async def test_no_more_than_max_in_flight_are_under_way() -> None:
    """A bulk has at most `max_in_flight` messages under way, and reaches that number."""
    transport = StubTransport()
    skycore = client(transport, in_flight=7)
    async with skycore, skycore.send_many(messages(100)) as outcomes:
        assert len([outcome async for outcome in outcomes]) == 100
    assert transport.most == 7


@pytest.mark.parametrize("source", [messages, messages_async], ids=["iterable", "async iterable"])
async def test_the_source_is_read_only_as_outcomes_are(source: MakeSource) -> None:
    """A bulk reads its source no further while the caller reads no outcomes."""
    transport = StubTransport()
    skycore = client(transport, in_flight=4)
    async with skycore, skycore.send_many(source(10_000_000)) as outcomes:
        await anyio.wait_all_tasks_blocked()
        assert len(transport.sent) == 8
        await anext(outcomes)
        await anyio.wait_all_tasks_blocked()
        assert len(transport.sent) == 9


async def test_the_account_refused_halts_the_sending() -> None:
    """A refused account halts the bulk with SendingHalted, after the outcomes in flight."""
    transport = StubTransport(lambda to: refused("E713") if to.endswith("5") else accepted(to))
    taken: list[Outcome] = []
    async with client(transport) as skycore, skycore.send_many(messages(1000)) as outcomes:
        with pytest.raises(SendingHalted) as halted:
            await read(outcomes, into=taken)
    assert isinstance(halted.value.__cause__, BillingProblem)
    assert len(taken) == len(transport.sent) < 20
    assert sorted(outcome.message.to for outcome in taken) == sorted(transport.sent)


async def test_a_request_that_is_not_understood_halts_the_sending() -> None:
    """A request that the API refuses as malformed (E108) halts the bulk."""
    transport = StubTransport(lambda _: refused("E108"))
    taken: list[Outcome] = []
    async with client(transport) as skycore, skycore.send_many(messages(1000)) as outcomes:
        with pytest.raises(SendingHalted, match="the request was refused: E108") as halted:
            await read(outcomes, into=taken)
    assert isinstance(halted.value.__cause__, InvalidRequest)
    assert len(taken) == len(transport.sent) <= 4


PARTS: dict[str, tuple[str, type[Rejected], str]] = {
    "from_": ("E111", InvalidSender, "the short code '60857' was refused: E111"),
    "campaign_ref": ("E714", InvalidCampaign, "the campaign reference '60857' was refused: E714"),
}


@pytest.mark.slow
@pytest.mark.parametrize("field", PARTS)
async def test_a_refused_sender_or_campaign_halts_the_messages_that_name_it(field: str) -> None:
    """A refused sender or campaign reference halts its messages alone; all others are sent."""
    code, kind, words = PARTS[field]
    odd = {to for to in numbers(1000) if int(to) % 2}

    def source() -> Iterator[SMS]:
        for message in messages(1000):
            yield attrs.evolve(message, **{field: "60857"}) if message.to in odd else message

    transport = StubTransport(lambda to: refused(code) if to in odd else accepted(to))
    taken: list[Outcome] = []
    async with client(transport) as skycore, skycore.send_many(source()) as outcomes:
        with pytest.raises(SendingHalted, match=words) as halted:
            await read(outcomes, into=taken)
    assert isinstance(halted.value.__cause__, kind)
    assert sorted(outcome.message.to for outcome in taken) == numbers(1000)
    assert {each.message.to for each in taken if isinstance(each, Accepted)} == (
        {*numbers(1000)} - odd
    )
    assert 1 <= len(odd & {*transport.sent}) <= 4
    errors = [o.error for o in taken if isinstance(o, Failed) and not isinstance(o.error, kind)]
    assert len(errors) >= 496
    for error in errors:
        assert isinstance(error, SendingHalted)
        assert isinstance(error.__cause__, kind)


async def test_a_refused_default_sender_halts_messages_with_and_without_from() -> None:
    """A refused default sender halts messages that name it and messages that name none."""
    transport = StubTransport(lambda to: accepted(to) if to.endswith("7") else refused("E111"))
    senders = {"7": "60857", "8": "60856"}
    taken: list[Outcome] = []
    source = [attrs.evolve(each, from_=senders.get(each.to[-1])) for each in messages(100)]
    async with client(transport, in_flight=1) as skycore, skycore.send_many(source) as outcomes:
        with pytest.raises(SendingHalted):
            await read(outcomes, into=taken)
    assert transport.sent == ["15550000000", *(to for to in numbers(100) if to[-1] == "7")]


async def test_of_several_senders_that_are_refused_the_first_is_named() -> None:
    """Each refused sender is tried once, and SendingHalted names the one refused first."""
    source = [attrs.evolve(each, from_=f"6085{each.to[-1]}") for each in messages(100)]
    transport = StubTransport(lambda to: accepted(to) if to[-1] == "9" else refused("E111"))
    taken: list[Outcome] = []
    async with client(transport, in_flight=1) as skycore, skycore.send_many(source) as outcomes:
        with pytest.raises(SendingHalted, match="the short code '60850' was refused"):
            await read(outcomes, into=taken)
    assert len(transport.sent) == 9 + 10
    assert sum(isinstance(each, Accepted) for each in taken) == 10


async def test_the_account_is_named_where_it_is_refused_after_a_sender() -> None:
    """SendingHalted names the account when the account is refused after a sender was."""
    answers = {"15550000000": refused("E111"), "15550000001": refused("E713")}
    source = [attrs.evolve(each, from_=each.to[-5:]) for each in messages(100)]
    transport = StubTransport(lambda to: answers.get(to) or accepted(to))
    async with client(transport, in_flight=1) as skycore, skycore.send_many(source) as outcomes:
        with pytest.raises(SendingHalted, match="the account was refused: E713"):
            await read(outcomes, into=[])
    assert transport.sent == ["15550000000", "15550000001"]


@pytest.mark.slow
async def test_a_message_that_waits_for_the_rate_is_not_sent_once_its_sender_is_refused() -> None:
    """A message that waits for the rate is not sent if its sender is refused meanwhile."""
    transport = StubTransport(lambda _: refused("E111"))
    taken: list[Outcome] = []
    skycore = SkycoreClient(
        api_key="a key", from_="60856", transport=transport, max_in_flight=4, rate=10
    )
    async with skycore, skycore.send_many(messages(20)) as outcomes:
        with pytest.raises(SendingHalted):
            await read(outcomes, into=taken)
    assert (len(taken), len(transport.sent)) == (20, 1)


# The last three are the words by which streams of anyio's end or break.
@pytest.mark.parametrize(
    "error",
    [
        KeyError("a column"),
        SystemExit("a column"),
        anyio.BrokenResourceError("a column"),
        anyio.ClosedResourceError("a column"),
        anyio.EndOfStream("a column"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", ["iterable", "async iterable"])
async def test_an_error_in_the_source_loses_no_outcome(kind: str, error: BaseException) -> None:
    """A source's error, or `sys.exit()`, is raised after the outcomes of all messages before."""

    def broken() -> Iterator[SMS]:
        yield from messages(5)
        raise error

    async def broken_async() -> AsyncIterator[SMS]:
        for message in broken():
            yield message

    transport = StubTransport()
    source = broken() if kind == "iterable" else broken_async()
    taken: list[Outcome] = []
    async with client(transport) as skycore, skycore.send_many(source) as outcomes:
        with pytest.raises(type(error), match="a column"):
            await read(outcomes, into=taken)
    assert sorted(outcome.message.to for outcome in taken) == sorted(transport.sent) == numbers(5)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_source_whose_task_is_cancelled_ends_the_bulk_with_an_error() -> None:
    """A source cancelled from within ends the bulk with an error, after the outcomes before it."""

    async def source() -> AsyncIterator[SMS]:
        for message in messages(5):
            yield message
        rows = asyncio.ensure_future(anyio.sleep_forever())
        rows.cancel()
        await rows

    taken: list[Outcome] = []
    async with client(StubTransport()) as skycore, skycore.send_many(source()) as outcomes:
        with pytest.raises(RuntimeError, match="the source of the messages was cancelled"):
            await read(outcomes, into=taken)
    assert sorted(outcome.message.to for outcome in taken) == numbers(5)


@pytest.mark.parametrize("source", [[{"to": "15551234888"}], [None]], ids=["dict", "None"])
async def test_a_source_item_that_is_no_sms_is_a_type_error(source: list[SMS]) -> None:
    """A source item that is no SMS raises a TypeError that says what is needed."""
    async with client(StubTransport()) as skycore, skycore.send_many(source) as outcomes:
        with pytest.raises(TypeError, match="send_many takes SMS values"):
            await anext(outcomes)


async def test_leaving_early_finishes_what_had_started(caplog: pytest.LogCaptureFixture) -> None:
    """Leaving a bulk early waits for messages in flight and logs the outcomes that nobody read."""
    caplog.set_level(logging.DEBUG, "skycore_async")
    transport = StubTransport()
    transport.held = anyio.Event()
    async with client(transport) as skycore, anyio.create_task_group() as group:
        async with skycore.send_many(messages(1000)):
            await anyio.wait_all_tasks_blocked()
            group.start_soon(_release_when_left, transport.held)
        assert transport.under_way == 0
    assert len(transport.sent) == 4
    assert sum("accepted as" in record.message for record in caplog.records) == 4


async def test_leaving_makes_no_further_tries() -> None:
    """A message that was not sent is not tried again after the caller left the bulk."""
    may_start = anyio.Event()

    class OneStartEach:
        starts = 0

        def start_now(self) -> float | None:
            self.starts += 1
            return None if self.starts > 4 else 0.0

        async def wait(self) -> float:
            await may_start.wait()
            return 0.0

        def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
            raise AssertionError("nothing is throttled here")

    transport = StubTransport(lambda _to: NotSent("no connection"))
    skycore = SkycoreClient(
        api_key="a key", from_="60856", transport=transport, rate=OneStartEach(), max_in_flight=4
    )
    skycore._dispatcher._chance = lambda: 0.0
    async with skycore, anyio.create_task_group() as group, skycore.send_many(messages(4)):
        await anyio.wait_all_tasks_blocked()
        group.start_soon(_release_when_left, may_start)
    assert len(transport.sent) == 4


async def _release_when_left(held: anyio.Event) -> None:
    await anyio.wait_all_tasks_blocked()
    held.set()


async def test_leaving_early_closes_the_async_source() -> None:
    """Leaving a bulk closes its half-read async source, in the task that read the source."""
    closed = []

    async def source() -> AsyncGenerator[SMS, None]:
        try:
            with anyio.CancelScope():
                for message in messages(1000):
                    yield message
        finally:
            closed.append(True)

    async with client(StubTransport()) as skycore, aclosing(source()) as given:
        async with skycore.send_many(given) as outcomes:
            await anext(outcomes)
        assert closed == [True]


async def test_leaving_early_ends_a_source_that_waits() -> None:
    """Leaving a bulk ends an async source that waits for its next message."""
    ended = []

    async def source() -> AsyncGenerator[SMS, None]:
        try:
            yield SMS(to="15551234888", text="Hello")
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async with client(StubTransport()) as skycore, skycore.send_many(source()) as outcomes:
        await anext(outcomes)
        await anyio.wait_all_tasks_blocked()
    assert ended == [True]


async def test_leaving_at_once_does_not_begin_a_source() -> None:
    """A source is never begun if the caller leaves, or the client closes, before it is read."""
    begun = []

    async def source() -> AsyncGenerator[SMS, None]:
        begun.append(True)
        await anyio.sleep_forever()
        yield SMS(to="15551234888", text="Hello")

    skycore = client(StubTransport())
    with anyio.fail_after(5):
        async with skycore.send_many(source()):
            pass
        async with skycore.send_many(source()) as outcomes:
            await skycore.aclose()
            with pytest.raises(RuntimeError, match="this client is closed"):
                await read(outcomes, into=[])
    assert not begun


async def test_a_cancelled_caller_loses_no_outcome(caplog: pytest.LogCaptureFixture) -> None:
    """Cancelling the loop over outcomes breaks off no exchange; the log has the outcomes."""
    caplog.set_level(logging.DEBUG, "skycore_async")
    transport = StubTransport()
    transport.held = anyio.Event()
    async with client(transport) as skycore:
        with anyio.CancelScope() as scope:
            async with skycore.send_many(messages(1000)) as outcomes:
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                await anext(outcomes)
        assert transport.under_way == 4
        transport.held.set()
    assert len(transport.sent) == 4
    assert sum("accepted as" in record.message for record in caplog.records) == 4


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_natively_cancelled_caller_loses_no_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`Task.cancel()` on the loop over the outcomes breaks off no exchange either."""
    caplog.set_level(logging.DEBUG, "skycore_async")
    transport = StubTransport()
    transport.held = anyio.Event()

    async def send_all(skycore: SkycoreClient) -> None:
        async with skycore.send_many(messages(1000)) as outcomes:
            async for _ in outcomes:
                pass

    async with client(transport) as skycore:
        sending = asyncio.create_task(send_all(skycore))
        await anyio.wait_all_tasks_blocked()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert transport.under_way == 4
        transport.held.set()
    assert len(transport.sent) == 4
    assert sum("accepted as" in record.message for record in caplog.records) == 4


class CallerError(Exception):
    """An error that the caller's own loop raises."""


def mixed(to: str) -> Answer:
    """Accept one message, refuse the next, and leave the third in doubt."""
    return (accepted(to), refused("E110"), OutcomeUnknown("no answer"))[int(to) % 3]


@pytest.mark.parametrize("source", [messages, messages_async], ids=["iterable", "async iterable"])
@pytest.mark.parametrize("by", ["break", "error", "scope", "scope while leaving"])
async def test_every_outcome_of_a_bulk_that_is_left_is_yielded_or_logged(
    source: MakeSource, by: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each message that began has its outcome yielded or logged, however the bulk is left."""
    caplog.set_level(logging.DEBUG, "skycore_async")
    transport = StubTransport(mixed)
    yielded: list[Outcome] = []
    async with client(transport) as skycore:
        with anyio.CancelScope() as scope, suppress(CallerError):
            async with skycore.send_many(source(1000)) as outcomes:
                async for outcome in outcomes:
                    yielded.append(outcome)
                    if len(yielded) < 10:
                        continue
                    if by == "error":
                        raise CallerError
                    if by == "break":
                        break
                    scope.cancel()
                    if by == "scope while leaving":
                        break
                    await anyio.lowlevel.checkpoint()
        begun = len(transport.sent)
        assert 10 <= begun < 30
        await anyio.wait_all_tasks_blocked()
        # Who is cancelled does not wait for those that had started already.
        assert begun <= len(transport.sent) <= begun + (4 if "scope" in by else 0)
        assert [outcome async for outcome in rest(skycore)] == []  # the client goes on
    logged = {line.split()[2].rstrip(":")[-4:] for line in caplog.messages}
    assert logged == {to[-4:] for to in transport.sent}
    assert {outcome.message.to for outcome in yielded} <= set(transport.sent)


async def test_a_cancelled_caller_reads_no_further() -> None:
    """A cancelled loop over outcomes ends, even if outcomes are always ready."""
    transport = StubTransport()
    async with client(transport) as skycore:
        with anyio.CancelScope() as scope:
            async with skycore.send_many(messages(1000)) as outcomes:
                async for _ in outcomes:
                    scope.cancel()
    assert len(transport.sent) < 100


async def rest(skycore: SkycoreClient) -> AsyncIterator[Outcome]:
    """Send an empty bulk with the same client, and yield its outcomes."""
    async with skycore.send_many([]) as outcomes:
        async for outcome in outcomes:
            yield outcome


async def test_an_unread_outcome_of_an_invalid_message_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An invalid message whose outcome nobody read is in the log."""
    caplog.set_level(logging.DEBUG, "skycore_async")
    source = [SMS(to="nobody", text="Hello")]
    async with client(StubTransport()) as skycore, skycore.send_many(source):
        await anyio.wait_all_tasks_blocked()
    assert "InvalidMessage" in caplog.text


async def test_outcomes_come_as_they_complete() -> None:
    """A slow message holds back no other message's outcome."""
    transport = FirstIsSlow()
    quick: list[str] = []
    async with client(transport) as skycore, skycore.send_many(messages(20)) as outcomes:
        with anyio.move_on_after(5):
            while len(quick) < 8:
                quick.append((await anext(outcomes)).message.to)
        transport.slow.set()
        left = [outcome.message.to async for outcome in outcomes]
    assert len(quick) == 8
    assert "15550000000" in left


class FirstIsSlow(StubTransport):
    """A transport that holds back the first message alone."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = anyio.Event()

    async def send(self, request: Request, *, timeout: float) -> Response:
        response = await super().send(request, timeout=timeout)
        if b"15550000000" in request.body:
            await self.slow.wait()
        return response


async def test_a_closed_client_refuses_a_bulk() -> None:
    """Entering a bulk of a closed client raises RuntimeError, and the source is not read."""
    skycore = client(StubTransport())
    await skycore.aclose()
    source = messages(1)
    with pytest.raises(RuntimeError, match="this client is closed"):
        async with skycore.send_many(source):
            pass
    assert len(list(source)) == 1


async def test_a_message_that_comes_as_the_bulk_is_stopped_is_not_sent() -> None:
    """A message that a worker was handed but has not begun is not sent after `stop`."""

    async def source() -> AsyncIterator[SMS]:
        for message in messages(1):
            yield message
            outcomes.stop()  # before the worker that has it comes to run

    transport = StubTransport()
    async with client(transport) as skycore, skycore.send_many(source()) as outcomes:
        await anyio.wait_all_tasks_blocked()  # so that a worker waits for it
        taken = [outcome async for outcome in outcomes]
    assert begun(taken) == transport.sent == []


async def test_a_bulk_that_is_not_entered_says_so() -> None:
    """Iterating a bulk without `async with` raises RuntimeError and reads nothing."""
    async with client(StubTransport()) as skycore:
        source = messages(3)
        with pytest.raises(RuntimeError, match="nothing is sent before `async with`"):
            await anext(skycore.send_many(source))
        assert len(list(source)) == 3


async def test_a_bulk_is_entered_once() -> None:
    """Entering a bulk a second time raises RuntimeError and sends nothing."""
    transport = StubTransport()
    async with client(transport) as skycore:
        bulk = skycore.send_many(list(messages(3)))
        async with bulk:
            assert len([outcome async for outcome in bulk]) == 3
        with pytest.raises(RuntimeError, match="call send_many again"):
            await bulk.__aenter__()
    assert len(transport.sent) == 3


@pytest.mark.parametrize("source", [messages, messages_async], ids=["iterable", "async iterable"])
async def test_closing_the_client_ends_its_bulks(source: MakeSource) -> None:
    """Closing the client waits for messages in flight only; the bulk's loop gets an error."""
    transport = StubTransport()
    taken: list[Outcome] = []
    skycore = client(transport)
    async with skycore.send_many(source(10_000_000)) as outcomes:
        await anext(outcomes)
        with anyio.fail_after(5):
            await skycore.aclose()
        assert transport.closed
        with pytest.raises(RuntimeError, match="this client is closed"):
            await read(outcomes, into=taken)
    assert 1 + len(begun(taken)) == len(transport.sent) < 20


async def test_closing_the_client_is_no_error_where_all_is_sent() -> None:
    """Outcomes that were unread when the client closed can still be read."""
    skycore = client(StubTransport())
    async with skycore.send_many(messages(3)) as outcomes:
        await anyio.wait_all_tasks_blocked()
        await skycore.aclose()
        assert len([outcome async for outcome in outcomes]) == 3


async def test_the_pace_is_kept() -> None:
    """A bulk starts messages no faster than the rate, and leaving it ends the waiting ones."""
    transport = StubTransport()
    skycore = SkycoreClient(
        api_key="a key", from_="60856", transport=transport, rate=0.001, burst=3
    )
    async with skycore, skycore.send_many(messages(100)) as outcomes:
        for _ in range(3):
            await anext(outcomes)
        await anyio.wait_all_tasks_blocked()
    assert len(transport.sent) == 3


async def test_a_source_that_is_no_generator_is_read() -> None:
    """An async iterator without `aclose`, such as a queue's, is read to its end."""

    class Queue:
        def __init__(self) -> None:
            self._messages = messages(3)

        def __aiter__(self) -> Queue:
            return self

        async def __anext__(self) -> SMS:
            for message in self._messages:
                return message
            raise StopAsyncIteration

    async with client(StubTransport()) as skycore, skycore.send_many(Queue()) as outcomes:
        assert len([outcome async for outcome in outcomes]) == 3


@pytest.mark.parametrize("source", [messages, messages_async], ids=["iterable", "async iterable"])
async def test_a_stopped_bulk_yields_what_was_in_flight(source: MakeSource) -> None:
    """`stop` starts no further message, and the loop ends with the outcomes of those in flight."""
    transport = StubTransport()
    found: list[Outcome] = []
    async with client(transport) as skycore, skycore.send_many(source(1000)) as outcomes:
        async for outcome in outcomes:
            found.append(outcome)
            if len(found) == 10:
                outcomes.stop()
    assert len(begun(found)) == len(transport.sent)
    assert 10 <= len(transport.sent) < 30


async def test_a_bulk_that_cannot_begin_leaves_nothing_open() -> None:
    """A bulk of a closed client, or one never entered, leaves no stream open."""
    skycore = client(StubTransport())
    never = skycore.send_many(messages_async(3))
    await skycore.aclose()
    with pytest.raises(RuntimeError, match="this client is closed"):
        await skycore.send_many(messages_async(3)).__aenter__()
    del never
    gc.collect()


async def test_messages_that_wait_for_the_rate_do_not_count_as_begun() -> None:
    """A bulk's count of messages in flight leaves out those that wait for the rate."""
    transport = StubTransport()
    transport.held = anyio.Event()
    limiter = RateLimiter(0.001, burst=2)
    sender = SkycoreClient(
        api_key="a key", from_="60856", transport=transport, max_in_flight=4, rate=limiter
    )
    async with sender, sender.send_many(messages(10)) as outcomes:
        await anyio.wait_all_tasks_blocked()
        assert (outcomes._begun, transport.under_way) == (2, 2)
        outcomes.stop()
        transport.held.set()
        assert len(begun([outcome async for outcome in outcomes])) == 2
        assert outcomes._begun == 0


async def test_the_check_before_a_message_begins_is_made_after_all_waiting() -> None:
    """The check of `_begin_where` is made when a message could start, after all waiting."""
    transport = StubTransport()
    asked: list[str] = []

    def check(message: SMS) -> None:
        asked.append(message.to)
        if len(asked) > 2:
            raise NotSent("too late")

    outcomes: list[Outcome] = []
    async with client(transport, in_flight=1) as sender:
        bulk = sender.send_many([SMS(to=f"+1 555 000 000{n}", text="Hello") for n in range(4)])
        async with bulk._begin_where(check) as sending:
            await read(sending, into=outcomes)
        assert sender._dispatcher.admission.acquire_now() is not None  # its slot is free again
    assert asked == [f"1555000000{n}" for n in range(4)]
    assert transport.sent == asked[:2]
    assert [str(each.error) for each in outcomes if isinstance(each, Failed)] == ["too late"] * 2


async def test_closing_the_client_closes_a_bulk_that_nobody_left() -> None:
    """Closing the client closes a bulk that was never left, so that no ResourceWarning follows."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with client(StubTransport()) as skycore:
            outcomes = await skycore.send_many(messages_async(3)).__aenter__()
            assert len([outcome async for outcome in outcomes]) == 3
        del outcomes
        gc.collect()
    assert [str(each.message) for each in caught] == []
