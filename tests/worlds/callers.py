"""The callers of the package: they send, leave, send again, opt out.

Rule: a caller may leave any call at any moment, by a scope or by a native cancellation, and no
caller gets an outcome that the provider's books do not confirm.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import anyio
import attrs

from skycore_async import (
    SMS,
    BulkSend,
    Delivery,
    Failed,
    LedgerError,
    MemoryLedger,
    Outcome,
    SkycoreClient,
    SkycoreError,
    SQLiteLedger,
)
from skycore_async.errors import SendingHalted
from skycore_async.receiving.receiver import PostbackReceiver

from .bulk import send_rows
from .events import Bulk, Message, OptOut, Send, SendMany, Wait, key_of, number_of
from .log import Accident
from .notes import Call, Notes
from .provider import Posted, Provider, body_of, name_in, plain, text_of

_SOON: Final = 2.0  # seconds in which who waits is told, and more than a few threads take


@attrs.frozen
class Taker:
    """Who takes postbacks in elsewhere: what it hears of opting out counts `lag` seconds later."""

    receiver: PostbackReceiver
    lag: float
    on_taken: Callable[[], None]

    @classmethod
    def of(
        cls, receiver: PostbackReceiver | None, *, lag: float, on_taken: Callable[[], None]
    ) -> Taker | None:
        """Make one, where there is a receiver."""
        return None if receiver is None else cls(receiver, lag, on_taken)


class Callers:
    """What is done with one client, one ledger and one receiver while they are open."""

    def __init__(
        self,
        provider: Provider,
        notes: Notes,
        names: Iterator[int],
        *,
        client: SkycoreClient,
        ledger: SQLiteLedger | MemoryLedger,
        in_flight: int,
        holds_up: bool,
        may_be_late: bool,
        beside: Taker | None,
        other: Taker | None,
        on_choice: Callable[[], None],
    ) -> None:
        self._provider = provider
        self.notes = notes
        self._names = names
        self._client = client
        self._ledger = ledger
        self._in_flight = in_flight
        self._holds_up = holds_up  # what has a slot may wait before it is begun
        self.may_be_late = may_be_late  # what is heard elsewhere, as a disk may be full
        self.is_gone = False  # the process has ended, and nobody sees what it does
        self._taker = Taker(PostbackReceiver(ledger=ledger), 0.0, lambda: None)
        self._beside = beside
        self._other = other
        self._on_choice = on_choice  # called when a number has opted out or in

    def _sms(self, message: Message) -> tuple[SMS, str]:
        name = key_of(message) or f"n{next(self._names)}"
        text = text_of(name, message.version)
        return SMS(to=number_of(message.number), text=text, key=key_of(message)), name

    def _begin(
        self,
        name: str,
        version: int,
        to: str,
        *,
        word: bool,
        is_one: bool = False,
        is_prompt: bool = False,
    ) -> Call:
        return self.notes.begin(
            self._provider, name, version, to, word=word, is_one=is_one, is_prompt=is_prompt
        )

    def _is_free(self) -> bool:
        """Return whether what is sent now is begun at once."""
        is_held_up = self._holds_up or self._provider.throttles
        return not is_held_up and self._client._dispatcher.admission.taken < self._in_flight

    async def send(self, event: Send) -> None:
        """Send one message."""
        sms, name = self._sms(event.message)
        version = event.message.version
        is_prompt = event.leaves is None and self._is_free()
        call = self._begin(
            name, version, sms.to, word=event.word, is_one=True, is_prompt=is_prompt
        )

        async def send() -> None:
            try:
                accepted = await self._client.send_sms(
                    to=sms.to, text=sms.text, key=sms.key, resend_in_doubt=event.word
                )
            except SkycoreError as error:
                failed = Failed(message=sms, error=error)
                self.notes.end(self._provider, call, failed)
            except RuntimeError as error:
                self.refused(error, call)
            except Accident:
                self.notes.leave(call)
            else:
                self.notes.end(self._provider, call, accepted)

        if not await left(send, event.leaves, natively=event.natively):
            return
        self.notes.leave(call)

    def refused(self, error: RuntimeError, *calls: Call) -> None:
        """Take in that what is closed can do nothing."""
        if "closed" not in str(error) and "not open" not in str(error):
            self.notes.break_rule(f"a caller was told {error!r}")
        for call in calls:
            self.notes.leave(call)

    async def send_many(self, event: SendMany) -> None:
        """Send many messages."""
        calls: dict[int, tuple[SMS, Call]] = {}  # by the identities of messages that were taken

        def taken() -> Iterator[SMS]:
            for message in event.messages:
                sms, name = self._sms(message)
                calls[id(sms)] = sms, self._begin(name, message.version, sms.to, word=event.word)
                yield sms

        async def taken_later() -> AsyncIterator[SMS]:
            for sms in taken():
                await anyio.sleep(self._provider.delay())
                yield sms

        async def send() -> None:
            source = taken_later() if event.is_async else taken()
            try:
                sending = self._client.send_many(source, resend_in_doubt=event.word)
                await self._read(sending, calls, most=event.reads)
            except (SendingHalted, Accident):
                pass
            except RuntimeError as error:
                self.refused(error)

        await left(send, event.leaves, natively=event.natively)
        for _, call in calls.values():
            self.notes.leave(call)

    async def _read(
        self, sending: BulkSend, calls: dict[int, tuple[SMS, Call]], *, most: int | None
    ) -> None:
        """Read the outcomes of many messages, or as many as are asked for."""
        async with sending as outcomes:
            read = 0
            async for outcome in outcomes:
                _, call = calls.pop(id(outcome.message))
                self.notes.end(self._provider, call, outcome)
                read += 1
                if read == most:
                    break

    async def bulk(self, event: Bulk) -> None:
        """Send many messages as the command line does."""
        calls: dict[str, Call] = {}

        def begin(sms: SMS) -> None:
            name, version = name_in(sms.text)
            calls[name] = self._begin(name, version, sms.to, word=event.word)

        def end(outcome: Outcome) -> None:
            self.notes.end(self._provider, calls.pop(outcome.message.key or ""), outcome)

        broken: list[str] = []
        try:
            broken = await send_rows(
                self._client,
                self._ledger,
                event.messages,
                word=event.word,
                in_flight=self._in_flight,
                on_begin=begin,
                on_outcome=end,
            )
        except (LedgerError, Accident):
            pass
        except RuntimeError as error:
            self.refused(error)
        for call in calls.values():
            self.notes.leave(call)
        for each in () if self.is_gone else broken:
            self.notes.break_rule(each)

    async def opt_out(self, event: OptOut) -> None:
        """Have a number opt out or in."""
        if self.is_gone:
            return
        number = number_of(event.number)
        self.notes.choose(number, is_out=event.is_out)
        if event.by_text:
            self._provider.post_text(number, "STOP" if event.is_out else "START").choice = (
                number,
                event.is_out,
            )
            return
        try:
            await (self._ledger.opt_out if event.is_out else self._ledger.opt_in)(number)
        except (RuntimeError, LedgerError) as error:
            if isinstance(error, RuntimeError):
                self.refused(error)
            return  # and so it stays unclear
        self._chose(number, event.is_out, lag=0.0)

    async def wait(self, event: Wait) -> None:
        """Wait for a message to come to its end, of which is told in time."""
        try:
            await self._wait(f"k{event.key}", event.timeout)
        except RuntimeError as error:
            self.refused(error)
        except LedgerError:
            pass  # its disk is full

    async def _wait(self, key: str, timeout: float) -> None:
        until = self._provider.now() + timeout
        try:
            delivery = await self._ledger.wait_for(key=key, timeout=timeout)
        except TimeoutError:
            is_clear = timeout > _SOON and not self.notes.open_calls[key]
            is_clear &= self._beside is None  # what is taken in there is told later
            if is_clear and not self.is_gone:
                self._waited_in_vain(key, await self._ledger.delivery(key=key), until)
        else:
            if not self.is_gone and not delivery.state.is_final:
                self.notes.break_rule(f"who waited for {key} is told that it is {delivery.state}")

    def _waited_in_vain(self, key: str, delivery: Delivery | None, until: float) -> None:
        """Hold it against the postbacks that somebody waited, and was not told of an end."""
        if delivery is None or delivery.tracking_id is None or not delivery.state.is_final:
            return
        known = [
            posted.answered_at
            for posted in self._provider.postbacks
            if posted.is_taken
            and posted.told is not None
            and posted.told.kind != "sent"
            and posted.submission is not None
            and posted.submission.id == plain(delivery.tracking_id)
        ]
        since = max(min(known, default=until), self.notes.ended.get(key, until))
        if delivery.settled_by is None and since < until - _SOON:
            self.notes.break_rule(f"who waited for {key} was not told that it is {delivery.state}")

    async def post(self, together: Sequence[Posted]) -> None:
        """Post postbacks in one body."""
        status, taker = None, self._taker_of(together)
        with anyio.move_on_after(10):
            status = await status_of(taker.receiver, body_of(together))
        if self.is_gone:
            return
        taker.on_taken()
        for posted in together:
            self._provider.answered(posted, status, is_beside=taker is self._beside)
            if status == 200 and posted.choice is not None:
                self._chose(*posted.choice, lag=taker.lag)

    def _chose(self, number: str, is_out: bool, *, lag: float) -> None:
        """Note that a number has opted out or in, which is known here some time later."""
        if lag and self.may_be_late:
            return  # and so it stays unclear
        self.notes.chose(number, is_out=is_out, now=self._provider.now() + lag)
        self._on_choice()

    def _taker_of(self, together: Sequence[Posted]) -> Taker:
        """Return who takes these in; the other ledger hears of opting out alone."""
        takers = [self._taker, self._beside]
        if any(each.choice for each in together):
            takers.append(self._other)
        return self._provider.one_of([taker for taker in takers if taker is not None])


async def status_of(receiver: PostbackReceiver, body: bytes) -> int:
    """Post a body, and return what was answered."""
    given: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            given.append(message["status"])

    scope = {"type": "http", "method": "POST", "path": "/postback", "headers": []}
    await receiver(scope, receive, send)
    return given[0]


async def left(
    call: Callable[[], Awaitable[None]], after: float | None, *, natively: bool
) -> bool:
    """Call, and leave after so many seconds; return whether that came before its end."""
    if after is None:
        await call()
        return False
    if natively and asyncio._get_running_loop() is not None:
        return await _left_natively(call, after)
    with anyio.move_on_after(after) as scope:
        await call()
    return scope.cancelled_caught


async def _left_natively(call: Callable[[], Awaitable[None]], after: float) -> bool:
    async def called() -> None:
        await call()

    task = asyncio.get_running_loop().create_task(called())
    ended = anyio.Event()
    task.add_done_callback(lambda _: ended.set())
    with anyio.move_on_after(after):
        await ended.wait()
    task.cancel()
    await ended.wait()
    if task.cancelled():
        return True
    task.result()
    return False
