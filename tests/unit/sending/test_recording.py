"""A client with a ledger: keys, doubt, halts and restarts, over a stub transport."""

from __future__ import annotations

import gc
import sqlite3
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import pytest

from skycore_async import (
    SMS,
    Accepted,
    ConfigurationError,
    Failed,
    InvalidMessage,
    KeyConflict,
    LedgerError,
    MemoryLedger,
    MessageState,
    NotRecorded,
    NotSent,
    Outcome,
    OutcomeUnknown,
    QuotaExhausted,
    RecipientOptedOut,
    Rejected,
    SendingHalted,
    SkycoreClient,
    SQLiteLedger,
    Summary,
    Throttled,
)
from skycore_async.ledger.commands import Lookup
from skycore_async.ledger.content import content_of
from skycore_async.ledger.interface import Ledger
from skycore_async.ledger.model import SendIntent, Submission
from skycore_async.ledger.sqlite.open_file import connect
from skycore_async.messages import masked
from skycore_async.runtime import forks
from skycore_async.sending.dispatcher import Dispatcher
from skycore_async.sending.prepare import ResolvedMessage
from skycore_async.sending.recording import Recorder, _by_ledger
from skycore_async.sending.sources import Source
from tests.support.ledger_cases import settle
from tests.support.stub_transport import Answer, StubTransport, accepted, refused
from tests.unit.sending.test_dispatcher import SETTINGS, answers

pytestmark = pytest.mark.anyio

TO = "15551234888"
KEYED: dict[str, Any] = {"to": TO, "text": "Hello", "key": "order-17"}


@asynccontextmanager
async def recording(
    transport: StubTransport, ledger: Ledger | None = None, **settings: Any
) -> AsyncIterator[tuple[SkycoreClient, Ledger]]:
    """Open a client that keeps a ledger."""
    settings = {"max_in_flight": 4, "max_attempts": 1, **settings}
    async with MemoryLedger() as memory:
        kept = ledger or memory
        async with SkycoreClient(
            api_key="a key", from_="60856", transport=transport, ledger=kept, **settings
        ) as client:
            yield client, kept


def messages(count: int) -> list[SMS]:
    """Make messages with keys."""
    return [SMS(to=f"1555000{n:04}", text="Hello", key=f"k{n}") for n in range(count)]


async def sent_all(client: SkycoreClient, source: Source, **word: bool) -> list[Outcome]:
    """Send the messages of the source, and return every outcome."""
    async with client.send_many(source, **word) as outcomes:
        return [outcome async for outcome in outcomes]


async def states(ledger: Ledger) -> dict[str, str]:
    """Return the state of each message by its key."""
    return {delivery.key: str(delivery.state) async for delivery in ledger.deliveries()}


async def test_a_key_is_sent_once() -> None:
    """A second call with the same key sends nothing and returns the same Accepted."""
    transport = StubTransport()
    async with recording(transport) as (client, _):
        first = await client.send_sms(**KEYED)
        assert await client.send_sms(**KEYED) == first
        (outcome,) = await sent_all(client, [SMS(**KEYED)])
        assert outcome == first
    assert transport.sent == [TO]


async def test_a_key_used_by_two_at_once_is_sent_once() -> None:
    """A caller who uses a key that is under way waits for its outcome and gets the same one."""
    transport = StubTransport()
    transport.held = anyio.Event()
    found: list[Accepted] = []
    async with recording(transport) as (client, _):

        async def send() -> None:
            found.append(await client.send_sms(**KEYED))

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            group.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            transport.held.set()
    assert found[0] == found[1]
    assert transport.sent == [TO]


@pytest.mark.parametrize("rate", [None, 1000])
async def test_a_key_with_other_content_is_a_conflict(rate: float | None) -> None:
    """A key with another text raises KeyConflict; another spelling of the number does not."""
    transport = StubTransport()
    async with recording(transport, rate=rate) as (client, _):
        await client.send_sms(**KEYED)
        await client.send_sms(to="+1 (555) 123-4888", text="Hello", key="order-17")
        with pytest.raises(KeyConflict, match="order-17"):
            await client.send_sms(to=TO, text="Bye", key="order-17")
        (outcome,) = await sent_all(client, [SMS(**KEYED | {"text": "Bye"})])
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, KeyConflict)
    assert transport.sent == [TO]


@pytest.mark.parametrize("rate", [None, 1000])
async def test_a_resolved_message_is_not_looked_up_again(
    rate: float | None,
) -> None:
    """A message that was resolved and looked up before is sent without another lookup."""
    transport, ledger = StubTransport(), MemoryLedger()
    looked_up: list[object] = []
    run = ledger.run

    async def noted(command: Any) -> Any:
        looked_up.append(command) if isinstance(command, Lookup) else None
        return await run(command)

    ledger.run = noted  # type: ignore[method-assign]
    message = SMS(to=TO, text="Hello", from_="60856", key="order-17")

    async def once() -> AsyncIterator[ResolvedMessage]:
        yield ResolvedMessage(message=message, content=content_of(message))

    async with recording(transport, ledger, rate=rate) as (client, _):
        async with client._send_resolved(once(), resend_in_doubt=False) as outcomes:
            found = [outcome async for outcome in outcomes]
        assert not looked_up
        again = await client.send_sms(**KEYED)  # whose digest is the same
    assert [outcome.message for outcome in found] == [message]
    assert again.recorded
    assert transport.sent == [TO]


@pytest.mark.parametrize("key", ["", "\0", 17])
async def test_a_malformed_key_is_refused(key: Any) -> None:
    """An empty key, one with a NUL character, and one that is no text are refused."""
    async with recording(StubTransport()) as (client, ledger):
        with pytest.raises(InvalidMessage, match="key:"):
            await client.send_sms(**KEYED | {"key": key})
        bad = SMS(to=TO, text="Hello", key=key)
        (outcome,) = await sent_all(client, [bad])
        assert isinstance(outcome, Failed)
        assert not await states(ledger)


async def test_messages_without_a_key_are_each_their_own() -> None:
    """Each message without a key is sent, and the ledger has each of them."""
    transport = StubTransport()
    async with recording(transport) as (client, ledger):
        for _ in range(3):
            await client.send_sms(to=TO, text="Hello")
        await sent_all(client, [SMS(to=TO, text="Hello")] * 2)
        assert list((await states(ledger)).values()) == ["accepted"] * 5
    assert transport.sent == [TO] * 5


@pytest.mark.parametrize(
    ("answer", "state", "again"),
    [
        (OutcomeUnknown("no answer"), "in_doubt", 0),
        (refused("E503"), "in_doubt", 0),
        (refused("E110"), "rejected", 0),
        (refused("E120"), "not_sent", 1),
        (refused("E113"), "not_sent", 1),
        (NotSent("no connection"), "not_sent", 1),
    ],
)
async def test_only_a_key_that_was_not_sent_is_sent_again(
    answer: Answer, state: str, again: int
) -> None:
    """A key is sent again only after NotSent; a rejected or in-doubt key gives the same error."""
    transport = StubTransport(lambda _to: answer)
    async with recording(transport, rate=1000, burst=10) as (client, ledger):
        (first,) = await failures(client)
        assert await states(ledger) == {"order-17": state}
        transport.answer = accepted
        client._dispatcher._limiter._paused_until = 0.0  # type: ignore[attr-defined]
        if again:
            await client.send_sms(**KEYED)
        else:
            (second,) = await failures(client)
            assert type(second) is type(first)
            assert str(second) == str(first)
    assert len(transport.sent) == 1 + again


async def failures(client: SkycoreClient) -> list[Exception]:
    with pytest.raises((Rejected, NotSent, OutcomeUnknown)) as caught:
        await client.send_sms(**KEYED)
    return [caught.value]


async def resend(client: SkycoreClient) -> None:
    with pytest.raises(OutcomeUnknown):
        await client.send_sms(**KEYED, resend_in_doubt=True)


async def test_a_doubt_is_sent_again_only_with_resend_in_doubt() -> None:
    """A message in doubt is sent again only with `resend_in_doubt`, alone or in a bulk."""
    transport = StubTransport(lambda _to: OutcomeUnknown("no answer"))
    async with recording(transport) as (client, ledger):
        await failures(client)
        transport.answer = accepted
        await client.send_sms(**KEYED, resend_in_doubt=True)
        transport.answer = lambda _to: OutcomeUnknown("no answer")
        await sent_all(client, messages(2))
        transport.answer = accepted
        assert all(isinstance(each, Failed) for each in await sent_all(client, messages(2)))
        again = await sent_all(client, messages(2), resend_in_doubt=True)
        assert all(isinstance(each, Accepted) for each in again)
        assert set((await states(ledger)).values()) == {"accepted"}
    assert len(transport.sent) == 2 + 4


@pytest.mark.parametrize("settings", [{"max_in_flight": 1}, {"rate": 20}])
async def test_resend_in_doubt_does_not_cover_a_message_that_is_under_way(
    settings: dict[str, Any],
) -> None:
    """`resend_in_doubt` given while a message is under way does not cover the doubt it ends in."""
    transport = StubTransport(lambda _to: OutcomeUnknown("no answer"))
    transport.held = anyio.Event()
    async with recording(transport, **settings) as (client, _):

        async def sends(*, resend_in_doubt: bool = False) -> None:
            with pytest.raises(OutcomeUnknown):
                await client.send_sms(**KEYED, resend_in_doubt=resend_in_doubt)

        async with anyio.create_task_group() as group:
            group.start_soon(sends)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(partial(sends, resend_in_doubt=True))
            await anyio.wait_all_tasks_blocked()
            transport.held.set()
        assert transport.sent == [TO]
        await sends(resend_in_doubt=True)
    assert transport.sent == [TO] * 2


async def test_two_permissions_for_one_doubt_send_it_once() -> None:
    """Two concurrent calls with `resend_in_doubt` send one doubt again once."""
    transport = StubTransport(lambda _to: OutcomeUnknown("no answer"))
    async with recording(transport, max_in_flight=1) as (client, _):
        await failures(client)
        transport.held = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(resend, client)
            group.start_soon(resend, client)
            await anyio.wait_all_tasks_blocked()
            transport.held.set()
    assert transport.sent == [TO] * 2


@pytest.mark.parametrize("is_looked_up", [False, True])
async def test_resend_in_doubt_does_not_cover_a_doubt_of_the_same_bulk(
    is_looked_up: bool,
) -> None:
    """A bulk with `resend_in_doubt` sends a key that it has twice only once."""
    transport = StubTransport(lambda _to: OutcomeUnknown("no answer"))
    async with recording(transport, max_in_flight=1) as (client, _):
        await failures(client)
        message = SMS(**KEYED, from_="60856")
        source: Any = [message, message]
        if is_looked_up:
            known = ResolvedMessage(message=message, content=content_of(message))
            source = [known, known]
        outcomes = await sent_all(client, source, resend_in_doubt=True)
        assert [outcome.recorded for outcome in outcomes] == [False, True]
    assert transport.sent == [TO] * 2


class SlowToRead(MemoryLedger):
    """A ledger whose later lookups wait until the outcome of the first message is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.is_first = True
        self.has_ended = anyio.Event()

    async def lookup(self, intent: SendIntent, **word: bool) -> Submission | None:
        is_first, self.is_first = self.is_first, False
        if not is_first:
            await self.has_ended.wait()
        return await super().lookup(intent, **word)

    async def finish(self, key: str, submission: Submission) -> None:
        await super().finish(key, submission)
        if not self.is_first:
            self.has_ended.set()
            await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("words", [1, 2])
async def test_resend_in_doubt_does_not_cover_a_doubt_read_after_the_first_outcome(
    words: int,
) -> None:
    """A bulk with `resend_in_doubt` sends a key once, even if its repetitions are looked up late.

    A second bulk with `resend_in_doubt` covers the new doubt, and sends once more.
    """
    transport = StubTransport(lambda _to: OutcomeUnknown("no answer"))
    async with SlowToRead() as slow, recording(transport, slow) as (client, _):
        await failures(client)
        for _ in range(words):
            slow.is_first, slow.has_ended = True, anyio.Event()
            outcomes = await sent_all(client, [SMS(**KEYED)] * 3, resend_in_doubt=True)
            assert sorted(outcome.recorded for outcome in outcomes) == [False, True, True]
    assert transport.sent == [TO] * (1 + words)


class SlowToFind(MemoryLedger):
    """A ledger that finds the message of `KEYED` only once another one has an outcome."""

    def __init__(self) -> None:
        super().__init__()
        self.has_ended = anyio.Event()

    async def lookup(self, intent: SendIntent, **word: bool) -> Submission | None:
        if intent.key == KEYED["key"]:
            await self.has_ended.wait()
        return await super().lookup(intent, **word)

    async def finish(self, key: str, submission: Submission) -> None:
        await super().finish(key, submission)
        if key != KEYED["key"]:
            self.has_ended.set()


async def test_resend_in_doubt_covers_a_doubt_that_is_looked_up_while_another_message_ends() -> (
    None
):
    """The outcome of another message takes no permission back that a caller gave for a doubt."""
    transport = StubTransport(lambda to: OutcomeUnknown("no answer") if to == TO else accepted(to))
    async with SlowToFind() as slow, recording(transport, slow) as (client, _):
        slow.has_ended.set()
        await failures(client)
        slow.has_ended = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(resend, client)
            await anyio.wait_all_tasks_blocked()
            await client.send_sms(to="15557654321", text="Hello", key="another")
    assert transport.sent == [TO, "15557654321", TO]


class SlowToWrite(MemoryLedger):
    """A ledger that is slow to record an outcome, and delays lookups until then."""

    def __init__(self) -> None:
        super().__init__()
        self.is_writing = anyio.Event()
        self.has_written = anyio.Event()

    async def lookup(self, intent: SendIntent, **word: bool) -> Submission | None:
        if self.is_writing.is_set():
            await self.has_written.wait()
        return await super().lookup(intent, **word)

    async def finish(self, key: str, submission: Submission) -> None:
        self.is_writing.set()
        await anyio.wait_all_tasks_blocked()
        await super().finish(key, submission)
        self.has_written.set()
        await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("has_another", [False, True])
async def test_resend_in_doubt_does_not_cover_a_doubt_that_is_being_recorded(
    has_another: bool,
) -> None:
    """`resend_in_doubt` given while a new doubt is being recorded does not cover the new doubt.

    The same holds for a call of another client of the ledger.
    """
    transport = StubTransport(lambda _to: OutcomeUnknown("no answer"))
    async with (
        SlowToWrite() as slow,
        recording(transport, slow) as (client, _),
        recording(transport, slow) as (another, _),
    ):
        await failures(client)
        slow.is_writing, slow.has_written = anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(resend, client)
            await slow.is_writing.wait()
            group.start_soon(resend, another if has_another else client)
        assert transport.sent == [TO] * 2
        await resend(client)
    assert transport.sent == [TO] * 3


class SlowToAnswer(MemoryLedger):
    """A ledger that answers the second lookup once the first message's outcome is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.has_written = anyio.Event()

    async def lookup(self, intent: SendIntent, **word: bool) -> Submission | None:
        self.asked += 1
        if self.asked == 2:
            await self.has_written.wait()
        return await super().lookup(intent, **word)

    async def finish(self, key: str, submission: Submission) -> None:
        await super().finish(key, submission)
        if self.asked == 2:
            self.has_written.set()


@pytest.mark.parametrize("has_another", [False, True])
async def test_resend_in_doubt_does_not_cover_a_doubt_that_comes_during_its_lookup(
    has_another: bool,
) -> None:
    """`resend_in_doubt` does not cover a doubt that arose while its own lookup was waiting."""
    transport = StubTransport(lambda _to: OutcomeUnknown("no answer"))
    async with (
        SlowToAnswer() as slow,
        recording(transport, slow) as (client, _),
        recording(transport, slow) as (another, _),
    ):
        await failures(client)
        transport.held = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(resend, client)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(resend, another if has_another else client)
            await anyio.wait_all_tasks_blocked()
            transport.held.set()
        assert transport.sent == [TO] * 2
    assert slow.asked == 2


@pytest.mark.parametrize("name", ["resend_in_doubt", "ignore_opt_out"])
@pytest.mark.parametrize("word", ["no", 1, 0.5])
async def test_a_permission_that_is_no_bool_is_refused(name: str, word: Any) -> None:
    """`resend_in_doubt` and `ignore_opt_out` are refused unless they are True or False."""
    transport = StubTransport()
    async with recording(transport) as (client, _):
        with pytest.raises(ConfigurationError, match=f"{name}: True or False is needed"):
            await client.send_sms(**KEYED, **{name: word})
        with pytest.raises(ConfigurationError, match=f"{name}: True or False is needed"):
            client.send_many([], **{name: word})
    assert transport.sent == []


async def test_a_number_that_opted_out_is_not_sent_to() -> None:
    """A number that opted out raises RecipientOptedOut, unless `ignore_opt_out` is given."""
    transport = StubTransport()
    async with recording(transport) as (client, ledger):
        await ledger.opt_out(TO)
        with pytest.raises(RecipientOptedOut):
            await client.send_sms(to=TO, text="Hello")
        assert not transport.sent
        await client.send_sms(to=TO, text="Hello", ignore_opt_out=True)
        await ledger.opt_in(TO)
        await client.send_sms(to=TO, text="Hello")
    assert len(transport.sent) == 2


async def tried_again(
    ledger: Any, meanwhile: Callable[[], Awaitable[Any]], **word: Any
) -> tuple[list[str], Outcome]:
    """Send a message that is throttled at first, and call `meanwhile` before its second try."""
    transport = StubTransport(answers(refused("E106"), accepted(TO)))
    limiter = CallsBeforeRetry(meanwhile)
    sender = Dispatcher(transport, limiter, recorder=Recorder(ledger), chance=lambda: 0.0)
    outcome = await sender.send(SMS(**KEYED), attrs.evolve(SETTINGS, **word))
    await sender.tasks.close()
    return transport.sent, outcome


class CallsBeforeRetry:
    """A limiter that calls `meanwhile` before it lets the second try start."""

    def __init__(self, meanwhile: Callable[[], Awaitable[Any]]) -> None:
        self._meanwhile = meanwhile
        self._has_started = False

    def start_now(self) -> float | None:
        has_started, self._has_started = self._has_started, True
        return None if has_started else 1.0

    async def wait(self) -> float:
        await self._meanwhile()
        return 2.0

    def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
        assert started == 1


async def test_a_number_that_opts_out_between_two_tries_is_not_tried_again() -> None:
    """A throttled message is not tried again if its number opts out before the second try."""
    async with MemoryLedger() as ledger:
        sent, outcome = await tried_again(ledger, partial(ledger.opt_out, TO))
        assert sent == [TO]
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, RecipientOptedOut)
        assert await states(ledger) == {"order-17": "not_sent"}
        await ledger.opt_in(TO)
        _, outcome = await tried_again(ledger, anyio.lowlevel.checkpoint)
        assert isinstance(outcome, Accepted)


async def test_ignore_opt_out_holds_for_each_try() -> None:
    """`ignore_opt_out` holds for the second try of a throttled message, too."""
    async with MemoryLedger() as ledger:
        opts_out = partial(ledger.opt_out, TO)
        sent, outcome = await tried_again(ledger, opts_out, ignore_opt_out=True)
    assert sent == [TO, TO]
    assert isinstance(outcome, Accepted)


async def test_no_second_try_is_made_if_opt_outs_cannot_be_looked_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A throttled message is not tried again if the ledger cannot look up opt-outs."""
    async with SQLiteLedger(tmp_path / "ledger.db") as ledger:
        sent, outcome = await tried_again(ledger, ledger.aclose)
    assert sent == [TO]
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, Throttled)
    assert "whether a number has opted out was not told: RuntimeError" in caplog.text


class MinimalLedger:
    """A ledger that has no more methods than a client needs."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self.lookup, self.begin, self.finish = ledger.lookup, ledger.begin, ledger.finish


async def test_a_caller_cancelled_during_the_opt_out_lookup_has_no_second_try() -> None:
    """A caller cancelled while opt-outs are looked up has no second try: it is not sent."""
    transport = StubTransport(answers(refused("E106"), accepted(TO)))

    class Asked(MinimalLedger):
        async def is_opted_out(self, number: str) -> bool:
            assert number == TO
            caller.cancel()
            await settle()
            return False

    async with MemoryLedger() as ledger:
        asked: Any = Asked(ledger)
        limiter = CallsBeforeRetry(anyio.lowlevel.checkpoint)
        sender = Dispatcher(transport, limiter, recorder=Recorder(asked), chance=lambda: 0.0)
        with anyio.CancelScope() as caller:
            await sender.send(SMS(**KEYED), SETTINGS)
        await sender.tasks.close()
        assert caller.cancelled_caught
        assert transport.sent == [TO]
        assert await states(ledger) == {"order-17": "not_sent"}


async def test_a_ledger_without_is_opted_out_is_enough_for_a_second_try() -> None:
    """A throttled message is tried again with a caller's ledger that lacks `is_opted_out`."""
    async with MemoryLedger() as ledger:
        sent, outcome = await tried_again(MinimalLedger(ledger), anyio.lowlevel.checkpoint)
    assert sent == [TO, TO]
    assert isinstance(outcome, Accepted)


async def test_a_bulk_run_again_sends_only_what_was_not() -> None:
    """A bulk that is run again yields every outcome and sends only the messages not yet sent."""
    source = messages(40)
    transport = StubTransport()
    async with recording(transport) as (client, ledger):
        async with client.send_many(source) as outcomes:
            async for _ in outcomes:
                if len(transport.sent) > 15:
                    break
        begun = len(transport.sent)
        assert begun < 40
        outcomes_again = await sent_all(client, source)
        assert {outcome.message.key for outcome in outcomes_again} == {m.key for m in source}
        assert all(isinstance(outcome, Accepted) for outcome in outcomes_again)
        assert set((await states(ledger)).values()) == {"accepted"}
    assert sorted(transport.sent) == sorted(message.to for message in source)


async def test_a_recorded_outcome_takes_no_start_of_the_rate() -> None:
    """A message whose outcome is recorded takes no start of the rate limit."""
    source = messages(30)
    transport = StubTransport()
    async with recording(transport, rate=0.001, burst=32) as (client, _):
        await sent_all(client, source)
        await sent_all(client, source)
        await client.send_sms(to=TO, text="Hello")
    assert len(transport.sent) == 31


async def test_messages_that_wait_when_the_account_is_refused_are_not_sent() -> None:
    """Messages that wait to start when the account is refused are NotSent."""
    source = messages(10)
    transport = StubTransport(lambda _to: refused("E120"))
    async with recording(transport, rate=0.001, burst=2) as (client, ledger):
        found: list[Outcome] = []
        with pytest.raises(SendingHalted) as halted:  # noqa: PT012 - the loop is what raises
            async with client.send_many(source) as outcomes:
                async for outcome in outcomes:
                    found.append(outcome)  # noqa: PERF401 - kept when the loop raises
        assert isinstance(halted.value.__cause__, QuotaExhausted)
        assert all(isinstance(each, Failed) for each in found)
        assert set((await states(ledger)).values()) == {"not_sent"}
        assert len(transport.sent) <= 2 < len(found)


async def test_a_cancelled_callers_outcome_is_kept() -> None:
    """The ledger records the outcome of a message whose caller was cancelled."""
    transport = StubTransport()
    transport.held = anyio.Event()
    async with recording(transport) as (client, ledger):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.send_sms(**KEYED))
            await anyio.wait_all_tasks_blocked()
            assert await states(ledger) == {"order-17": "sending"}
            group.cancel_scope.cancel()
        transport.held.set()
        delivery = await until_decided(ledger)
        assert delivery == {"order-17": "accepted"}


async def test_an_outcome_is_kept_where_client_and_ledger_are_left_cancelled(
    tmp_path: Path,
) -> None:
    """A cancelled program's ledger closes after the outcomes in flight are recorded."""
    transport = StubTransport()
    transport.held = anyio.Event()

    async def program() -> None:
        async with (
            SQLiteLedger(tmp_path / "ledger.db") as ledger,
            recording(transport, ledger) as (client, _),
        ):
            await client.send_sms(**KEYED)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as outside, anyio.create_task_group() as group:
            group.start_soon(program)
            while not transport.sent:  # noqa: ASYNC110 - the transport tells of it alone
                await anyio.sleep(0.001)
            outside.start_soon(_let_go_later, transport.held)
            group.cancel_scope.cancel()
    async with SQLiteLedger(tmp_path / "ledger.db") as ledger:
        assert await states(ledger) == {"order-17": "accepted"}


async def _let_go_later(held: anyio.Event) -> None:
    await anyio.wait_all_tasks_blocked()
    await anyio.sleep(0.1)  # in which a ledger that closes at once would have closed
    held.set()


async def test_a_caller_cancelled_while_waiting_for_a_slot_sends_nothing() -> None:
    """A caller cancelled while waiting for a slot sends nothing, and records nothing."""
    transport = StubTransport()
    transport.held = anyio.Event()
    async with recording(transport, max_in_flight=1) as (client, ledger):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.send_sms(to="15551234889", text="Hello", key="first"))
            await anyio.wait_all_tasks_blocked()
            async with anyio.create_task_group() as second:
                second.start_soon(lambda: client.send_sms(**KEYED))
                await anyio.wait_all_tasks_blocked()
                second.cancel_scope.cancel()
            transport.held.set()
        await client.aclose()
        assert transport.sent == ["15551234889"]
        assert await states(ledger) == {"first": "accepted"}


async def until_decided(ledger: Ledger) -> dict[str, str]:
    with anyio.fail_after(5):
        # The ledger tells of final states alone.
        while "sending" in (found := await states(ledger)).values():  # noqa: ASYNC110
            await anyio.sleep(0.001)
    return found


async def test_the_ledger_has_no_more_messages_sending_than_max_in_flight() -> None:
    """The ledger has at most `max_in_flight` messages as sending, for any number of callers."""
    transport = StubTransport()
    transport.held = anyio.Event()
    async with (
        recording(transport, max_in_flight=3) as (client, ledger),
        anyio.create_task_group() as group,
    ):
        for _ in range(20):
            group.start_soon(lambda: client.send_sms(to=TO, text="Hello"))
        await anyio.wait_all_tasks_blocked()
        assert (await ledger.summary()).states == {MessageState.SENDING: 3}
        transport.held.set()
    assert transport.most == 3


@pytest.mark.parametrize(("rate", "asked"), [(None, 0), (1000, 3)])
async def test_the_ledger_is_looked_up_before_a_start_only_with_a_rate(
    rate: float | None, asked: int
) -> None:
    """A message is looked up before it takes a start only if the client has a rate."""

    class Asked(MemoryLedger):
        times = 0

        async def lookup(self, intent: SendIntent, **word: Any) -> Submission | None:
            self.times += 1
            return await super().lookup(intent, **word)

    transport = StubTransport()
    async with Asked() as ledger, recording(transport, ledger, rate=rate) as (client, _):
        first = await client.send_sms(**KEYED)
        assert await client.send_sms(**KEYED) == first
        (again,) = await sent_all(client, [SMS(**KEYED)])
        assert again == first
        assert ledger.times == asked
    assert transport.sent == [TO]


@pytest.mark.slow
async def test_a_message_that_gets_no_slot_within_the_timeout_is_not_sent() -> None:
    """A message that gets no slot within the timeout is NotSent, and not in the ledger."""
    transport = StubTransport()
    transport.held = anyio.Event()
    async with (
        recording(transport, max_in_flight=1, timeout=0.2) as (client, ledger),
        anyio.create_task_group() as group,
    ):
        group.start_soon(lambda: client.send_sms(to=TO, text="Hello"))
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(NotSent, match=r"it could not start within 0\.2 seconds"):
            await client.send_sms(to=TO, text="Hello")
        assert len(await states(ledger)) == 1
        transport.held.set()


async def test_a_message_whose_intent_takes_the_whole_timeout_is_not_sent() -> None:
    """A message is NotSent if recording its intent takes the whole timeout."""

    class Slow(MemoryLedger):
        async def begin(self, intent: SendIntent, **word: Any) -> Submission | None:
            known = await super().begin(intent, **word)
            await anyio.sleep(0.05)
            return known

    transport = StubTransport()
    async with Slow() as ledger, recording(transport, ledger, timeout=0.04) as (client, _):
        with pytest.raises(NotSent, match=r"could not start within 0\.04 seconds"):
            await client.send_sms(**KEYED)
        assert await states(ledger) == {"order-17": "not_sent"}
    assert not transport.sent


@pytest.mark.slow
async def test_without_a_ledger_that_can_be_written_nothing_is_sent(tmp_path: Path) -> None:
    """A message whose intent cannot be recorded is not sent, and a bulk halts."""
    transport = StubTransport()
    path = tmp_path / "moved.db"
    async with SQLiteLedger(path) as ledger, recording(transport, ledger) as (client, _):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(NotSent, match="its intent could not be recorded") as caught:
                await client.send_sms(to=TO, text="Hello")
            assert isinstance(caught.value.__cause__, LedgerError)
            with pytest.raises(SendingHalted, match="the ledger cannot be written"):
                await sent_all(client, messages(10))
    assert not transport.sent


async def test_a_ledger_that_cannot_be_read_says_so_and_nothing_is_sent() -> None:
    """A failed lookup raises NotRecorded, which says so, and nothing is sent."""

    class Unreadable(MemoryLedger):
        async def lookup(self, intent: SendIntent, **word: Any) -> Submission | None:
            raise LedgerError("no disk")

    transport = StubTransport()
    async with Unreadable() as ledger, recording(transport, ledger, rate=1000) as (client, _):
        with pytest.raises(NotRecorded, match="cannot be read, so that nothing was sent: no disk"):
            await client.send_sms(**KEYED)
    assert not transport.sent


class Full(MemoryLedger):
    """A ledger that records intents, but raises for outcomes while `full` is true."""

    full = True

    async def finish(self, key: str, submission: Submission) -> None:
        if self.full:
            raise LedgerError("no room")
        await super().finish(key, submission)


async def test_an_outcome_that_cannot_be_written_is_still_given(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A caller gets an outcome that cannot be recorded; no other message is sent meanwhile."""
    transport = StubTransport()
    async with Full() as ledger, recording(transport, ledger) as (client, _):
        assert (await client.send_sms(**KEYED)).tracking_id
        assert await states(ledger) == {"order-17": "sending"}
        with pytest.raises(NotSent, match="its intent could not be recorded: no room"):
            await client.send_sms(to=TO, text="Hello")
        ledger.full = False
    assert "the outcome of the message 'order-17' was not recorded: no room" in caplog.text
    assert transport.sent == [TO]


async def test_an_unrecorded_outcome_is_logged_once_with_a_masked_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An outcome that stays unrecorded is logged once, with the number in its key masked."""
    async with Full() as ledger, recording(StubTransport(), ledger) as (client, _):
        await client.send_sms(to=TO, text="Hello", key=f"promo:{TO}")
    (record,) = caplog.records
    assert record.getMessage() == (
        f"the outcome of the message 'promo:{masked(TO)}' was not recorded: no room"
    )


async def test_callers_get_outcomes_of_messages_in_flight_when_the_ledger_closes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A ledger closed before the client costs no caller an outcome, and nothing more is sent."""
    transport = StubTransport()
    transport.held = anyio.Event()
    ledger = MemoryLedger()
    found: list[Outcome] = []
    async with recording(transport, ledger) as (client, _):

        async def send_many() -> None:
            with pytest.raises(RuntimeError, match="is closed"):  # noqa: PT012 - the loop raises
                async with client.send_many(messages(9)) as outcomes:
                    async for outcome in outcomes:
                        found.append(outcome)  # noqa: PERF401 - kept when the loop raises

        async def send() -> None:
            found.append(await client.send_sms(**KEYED))

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(send_many)
            await anyio.wait_all_tasks_blocked()
            await ledger.aclose()
            transport.held.set()
    given = [each.to for each in found if isinstance(each, Accepted)]
    assert sorted(given) == sorted(transport.sent)
    assert len(transport.sent) == 4
    assert "the outcome of the message 'order-17' was not recorded" in caplog.text


@pytest.mark.parametrize("when", ["with the next message", "on closing"])
async def test_an_outcome_is_written_when_there_is_room_again(when: str) -> None:
    """An outcome that could not be recorded is recorded later, and its key is not sent again."""
    transport = StubTransport()
    async with Full() as ledger:
        async with recording(transport, ledger) as (client, _):
            first = await client.send_sms(**KEYED)
            ledger.full = False
            if when == "with the next message":
                await client.send_sms(to="15551234889", text="Hello")
                assert await client.send_sms(**KEYED) == first
        assert (await states(ledger))["order-17"] == "accepted"
    assert transport.sent.count(TO) == 1


@pytest.mark.parametrize("rate", [None, 1000])
@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (lambda _to: refused("E712"), {"text": "mended"}),
        (lambda _to: OutcomeUnknown("no answer"), {"resend_in_doubt": True}),
    ],
)
async def test_an_unrecorded_outcome_is_recorded_before_its_key_is_looked_up(
    rate: float | None, answer: Callable[[str], Answer], again: dict[str, Any]
) -> None:
    """An unrecorded outcome is recorded before the next call with its key is decided."""
    transport = StubTransport(answer)
    async with Full() as ledger, recording(transport, ledger, rate=rate) as (client, _):
        with pytest.raises((Rejected, OutcomeUnknown)):
            await client.send_sms(**KEYED)
        with pytest.raises(NotRecorded, match="its intent could not be recorded: no room"):
            await client.send_sms(**KEYED | again)
        ledger.full = False
        transport.answer = accepted
        assert not (await client.send_sms(**KEYED | again)).recorded
    assert transport.sent == [TO] * 2


class WithoutHash(Full):
    """A caller's own ledger that is not hashable."""

    __hash__ = None  # type: ignore[assignment]


class Broken(MemoryLedger):
    """A caller's own ledger whose `finish` raises errors other than LedgerError."""

    async def finish(self, key: str, submission: Submission) -> None:
        raise TimeoutError if key == "k0" else KeyError(key)


@pytest.mark.parametrize("key", ["k0", "k1"])
async def test_any_error_in_recording_an_outcome_stops_further_messages(key: str) -> None:
    """Any error of `finish` makes later messages NotRecorded, for every client of the ledger."""
    transport = StubTransport()
    async with Broken() as ledger, recording(transport, ledger) as (client, _):
        await client.send_sms(to=TO, text="Hello", key=key)
        async with recording(transport, ledger) as (another, _):
            for _ in range(2):
                with pytest.raises(NotRecorded, match=r"an outcome before cannot be: [A-Z]"):
                    await another.send_sms(**KEYED)
            with pytest.raises(SendingHalted, match=r"an outcome before cannot be: [A-Z]"):
                await sent_all(another, [SMS(**KEYED)])
    assert transport.sent == [TO]


class Equal(Full):
    """A caller's own ledger that equals other ledgers which are kept elsewhere."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)

    def __hash__(self) -> int:
        return 0


class Slots:
    """A caller's own ledger that allows no weak references."""

    __slots__ = ("_full",)

    def __init__(self, full: Full) -> None:
        self._full = full

    def __getattr__(self, name: str) -> Any:
        return getattr(self._full, name)


@pytest.mark.parametrize("kind", [Full, Equal, WithoutHash])
@pytest.mark.parametrize("is_closed", [False, True])
async def test_an_outcome_is_written_by_another_client_of_the_ledger(
    kind: type[Full], is_closed: bool
) -> None:
    """Another client of the ledger records what a client, even a closed one, could not."""
    transport = StubTransport()
    async with kind() as ledger, AsyncExitStack() as first:
        client, _ = await first.enter_async_context(recording(transport, ledger))
        sent = await client.send_sms(**KEYED)
        if is_closed:
            await first.aclose()
        ledger.full = False
        async with recording(transport, ledger) as (another, _):
            again = await another.send_sms(**KEYED)
        assert (again, again.recorded) == (sent, True)
        assert await states(ledger) == {"order-17": "accepted"}
    assert transport.sent == [TO]


def test_an_outcome_is_written_in_another_event_loop() -> None:
    """An unrecorded outcome is recorded in a later event loop, of asyncio or trio."""
    transport, ledger = StubTransport(), Full()

    async def send(message: SMS) -> None:
        async with recording(transport, ledger) as (client, _):
            await sent_all(client, [message])

    turns = (("asyncio", True), ("trio", False), ("trio", True), ("asyncio", False))
    for message, (backend, is_full) in zip(messages(4), turns, strict=True):
        ledger.full = is_full
        anyio.run(send, message, backend=backend)
    assert set(anyio.run(states, ledger).values()) == {"accepted"}


def test_a_forked_process_makes_up_keys_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked process makes up keys that differ from those of its parent."""
    made_up = Recorder(MemoryLedger())._made_up
    first, second = next(made_up), next(made_up)
    monkeypatch.setattr(forks, "count", forks.count + 1)
    assert first.split("-")[0] == second.split("-")[0] != next(made_up).split("-")[0]


async def test_an_outcome_is_written_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked process records an unrecorded outcome when it sends its next message."""
    monkeypatch.setattr(forks, "count", forks.count + 1)
    async with Full() as ledger, recording(StubTransport(), ledger) as (client, _):
        await client.send_sms(**KEYED)
        ledger.full = False
        await client.send_sms(to=TO, text="Hello")
        assert set((await states(ledger)).values()) == {"accepted"}


async def test_an_outcome_is_written_to_no_other_ledger_that_equals_its_own() -> None:
    """An unrecorded outcome is recorded in its own ledger, and not in one that compares equal."""
    transport = StubTransport()
    async with Equal() as ledger, Equal() as other, recording(transport, ledger) as (client, _):
        await client.send_sms(**KEYED)
        other.full = False
        async with recording(transport, other) as (another, _):
            await another.send_sms(to=TO, text="Hello")
        ledger.full = False
        assert (await client.send_sms(**KEYED)).recorded
        assert await states(ledger) == {"order-17": "accepted"}


async def test_a_ledger_without_weak_references_gets_its_unrecorded_outcomes() -> None:
    """A ledger that allows no weak references gets unrecorded outcomes from the same client."""
    async with Full() as full:
        own: Any = Slots(full)
        async with recording(StubTransport(), own) as (client, _):
            await client.send_sms(**KEYED)
            full.full = False
        assert await states(full) == {"order-17": "accepted"}


async def test_nothing_is_kept_of_a_ledger_that_is_gone() -> None:
    """No unrecorded outcome is kept in memory once its ledger is deleted."""
    async with Full() as ledger, recording(StubTransport(), ledger) as (client, _):
        await client.send_sms(**KEYED)
        known_by = id(ledger)
        assert known_by in _by_ledger
    del ledger, client, _
    await anyio.wait_all_tasks_blocked()  # those of the client have ended, and are let go then
    gc.collect()
    assert known_by not in _by_ledger


class ThreadSafeLedger:
    """A caller's own ledger, which event loops in several threads may use at once."""

    def __init__(self) -> None:
        self.full = True
        self.rows: dict[str, Submission | None] = {}
        self.writes: list[str] = []
        self.meanwhile: Callable[[], object] | None = None  # done in another thread, at `k0`

    async def lookup(self, intent: SendIntent, **_word: bool) -> Submission | None:
        return self.rows.get(intent.key)

    async def begin(self, intent: SendIntent, **_settings: Any) -> None:
        self.rows[intent.key] = None

    async def finish(self, key: str, submission: Submission) -> None:
        if self.full:
            raise LedgerError("no room")
        if key == "k0" and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await anyio.to_thread.run_sync(meanwhile)
        self.rows[key] = submission
        self.writes.append(key)


def test_event_loops_in_many_threads_write_what_is_left() -> None:
    """Event loops in several threads record all unrecorded outcomes, and none fails."""
    ledger: Any = ThreadSafeLedger()
    transport = StubTransport()

    async def send(*keys: str) -> None:
        async with recording(transport, ledger) as (client, _):
            await sent_all(client, [SMS(to=TO, text="Hello", key=key) for key in keys])

    anyio.run(send, "k0", "k1")
    ledger.full, ledger.meanwhile = False, partial(anyio.run, send, "k2")
    anyio.run(send, "k3")
    assert {row.state.value for row in ledger.rows.values()} == {"accepted"}
    assert ledger.writes == ["k0", "k1", "k2", "k0", "k3"]


async def test_an_outcome_that_was_late_is_written_once() -> None:
    """A late outcome that two messages find unrecorded overwrites no newer one of its key."""
    hold = anyio.Event()

    class Slow(Full):
        """Makes the second who writes of the key `k0` wait."""

        writes = 0

        async def finish(self, key: str, submission: Submission) -> None:
            if key == "k0" and not self.full:
                self.writes += 1
                if self.writes > 1:
                    await hold.wait()
            await super().finish(key, submission)

    transport = StubTransport(lambda _to: NotSent("no connection"))
    async with Slow() as ledger, recording(transport, ledger) as (client, _):
        first, second = messages(2)
        await sent_all(client, [first, second])
        transport.answer = accepted
        transport.held = anyio.Event()
        ledger.full = False
        async with anyio.create_task_group() as group:
            group.start_soon(sent_all, client, [second])
            group.start_soon(lambda: client.send_sms(**KEYED))
            await anyio.wait_all_tasks_blocked()
            hold.set()
            await anyio.wait_all_tasks_blocked()
            transport.held.set()
        assert (await states(ledger))["k1"] == "accepted"


class MovedAfterCommit:
    """SQLite's connection to a ledger whose file is moved away just after a commit."""

    def __init__(self, path: str) -> None:
        self._connection = connect(path)
        self.path = Path(path)
        self.is_to_move = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *given: Any) -> Any:
        done = self._connection.execute(statement, *given)
        if statement == "COMMIT" and self.is_to_move:
            self.is_to_move = False
            self.path.rename(self.path.with_suffix(".away"))
        return done


async def test_an_outcome_that_was_written_and_told_as_an_error_ends_no_later_attempt(
    tmp_path: Path,
) -> None:
    """An outcome that was committed but reported as an error does not end a later attempt."""
    made: list[MovedAfterCommit] = []
    under_way: dict[str, str] = {}

    def connected(path: str) -> MovedAfterCommit:
        made.append(MovedAfterCommit(path))
        return made[-1]

    transport = StubTransport(lambda _to: NotSent("no connection"))
    transport.held = anyio.Event()
    async with (
        SQLiteLedger(tmp_path / "promo.db", connect=connected) as ledger,
        recording(transport, ledger) as (first, _),
        recording(transport, ledger) as (second, _),
    ):
        (connection,) = made
        async with anyio.create_task_group() as group:
            group.start_soon(failures, first)
            await until_sent(transport, 1)
            connection.is_to_move = True
            transport.held.set()
        connection.path.with_suffix(".away").rename(connection.path)
        transport.answer, transport.held = accepted, anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: second.send_sms(**KEYED))
            await until_sent(transport, 2)
            group.start_soon(lambda: first.send_sms(to="15551234889", text="Hello"))
            await until_sent(transport, 3)
            under_way |= await states(ledger)
            transport.held.set()
        assert under_way["order-17"] == "sending"
        assert (await states(ledger))["order-17"] == "accepted"


async def until_sent(transport: StubTransport, count: int) -> None:
    """Wait until `count` messages were sent."""
    with anyio.fail_after(10):
        while len(transport.sent) < count:  # noqa: ASYNC110 - no event says so
            await anyio.sleep(0.01)


async def reopen_in_flight(ledger: SQLiteLedger, transport: StubTransport) -> None:
    """Close a ledger and open it again while its first message is in flight."""
    await until_sent(transport, 1)
    await ledger.aclose()
    await ledger.open()


@pytest.mark.parametrize(
    ("answer", "state"), [(accepted, "accepted"), (lambda _to: refused("E110"), "rejected")]
)
async def test_an_outcome_counts_where_the_ledger_was_opened_again_meanwhile(
    tmp_path: Path, answer: Callable[[str], Answer], state: str
) -> None:
    """An outcome is recorded even if the ledger was reopened during the exchange."""
    transport = StubTransport(answer)
    transport.held = anyio.Event()
    meanwhile: dict[str, str] = {}
    ledger = SQLiteLedger(tmp_path / "promo.db")
    async with ledger, recording(transport, ledger) as (client, _):
        async with anyio.create_task_group() as group:
            group.start_soon(sent_all, client, [SMS(**KEYED)])
            await reopen_in_flight(ledger, transport)
            meanwhile |= await states(ledger)
            transport.held.set()
        assert meanwhile == {"order-17": "in_doubt"}
        assert await states(ledger) == {"order-17": state}


async def test_an_outcome_of_before_the_ledger_was_opened_again_ends_no_later_attempt(
    tmp_path: Path,
) -> None:
    """An outcome from before the ledger was reopened does not end a resend's attempt."""
    transport = StubTransport(lambda _to: refused("E110"))
    transport.held = held = anyio.Event()
    ledger = SQLiteLedger(tmp_path / "promo.db")
    async with ledger, recording(transport, ledger) as (client, _):
        async with anyio.create_task_group() as group:
            group.start_soon(sent_all, client, [SMS(**KEYED)])
            await reopen_in_flight(ledger, transport)
            transport.held = anyio.Event()
            group.start_soon(partial(client.send_sms, **KEYED, resend_in_doubt=True))
            await until_sent(transport, 2)
            held.set()
            await anyio.wait_all_tasks_blocked()
            transport.answer = accepted
            transport.held.set()
        assert await states(ledger) == {"order-17": "accepted"}


async def test_a_key_that_stays_under_way_is_waited_for_only_so_long() -> None:
    """A caller who waits for a key under way gets OutcomeUnknown when the timeout is over."""
    transport = StubTransport()
    transport.held = anyio.Event()
    async with (
        recording(transport) as (client, ledger),
        anyio.create_task_group() as group,
    ):
        group.start_soon(lambda: client.send_sms(**KEYED))
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(OutcomeUnknown, match="the same key may be under way still"):
            await client.with_options(timeout=0.05).send_sms(**KEYED)
        assert await states(ledger) == {"order-17": "sending"}
        transport.held.set()
    assert transport.sent == [TO]


async def test_a_ledger_that_times_out_by_itself_says_so() -> None:
    """A TimeoutError of a caller's own ledger is reported as the ledger's, and is the cause."""

    class Exhausted(MemoryLedger):
        async def begin(self, intent: SendIntent, **_options: Any) -> Submission | None:
            raise TimeoutError("no free connection in the pool")

    transport = StubTransport()
    async with recording(transport, Exhausted()) as (client, _):
        with pytest.raises(OutcomeUnknown, match=r"^the ledger timed out: ") as caught:
            await client.send_sms(**KEYED)
    assert str(caught.value.__cause__) == "no free connection in the pool"
    assert transport.sent == []


async def test_the_summary_counts_states_and_codes() -> None:
    """A ledger's summary counts a client's messages by state and by error code."""

    def mixed(to: str) -> Answer:
        made: list[Callable[[], Answer]] = [lambda: accepted(to), lambda: refused("E110")]
        return made[int(to) % 2]()

    async with recording(StubTransport(mixed)) as (client, ledger):
        await sent_all(client, messages(10))
        assert await ledger.summary() == Summary(
            states={MessageState.ACCEPTED: 5, MessageState.REJECTED: 5},
            codes={"E110": 5},
            reasons={},
            unplaced=0,
            opted_out=0,
        )


# A ledger that is none, or is not open, and a key without one.


@pytest.mark.parametrize("wrong", ["x.db", "postgresql://u:password@h/db", 7, SQLiteLedger])
def test_a_value_that_is_no_ledger_is_refused_at_once(wrong: Any) -> None:
    """A `ledger=` that is no ledger is refused, and a password in it is not shown."""
    with pytest.raises(ConfigurationError, match=r"ledger: a \w+ is no ledger") as caught:
        SkycoreClient(api_key="a key", transport=StubTransport(), ledger=wrong)
    assert "password" not in str(caught.value)


async def test_a_ledger_that_is_not_open_raises_runtime_error_at_once(
    tmp_path: Path,
) -> None:
    """Sending with a ledger that is not open raises RuntimeError, before and after it is open."""
    transport, ledger = StubTransport(), SQLiteLedger(tmp_path / "ledger.db")
    async with recording(transport, ledger) as (client, _):
        for _ in range(2):
            with pytest.raises(RuntimeError, match="ledger is not open: nothing can be sent"):
                await client.send_sms(to=TO, text="Hello", key="k")
            with pytest.raises(RuntimeError, match="ledger is not open: nothing can be sent"):
                client.send_many(messages(10))
            async with ledger:
                await client.send_sms(to=TO, text="Hello", key="k")
    assert len(transport.sent) == 1


async def test_a_ledger_that_is_closed_meanwhile_ends_a_bulk(tmp_path: Path) -> None:
    """A ledger closed during a bulk ends the bulk with RuntimeError, and nothing more is sent."""
    transport, ledger = StubTransport(), SQLiteLedger(tmp_path / "ledger.db")
    async with recording(transport, ledger, max_in_flight=1) as (client, _):
        await ledger.open()

        async def closing_it() -> AsyncIterator[SMS]:
            yield messages(1)[0]
            await ledger.aclose()
            for message in messages(10):
                yield message

        with pytest.raises(RuntimeError, match="this ledger is closed"):
            await sent_all(client, closing_it())
    assert len(transport.sent) <= 1


async def test_a_key_without_a_ledger_is_warned_of_once() -> None:
    """A client without a ledger warns once about `key=`, at the caller's line."""
    async with SkycoreClient(api_key="a key", from_="60856", transport=StubTransport()) as client:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await client.send_sms(to=TO, text="Hello")
            assert not caught
            await client.send_sms(to=TO, text="Hello", key="k")
            view = client.with_options(timeout=5)
            await view.send_sms(to=TO, text="Hello", key="k")
            await sent_all(client, messages(10))
    (warning,) = caught
    assert "key= does nothing without a ledger" in str(warning.message)
    assert warning.filename == __file__


async def test_a_key_of_a_bulk_without_a_ledger_is_warned_of_once() -> None:
    """A bulk without a ledger warns once about its keys."""
    async with SkycoreClient(api_key="a key", from_="60856", transport=StubTransport()) as client:
        with pytest.warns(UserWarning, match="key= does nothing without a ledger") as caught:
            await sent_all(client, messages(10))
    assert len(caught) == 1
