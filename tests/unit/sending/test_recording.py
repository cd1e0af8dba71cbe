"""A client that keeps a ledger: keys, doubt, halts and restarts, with the stub for a transport."""

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
    """Send them, and give every outcome."""
    async with client.send_many(source, **word) as outcomes:
        return [outcome async for outcome in outcomes]


async def states(ledger: Ledger) -> dict[str, str]:
    """Return the state of each message by its key."""
    return {delivery.key: str(delivery.state) async for delivery in ledger.deliveries()}


async def test_a_key_is_sent_once() -> None:
    """The second call with a key sends nothing, and gives the same Accepted."""
    transport = StubTransport()
    async with recording(transport) as (client, _):
        first = await client.send_sms(**KEYED)
        assert await client.send_sms(**KEYED) == first
        (outcome,) = await sent_all(client, [SMS(**KEYED)])
        assert outcome == first
    assert transport.sent == [TO]


async def test_a_key_used_by_two_at_once_is_sent_once() -> None:
    """Who comes while a key is under way gets its outcome."""
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
    """A key stands for one number, text and sender; how the number is written is no matter."""
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
async def test_what_was_looked_up_is_begun_with_its_digest_and_not_looked_up_again(
    rate: float | None,
) -> None:
    """A message that its sender has resolved and looked up is neither once more."""
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
async def test_a_key_that_is_none_is_refused(key: Any) -> None:
    """An empty key would make one message of many."""
    async with recording(StubTransport()) as (client, ledger):
        with pytest.raises(InvalidMessage, match="key:"):
            await client.send_sms(**KEYED | {"key": key})
        bad = SMS(to=TO, text="Hello", key=key)
        (outcome,) = await sent_all(client, [bad])
        assert isinstance(outcome, Failed)
        assert not await states(ledger)


async def test_messages_without_a_key_are_each_their_own() -> None:
    """Without a key every call is a message, and the ledger has them all."""
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
async def test_what_is_not_sent_may_start_again_and_nothing_else(
    answer: Answer, state: str, again: int
) -> None:
    """A key whose message may have been sent, or was refused for itself, sends no second time."""
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


async def test_doubt_is_sent_again_on_the_callers_word() -> None:
    """`resend_in_doubt` is the only way, for one message and for many."""
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
async def test_a_word_is_for_what_is_in_doubt_when_it_is_given(settings: dict[str, Any]) -> None:
    """Given while the message is under way, it sends no doubt again that comes of that."""
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


async def test_one_doubt_is_sent_again_by_one_of_two_words_for_it() -> None:
    """The other was for the doubt that is gone, and not for what came of sending it again."""
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
async def test_a_word_is_for_no_doubt_of_the_sending_that_it_is_given_for(
    is_looked_up: bool,
) -> None:
    """Of two messages with one key, the second sends not again what the first left in doubt."""
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
    """A ledger that answers what it is asked of messages once the first of those was told."""

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
async def test_a_word_is_for_no_doubt_that_is_read_before_its_outcome(words: int) -> None:
    """A message was to be looked up when the first with its key had come into doubt anew.

    Where that one was sent, the word is for the next doubt: it was given again.
    """
    transport = StubTransport(lambda _to: OutcomeUnknown("no answer"))
    async with SlowToRead() as slow, recording(transport, slow) as (client, _):
        await failures(client)
        for _ in range(words):
            slow.is_first, slow.has_ended = True, anyio.Event()
            outcomes = await sent_all(client, [SMS(**KEYED)] * 3, resend_in_doubt=True)
            assert sorted(outcome.recorded for outcome in outcomes) == [False, True, True]
    assert transport.sent == [TO] * (1 + words)


class SlowToWrite(MemoryLedger):
    """A ledger that is slow to write what came of a message, and to say what it has of another."""

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
async def test_a_word_is_for_no_doubt_that_is_just_being_written(has_another: bool) -> None:
    """Nobody has been told of it when the word is given, which is for the doubt before it.

    So it is where another client of the ledger is given the word.
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
    """A ledger that answers a second question about a message once the first of both was told."""

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
async def test_a_word_is_for_no_doubt_that_comes_while_it_waits_to_be_looked_up(
    has_another: bool,
) -> None:
    """It was given before that message was begun, and is looked up after its doubt is written."""
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
async def test_a_word_that_is_none_is_refused(name: str, word: Any) -> None:
    """A text would be one whatever it says, and what is no bool was taken for an opt-out."""
    transport = StubTransport()
    async with recording(transport) as (client, _):
        with pytest.raises(ConfigurationError, match=f"{name}: True or False is needed"):
            await client.send_sms(**KEYED, **{name: word})
        with pytest.raises(ConfigurationError, match=f"{name}: True or False is needed"):
            client.send_many([], **{name: word})
    assert transport.sent == []


async def test_a_number_that_opted_out_is_not_sent_to() -> None:
    """RecipientOptedOut, and nothing is sent, unless the caller says otherwise."""
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
    """Send what is throttled at first, with something that happens meanwhile."""
    transport = StubTransport(answers(refused("E106"), accepted(TO)))
    limiter = Between(meanwhile)
    sender = Dispatcher(transport, limiter, recorder=Recorder(ledger), chance=lambda: 0.0)
    outcome = await sender.send(SMS(**KEYED), attrs.evolve(SETTINGS, **word))
    await sender.tasks.close()
    return transport.sent, outcome


class Between:
    """A limiter that waits before each other try, until something has happened."""

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
    """What was throttled is tried seconds later, and a STOP that came meanwhile counts."""
    async with MemoryLedger() as ledger:
        sent, outcome = await tried_again(ledger, partial(ledger.opt_out, TO))
        assert sent == [TO]
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, RecipientOptedOut)
        assert await states(ledger) == {"order-17": "not_sent"}
        await ledger.opt_in(TO)
        _, outcome = await tried_again(ledger, anyio.lowlevel.checkpoint)
        assert isinstance(outcome, Accepted)


async def test_who_is_sent_to_all_the_same_is_tried_again() -> None:
    """The word for it holds for each try."""
    async with MemoryLedger() as ledger:
        opts_out = partial(ledger.opt_out, TO)
        sent, outcome = await tried_again(ledger, opts_out, ignore_opt_out=True)
    assert sent == [TO, TO]
    assert isinstance(outcome, Accepted)


async def test_where_nobody_can_tell_who_opted_out_nothing_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends as its last try did, and nothing is in doubt."""
    async with SQLiteLedger(tmp_path / "ledger.db") as ledger:
        sent, outcome = await tried_again(ledger, ledger.aclose)
    assert sent == [TO]
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, Throttled)
    assert "whether a number has opted out was not told: RuntimeError" in caplog.text


class OfTheCallers:
    """A ledger that has no more than a client needs."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self.lookup, self.begin, self.finish = ledger.lookup, ledger.begin, ledger.finish


async def test_who_leaves_while_the_ledger_is_asked_again_is_sent_no_other_try() -> None:
    """Nothing of the second try has left, so that what is known is that of the first."""
    transport = StubTransport(answers(refused("E106"), accepted(TO)))

    class Asked(OfTheCallers):
        async def is_opted_out(self, number: str) -> bool:
            assert number == TO
            caller.cancel()
            await settle()
            return False

    async with MemoryLedger() as ledger:
        asked: Any = Asked(ledger)
        limiter = Between(anyio.lowlevel.checkpoint)
        sender = Dispatcher(transport, limiter, recorder=Recorder(asked), chance=lambda: 0.0)
        with anyio.CancelScope() as caller:
            await sender.send(SMS(**KEYED), SETTINGS)
        await sender.tasks.close()
        assert caller.cancelled_caught
        assert transport.sent == [TO]
        assert await states(ledger) == {"order-17": "not_sent"}


async def test_a_ledger_of_the_callers_need_not_tell_who_opted_out() -> None:
    """What a client asks of one is what its protocol says, and it goes on without the rest."""
    async with MemoryLedger() as ledger:
        sent, outcome = await tried_again(OfTheCallers(ledger), anyio.lowlevel.checkpoint)
    assert sent == [TO, TO]
    assert isinstance(outcome, Accepted)


async def test_a_bulk_run_again_sends_only_what_was_not() -> None:
    """The same messages again give every outcome, and send what was left."""
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


async def test_what_is_recorded_takes_no_turn() -> None:
    """Going on with a bulk that was nearly done is not paced by what is done."""
    source = messages(30)
    transport = StubTransport()
    async with recording(transport, rate=0.001, burst=32) as (client, _):
        await sent_all(client, source)
        await sent_all(client, source)
        await client.send_sms(to=TO, text="Hello")
    assert len(transport.sent) == 31


async def test_a_halt_gives_back_what_was_taken() -> None:
    """What waits to start when the account is refused is NotSent, and can be given again."""
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
    """The ledger has what came of a message whose caller is gone."""
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
    """The ledger is not closed before it has what came of what was in flight."""
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
    """A message that only waits for others to end is called back, and may be sent again."""
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


async def test_no_more_are_under_way_than_are_in_flight() -> None:
    """However many call at once, a crash would leave only so many in doubt."""
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
async def test_only_where_starts_are_scarce_is_the_ledger_asked_before(
    rate: float | None, asked: int
) -> None:
    """What is recorded takes no start where those are few, and no step more where they are not."""

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
async def test_a_slot_that_does_not_come_in_time_is_not_sent() -> None:
    """The timeout bounds the wait for what is in flight too."""
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


async def test_an_intent_that_took_the_whole_timeout_is_not_sent() -> None:
    """Where no time is left for the exchange none begins, and so there is no doubt."""

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
    """An intent that cannot be made durable is not sent, and halts a bulk."""
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


async def test_a_ledger_that_cannot_be_looked_into_says_so_and_nothing_is_sent() -> None:
    """What failed is named: to read what came of the key before, and not to write its intent."""

    class Unreadable(MemoryLedger):
        async def lookup(self, intent: SendIntent, **word: Any) -> Submission | None:
            raise LedgerError("no disk")

    transport = StubTransport()
    async with Unreadable() as ledger, recording(transport, ledger, rate=1000) as (client, _):
        with pytest.raises(NotRecorded, match="cannot be read, so that nothing was sent: no disk"):
            await client.send_sms(**KEYED)
    assert not transport.sent


class Full(MemoryLedger):
    """A ledger that takes intents, and has no room for outcomes while it is `full`."""

    full = True

    async def finish(self, key: str, submission: Submission) -> None:
        if self.full:
            raise LedgerError("no room")
        await super().finish(key, submission)


async def test_an_outcome_that_cannot_be_written_is_still_given(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller has the tracking id, the log says so, and nothing else is sent meanwhile."""
    transport = StubTransport()
    async with Full() as ledger, recording(transport, ledger) as (client, _):
        assert (await client.send_sms(**KEYED)).tracking_id
        assert await states(ledger) == {"order-17": "sending"}
        with pytest.raises(NotSent, match="its intent could not be recorded: no room"):
            await client.send_sms(to=TO, text="Hello")
        ledger.full = False
    assert "the outcome of the message 'order-17' was not recorded: no room" in caplog.text
    assert transport.sent == [TO]


async def test_a_ledger_that_stays_full_is_told_of_once_and_without_the_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A key may hold the number, which is masked; closing the client has nothing to add."""
    async with Full() as ledger, recording(StubTransport(), ledger) as (client, _):
        await client.send_sms(to=TO, text="Hello", key=f"promo:{TO}")
    (record,) = caplog.records
    assert record.getMessage() == (
        f"the outcome of the message 'promo:{masked(TO)}' was not recorded: no room"
    )


async def test_what_is_in_flight_when_the_ledger_is_closed_is_still_given(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Closed before the client, the ledger costs no caller an outcome; nothing more is sent."""
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
    """What could not be written is not forgotten: the same key is not sent again."""
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
async def test_who_was_told_an_outcome_goes_by_it_when_there_is_room_again(
    rate: float | None, answer: Callable[[str], Answer], again: dict[str, Any]
) -> None:
    """It is written before the message is looked up, which is not said to be under way still."""
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
    """A ledger as of the caller's own, which is known by no hash."""

    __hash__ = None  # type: ignore[assignment]


class Broken(MemoryLedger):
    """A ledger as of the caller's own, which fails at outcomes with what is no LedgerError."""

    async def finish(self, key: str, submission: Submission) -> None:
        raise TimeoutError if key == "k0" else KeyError(key)


@pytest.mark.parametrize("key", ["k0", "k1"])
async def test_whatever_keeps_an_outcome_from_being_written_nothing_else_is_sent(key: str) -> None:
    """To no client of the ledger does it come as what may have become of its own message."""
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
    """A ledger as of the caller's own, which equals others that are kept elsewhere."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)

    def __hash__(self) -> int:
        return 0


class Slots:
    """A ledger as of the caller's own, to which no weak reference can be made."""

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
    """Also that of a client which is gone: its message is not under way until the program ends."""
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
    """A ledger outlives the loop in which it could not be written, of whichever kind that was."""
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
    """Also one that has the id of a process before: what two send under one key goes out once."""
    made_up = Recorder(MemoryLedger())._made_up
    first, second = next(made_up), next(made_up)
    monkeypatch.setattr(forks, "count", forks.count + 1)
    assert first.split("-")[0] == second.split("-")[0] != next(made_up).split("-")[0]


async def test_an_outcome_is_written_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """There each message that came after it was a TypeError, and it was written by nobody."""
    monkeypatch.setattr(forks, "count", forks.count + 1)
    async with Full() as ledger, recording(StubTransport(), ledger) as (client, _):
        await client.send_sms(**KEYED)
        ledger.full = False
        await client.send_sms(to=TO, text="Hello")
        assert set((await states(ledger)).values()) == {"accepted"}


async def test_an_outcome_is_written_to_no_other_ledger_that_equals_its_own() -> None:
    """It would be in neither: a ledger passes over what came of a message that it lacks."""
    transport = StubTransport()
    async with Equal() as ledger, Equal() as other, recording(transport, ledger) as (client, _):
        await client.send_sms(**KEYED)
        other.full = False
        async with recording(transport, other) as (another, _):
            await another.send_sms(to=TO, text="Hello")
        ledger.full = False
        assert (await client.send_sms(**KEYED)).recorded
        assert await states(ledger) == {"order-17": "accepted"}


async def test_a_ledger_without_weak_references_is_kept_by_each_client_alone() -> None:
    """One of the caller's own need have none, and the client writes what is left all the same."""
    async with Full() as full:
        own: Any = Slots(full)
        async with recording(StubTransport(), own) as (client, _):
            await client.send_sms(**KEYED)
            full.full = False
        assert await states(full) == {"order-17": "accepted"}


async def test_nothing_is_kept_of_a_ledger_that_is_gone() -> None:
    """A program may have one for each request."""
    async with Full() as ledger, recording(StubTransport(), ledger) as (client, _):
        await client.send_sms(**KEYED)
        known_by = id(ledger)
        assert known_by in _by_ledger
    del ledger, client, _
    await anyio.wait_all_tasks_blocked()  # those of the client have ended, and are let go then
    gc.collect()
    assert known_by not in _by_ledger


class OfManyThreads:
    """A ledger of the caller's own, which event loops in several threads may use at once."""

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
    """None fails where another was quicker, nor passes over an outcome for one that it wrote."""
    ledger: Any = OfManyThreads()
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
    """Two messages that find it unwritten do not write it over what its key became since."""
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


class Moving:
    """SQLite's connection to a ledger that somebody moves away just after a commit."""

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
    """Another client may have begun its key by then, as nothing was sent: that has its own."""
    made: list[Moving] = []
    under_way: dict[str, str] = {}

    def connected(path: str) -> Moving:
        made.append(Moving(path))
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
    """Wait until so many were sent."""
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
    """It was in doubt since nobody seemed to be sending it, and is so no more."""
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
    """What is sent again on the caller's word has an outcome of its own."""
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
    """Who waits for another task's sending is in doubt when the timeout is over."""
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
    """What a ledger of the caller's own raises is the cause; no other task is said to be there."""

    class Exhausted(MemoryLedger):
        async def begin(self, intent: SendIntent, **_options: Any) -> Submission | None:
            raise TimeoutError("no free connection in the pool")

    transport = StubTransport()
    async with recording(transport, Exhausted()) as (client, _):
        with pytest.raises(OutcomeUnknown, match=r"^the ledger timed out: ") as caught:
            await client.send_sms(**KEYED)
    assert str(caught.value.__cause__) == "no free connection in the pool"
    assert transport.sent == []


async def test_the_summary_counts_what_came_of_them() -> None:
    """A client's messages are counted by their states and codes."""

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
def test_what_is_no_ledger_is_refused_at_once(wrong: Any) -> None:
    """A name is none, and what may have a password in it is not shown."""
    with pytest.raises(ConfigurationError, match=r"ledger: a \w+ is no ledger") as caught:
        SkycoreClient(api_key="a key", transport=StubTransport(), ledger=wrong)
    assert "password" not in str(caught.value)


async def test_a_ledger_that_is_not_open_is_an_error_of_the_program_at_once(
    tmp_path: Path,
) -> None:
    """Before it is opened and after it is closed: no NotSent that is tried for ever."""
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
    """With an error of the program, and nothing is sent that is not recorded."""
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
    """By one warning a client, where it was called, and not for messages without a key."""
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
    """As that of one message is."""
    async with SkycoreClient(api_key="a key", from_="60856", transport=StubTransport()) as client:
        with pytest.warns(UserWarning, match="key= does nothing without a ledger") as caught:
            await sent_all(client, messages(10))
    assert len(caught) == 1
