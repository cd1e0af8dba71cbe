"""What all ledgers share: the calls of `Ledger`, each of them a command.

Strategy: a subclass says how a command is run: `MemoryLedger` at once, `SQLiteLedger`
in a thread and many in one transaction, `PostgresLedger` many in one statement.  To wait,
for a key that is under way or for a postback, is to wait for an event that is set when a
command has changed what is waited for.
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
    """What all ledgers share; see `Ledger` for what each call does."""

    def __init__(self, waiters: Waiters | None = None) -> None:
        self.waiters = waiters or Waiters()
        self._is_settling = False

    @abstractmethod
    async def run(self, command: LedgerCommand[T]) -> T:
        """Run a command, and return its result once that is as durable as this ledger makes it."""

    async def open(self) -> None:  # noqa: B027 - one that is always open has nothing to do
        """Open what it is kept in; again does nothing."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close what it is kept in."""

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
        """Return what came of a message before; None where it may be begun or is under way."""
        return await self.run(Lookup(intent=intent, resend_in_doubt=resend_in_doubt))

    async def lookup_many(
        self, intents: Sequence[SendIntent], *, resend_in_doubt: bool = False
    ) -> dict[str, Submission | KeyConflict]:
        """Return what came of many messages before, by their keys, at once.

        A KeyConflict stands for a key that has other content.  Those that may be begun
        or are under way are not in it: they are for `begin` to judge.
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
            # Nearly no key is under way: an event to wait for would be made for nothing.
            return await self.run(
                Begin(
                    intent=intent, resend_in_doubt=resend_in_doubt, ignore_opt_out=ignore_opt_out
                )
            )
        except UnderWay:
            pass  # and what is raised from here on has nothing to do with it
        with anyio.fail_after(timeout):
            return await self._begin_later(Begin(intent=intent, ignore_opt_out=ignore_opt_out))

    async def _begin_later(self, command: Begin) -> Submission | None:
        """Begin a message once its key is not under way any more, or return what came of it.

        The leave to send again was for an earlier doubt, not for what comes of this.
        """
        while True:
            with self.waiters.wait(command.intent.key) as changed:
                try:
                    return await self.run(command)
                except UnderWay:
                    await self._wait(changed)

    async def _wait(self, changed: anyio.Event) -> None:
        """Wait until there may be a change."""
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

        Raises TypeError where both are given, or neither.
        """
        _one_name(tracking_id, key)
        return await self.run(GetDelivery(tracking_id=tracking_id, key=key))

    async def wait_for(
        self, tracking_id: str | None = None, *, key: str | None = None, timeout: float
    ) -> Delivery:
        """Wait until a message is delivered or failed, and return what is known of it.

        Raises TimeoutError where it is neither within `timeout` seconds, and TypeError where both
        its tracking id and its key are given, or neither.
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
        """Forget the numbers, texts and answers of what is so old, and return how much that was.

        Nothing of it is sent again.  Messages that were begun so long ago keep their states and
        times, and the digests of their keys; those under way or in doubt keep all they have.
        Notifications that came so long ago and have no message go, and texts from handsets.  Who
        opted out stays so.

        It is done a little at a time, and whoever uses the ledger goes on meanwhile.  Broken
        off, it is called again.  Raises ConfigurationError for less than 7 days, in which
        receipts come, and LedgerError where what was removed may still be in a file.
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

    async def _wait_for_others(self) -> None:  # noqa: B027 - most are written to by one alone
        """Wait until whoever else writes to it knows that messages are pruned."""

    async def _end_pruning(self, before: float) -> None:
        """Prune what else there is, and see to it that what was removed is gone."""
        await self.run(EndPruning())

    @asynccontextmanager
    async def settling(self) -> AsyncGenerator[None]:
        """Hold for as long as this process holds its doubts against a report.

        Raises LedgerInUse where that is done elsewhere.
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
        """Yield texts that may opt their numbers out, which nobody has decided since."""
        return rows_of(self, lambda after: ListOptOutCandidates(after=after))

    async def opt_out(self, number: str) -> None:
        """Mark a number as one that may not be sent to; InvalidMessage where it is no number."""
        await self.run(SetOptOut(number=numbers.number(number), out=True))

    async def opt_in(self, number: str) -> None:
        """Mark a number as one that may be sent to; InvalidMessage where it is no number."""
        await self.run(SetOptOut(number=numbers.number(number), out=False))

    async def opt_outs(self) -> AsyncIterator[OptOut]:
        """Yield the latest opt-out or opt-in of each number that has one."""
        after = ""
        while page := await self.run(ListOptOuts(after=after)):
            for entry in page:
                yield entry
            after = page[-1].number

    async def is_opted_out(self, number: str) -> bool:
        """Return whether a number may not be sent to; InvalidMessage where it is no number."""
        return await self.run(IsOptedOut(number=numbers.number(number)))


def _one_name(tracking_id: str | None, key: str | None) -> str:
    """Return the name by which changes are told, which is the plain form of a tracking id."""
    if (tracking_id is None) == (key is None):
        raise TypeError("give a tracking id or a key, and not both")
    return key or tracking_ids.plain(tracking_id or "")
