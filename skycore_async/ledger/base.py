"""What all ledgers share: the methods of `Ledger`, each of which runs a command.

Strategy: subclasses differ in how they run a command: `MemoryLedger` at once, `SQLiteLedger` in a
thread with many in one transaction, `PostgresLedger` with many in one statement.  Whoever waits,
for a key that is under way or for a postback, waits for an event that is set when a command
changes it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar

import anyio

from ..errors import KeyConflict, LedgerInUse
from ..notifications import InboundSMS, Notification, UnknownNotification
from ..protocol import numbers, tracking_ids
from .commands import (
    Begin,
    Finish,
    GetDelivery,
    IsOptedOut,
    LedgerCommand,
    ListDeliveries,
    ListInbound,
    ListOptOutCandidates,
    ListOptOuts,
    ListUnplaced,
    Lookup,
    LookupMany,
    Record,
    SetOptOut,
    Summarize,
)
from .export import ExportedMessage
from .interface import check_notifications
from .list_commands import ListExported
from .model import Delivery, MessageState, SendIntent, Submission, Summary
from .opt_outs import OptOut
from .paging import pages_of, rows_of
from .prune_commands import (
    BeginPruning,
    CountPrunableBeside,
    EndPruning,
    NotePruned,
    PruneMessages,
    PruneNotifications,
)
from .pruning import Pruned, seconds_of
from .rules import UnderWay
from .waiters import Waiters

T = TypeVar("T")


class BaseLedger(ABC):
    """What all ledgers share; `Ledger` says what each method does."""

    def __init__(self, waiters: Waiters | None = None) -> None:
        self.waiters = waiters or Waiters()
        self._is_settling = False

    @abstractmethod
    async def run(self, command: LedgerCommand[T]) -> T:
        """Run a command, and return its result once it is as durable as this ledger makes it."""

    async def open(self) -> None:  # noqa: B027 - one that is always open has nothing to do
        """Open the ledger; do nothing if it is open."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the ledger."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # Sending.

    async def lookup(
        self, intent: SendIntent, *, resend_in_doubt: bool = False
    ) -> Submission | None:
        """Return what came of a message before; None if it may be begun or is under way."""
        return await self.run(Lookup(intent=intent, resend_in_doubt=resend_in_doubt))

    async def lookup_many(
        self, intents: Sequence[SendIntent], *, resend_in_doubt: bool = False
    ) -> dict[str, Submission | KeyConflict]:
        """Return what came of many messages before, by their keys.

        A key with other content has a KeyConflict.  Messages that may be begun or are under way
        are left out: `begin` decides about them.
        """
        return await self.run(LookupMany(intents=tuple(intents), resend_in_doubt=resend_in_doubt))

    async def begin(
        self,
        intent: SendIntent,
        *,
        resend_in_doubt: bool = False,
        ignore_opt_out: bool = False,
        timeout: float = math.inf,
    ) -> Submission | None:
        """Make an intent durable, and return None; or return what came of it before."""
        try:
            # Hardly any key is under way, so no event to wait for is made yet.
            return await self.run(
                Begin(
                    intent=intent, resend_in_doubt=resend_in_doubt, ignore_opt_out=ignore_opt_out
                )
            )
        except UnderWay:
            pass  # out here, what is raised below has no context
        with anyio.fail_after(timeout):
            return await self._begin_later(Begin(intent=intent, ignore_opt_out=ignore_opt_out))

    async def _begin_later(self, command: Begin) -> Submission | None:
        """Begin a message once its key is no longer under way, or return what came of it.

        Permission to resend was for an earlier doubt, and not for what comes of this attempt.
        """
        while True:
            with self.waiters.wait(command.intent.key) as changed:
                try:
                    return await self.run(command)
                except UnderWay:
                    await self._wait(changed)

    async def _wait(self, changed: anyio.Event) -> None:
        """Wait until there may have been a change."""
        await changed.wait()

    async def finish(self, key: str, submission: Submission) -> None:
        """Make durable what came of a message that was begun."""
        await self.run(Finish(key=key, submission=submission))

    # Postbacks.

    async def record(self, *notifications: Notification) -> None:
        """Take notifications in, all or none of them; one that came before changes nothing."""
        check_notifications(notifications)
        await self.run(Record(notifications=notifications))

    async def delivery(
        self, tracking_id: str | None = None, *, key: str | None = None
    ) -> Delivery | None:
        """Return what is known of a message, by its tracking id or its key; None if nothing is.

        Raises TypeError if both are given, or neither.
        """
        _one_name(tracking_id, key)
        return await self.run(GetDelivery(tracking_id=tracking_id, key=key))

    async def wait_for(
        self, tracking_id: str | None = None, *, key: str | None = None, timeout: float
    ) -> Delivery:
        """Wait until a message is delivered or failed, and return what is known of it.

        Raises TimeoutError if it is neither within `timeout` seconds, and TypeError if both its
        tracking id and its key are given, or neither.
        """
        name = _one_name(tracking_id, key)
        with anyio.fail_after(timeout):
            while True:
                with self.waiters.wait(name) as changed:
                    delivery = await self.delivery(tracking_id, key=key)
                    if delivery is not None and delivery.state.is_final:
                        return delivery
                    await self._wait(changed)

    # Looking.

    async def summary(self) -> Summary:
        """Return how many messages are in each state, and what else is counted."""
        return await self.run(Summarize())

    def deliveries(self, state: MessageState | None = None) -> AsyncIterator[Delivery]:
        """Yield every message in that state, or every message, in the order of their intents."""
        only = None if state is None else MessageState(state)
        return rows_of(self, lambda after: ListDeliveries(state=only, after=after))

    def export(self, state: MessageState | None = None) -> AsyncIterator[ExportedMessage]:
        """Yield every message as one flat row, those in that state or all, in order."""
        only = None if state is None else MessageState(state)
        return rows_of(self, lambda after: ListExported(state=only, after=after))

    def unplaced(self) -> AsyncIterator[Notification]:
        """Yield the notifications for messages that this ledger does not know."""
        return rows_of(self, lambda after: ListUnplaced(after=after))

    async def inbound(self) -> AsyncIterator[InboundSMS]:
        """Yield the texts that handsets sent, in the order in which they came."""
        async for _, came in rows_of(self, lambda after: ListInbound(after=after)):
            if isinstance(came, InboundSMS):
                yield came

    async def unreadable(self) -> AsyncIterator[UnknownNotification]:
        """Yield the parts of postbacks that could not be read, in the order in which they came."""
        async for _, came in rows_of(self, lambda after: ListInbound(after=after)):
            if not isinstance(came, InboundSMS):
                yield came

    # Forgetting.

    async def prune(self, *, older_than: timedelta) -> Pruned:
        """Remove numbers, texts and answers older than `older_than`, and return how many.

        No pruned message is sent again: it keeps its state, its times, and the digest of its key.
        Messages under way or in doubt keep everything.  Notifications of that age without a
        message are removed, and so are texts from handsets.  Opt-outs stay.

        Pruning proceeds in small steps, and the ledger can be used meanwhile.  If it is broken
        off, call it again.  Raises ConfigurationError for less than 7 days, in which receipts
        come, and LedgerError if what was removed may still be in a file.
        """
        begun = await self.run(BeginPruning(older_than=seconds_of(older_than)))
        before, until = begun.before, begun.until
        await self._wait_for_others()
        messages = notifications = 0
        async for part in pages_of(self, lambda after: PruneMessages(before=before, after=after)):
            messages += part.messages
            notifications += part.notifications
            until = max(until, part.until)
        while removed := await self.run(PruneNotifications(before=before)):
            notifications += removed
        await self.run(NotePruned(marked=before, until=until))
        _, in_doubt = await self.run(CountPrunableBeside(before=before))
        await self._end_pruning(before)
        return Pruned(messages=messages, notifications=notifications, in_doubt=in_doubt)

    async def _wait_for_others(self) -> None:  # noqa: B027 - most have a single writer
        """Wait until all other writers know that messages are pruned."""

    async def _end_pruning(self, before: float) -> None:
        """Prune what is left besides, and erase what was removed."""
        await self.run(EndPruning())

    @asynccontextmanager
    async def settling(self) -> AsyncGenerator[None]:
        """Reserve the settling of doubts for as long as this is entered.

        Raises LedgerInUse if they are being settled elsewhere.
        """
        if self._is_settling:
            raise LedgerInUse(
                "the ledger's doubts are being settled already: wait for that to end"
            )
        self._is_settling = True
        try:
            yield
        finally:
            self._is_settling = False

    # Opting out.

    def opt_out_candidates(self) -> AsyncIterator[InboundSMS]:
        """Yield the undecided texts that may opt their numbers out."""
        return rows_of(self, lambda after: ListOptOutCandidates(after=after))

    async def opt_out(self, number: str) -> None:
        """Opt a number out, so that it is not sent to; InvalidMessage if it is no number."""
        await self.run(SetOptOut(number=numbers.number(number), out=True))

    async def opt_in(self, number: str) -> None:
        """Opt a number in again, so that it may be sent to; InvalidMessage if it is no number."""
        await self.run(SetOptOut(number=numbers.number(number), out=False))

    async def opt_outs(self) -> AsyncIterator[OptOut]:
        """Yield the latest opt-out or opt-in of each number that has one."""
        after = ""
        while page := await self.run(ListOptOuts(after=after)):
            for entry in page:
                yield entry
            after = page[-1].number

    async def opt_outs_version(self) -> object:
        """Return a value that is another one if an opt-out changed that no waiter is told of."""
        return None

    async def is_opted_out(self, number: str) -> bool:
        """Return whether a number has opted out; InvalidMessage if it is no number."""
        return await self.run(IsOptedOut(number=numbers.number(number)))


def _one_name(tracking_id: str | None, key: str | None) -> str:
    """Return the name that waiters know a message by: its key, or its tracking id's plain form."""
    if (tracking_id is None) == (key is None):
        raise TypeError("give a tracking id or a key, and not both")
    return key or tracking_ids.plain(tracking_id or "")
