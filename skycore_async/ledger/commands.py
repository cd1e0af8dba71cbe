"""A ledger made of steps, and waiting for news of what they change.

Strategy: every call is a step, by its name and its arguments, that is taken over
a store, and the subclass says how: `MemoryLedger` at once, `SQLiteLedger` in a
thread and many in one transaction, `PostgresLedger` many in one statement.  Who
waits, for a key under way or for a postback, waits for an event that is set when
a step has touched what it waits for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Protocol, Self, TypeVar

import anyio

from ..errors import LedgerError
from ..notifications import Notification
from ..protocol import numbers
from .model import Delivery, MessageState, SendIntent, Submission, Summary

P = ParamSpec("P")
T = TypeVar("T")

_WITHDRAWN: Final = Submission(
    state=MessageState.NOT_SENT, info="its sending was cancelled before it began"
)


class UnderWay(Exception):
    """The key is being sent: no error, but one must wait."""


class Postponed(LedgerError):
    """What could not be written is kept by the ledger, which writes it as soon as it can."""


class LedgerStore(Protocol):
    """What a store can be asked and told, each in one transaction; see `Ledger`."""

    def lookup(self, intent: SendIntent, *, resend_in_doubt: bool) -> Submission | None:
        """Return what came of a message before; None where it may be begun or is under way."""
        ...

    def lookup_many(
        self, intents: Sequence[SendIntent], *, resend_in_doubt: bool
    ) -> dict[str, Submission]:
        """Return what came of many messages before, by their keys; no conflict is raised."""
        ...

    def begin(
        self, intent: SendIntent, *, resend_in_doubt: bool, ignore_opt_out: bool
    ) -> Submission | None:
        """Write an intent and return None, or give what came of it before.

        Raises UnderWay, KeyConflict and RecipientOptedOut, and has written nothing then.
        """
        ...

    def finish(self, key: str, submission: Submission) -> None:
        """Write what came of a message that was begun."""
        ...

    def record(self, notifications: Collection[Notification]) -> None:
        """Write notifications, each once."""
        ...

    def delivery(self, *, tracking_id: str | None, key: str | None) -> Delivery | None:
        """Return what is known of one message."""
        ...

    def page(self, state: MessageState | None, after: int) -> tuple[list[Delivery], int | None]:
        """Return a page of messages after that id, and the last id if there may be more."""
        ...

    def unplaced(self, after: int) -> tuple[list[Notification], int | None]:
        """Return some notifications without a message, as `page` does messages."""
        ...

    def summary(self) -> Summary:
        """Count what there is."""
        ...

    def mark(self, number: str, *, out: bool) -> None:
        """Mark or unmark a number now."""
        ...

    def is_opted_out(self, number: str) -> bool:
        """Return whether a number may not be sent to."""
        ...


class LedgerCommand:
    """A step to take: which of `LedgerStore`, and with what."""

    __slots__ = ("arguments", "name", "settings")

    def __init__(
        self, name: str, arguments: tuple[Any, ...] = (), settings: dict[str, Any] | None = None
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.settings = settings or {}

    def take(self, store: object) -> Any:
        """Take it over a store, which has a method for it, and return what comes of it."""
        return getattr(store, self.name)(*self.arguments, **self.settings)


def withdrawal(step: LedgerCommand, result: Any) -> LedgerCommand | None:
    """Return the step that takes back what a step began, if it did, for a caller who is gone."""
    if step.name != "begin" or result is not None:
        return None
    return LedgerCommand("finish", (step.arguments[0].key, _WITHDRAWN), attempt_of(step))


def attempt_of(step: LedgerCommand) -> dict[str, Any]:
    """Return what tells an attempt from others; nothing where there is only one."""
    return {name: step.settings[name] for name in ("attempt", "fence") if name in step.settings}


class BaseLedger(ABC):
    """What all ledgers share; see `Ledger` for what each call does."""

    def __init__(self, news: Waiters | None = None) -> None:
        self._news = news or Waiters()

    @abstractmethod
    def take(self, step: LedgerCommand) -> Awaitable[Any]:
        """Take a step, and return when it is as durable as this ledger makes it."""

    def _run(
        self,
        step: Callable[Concatenate[LedgerStore, P], T],
        *arguments: P.args,
        **settings: P.kwargs,
    ) -> Awaitable[T]:
        return self.take(LedgerCommand(step.__name__, arguments, settings))

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

    async def lookup(
        self, intent: SendIntent, *, resend_in_doubt: bool = False
    ) -> Submission | None:
        """Return what came of a message before; None where it may be begun or is under way."""
        return await self._run(LedgerStore.lookup, intent, resend_in_doubt=resend_in_doubt)

    async def lookup_many(
        self, intents: Sequence[SendIntent], *, resend_in_doubt: bool = False
    ) -> dict[str, Submission]:
        """Return what came of many messages before, by their keys, in one step.

        Those that may be begun, are under way or have other content are not in it:
        each of them is for `known` or `begin` to judge.
        """
        return await self._run(LedgerStore.lookup_many, intents, resend_in_doubt=resend_in_doubt)

    async def begin(
        self,
        intent: SendIntent,
        *,
        resend_in_doubt: bool = False,
        ignore_opt_out: bool = False,
        timeout: float = math.inf,
    ) -> Submission | None:
        """Make an intent durable, and return None; or give what came of it before."""
        try:
            # Nearly no key is under way: to listen for news would be for nothing.
            return await self._run(
                LedgerStore.begin,
                intent,
                resend_in_doubt=resend_in_doubt,
                ignore_opt_out=ignore_opt_out,
            )
        except UnderWay:
            pass  # and what is raised from here on has nothing to do with it
        with anyio.fail_after(timeout):
            return await self._begin_later(intent, ignore_opt_out=ignore_opt_out)

    async def _begin_later(self, intent: SendIntent, *, ignore_opt_out: bool) -> Submission | None:
        """Begin a message once its key is not under way any more, or give what came of it."""
        while True:
            with self._news.of(intent.key) as news:
                try:
                    # The word to send again was on an earlier doubt, not on what came of this.
                    return await self._run(
                        LedgerStore.begin,
                        intent,
                        resend_in_doubt=False,
                        ignore_opt_out=ignore_opt_out,
                    )
                except UnderWay:
                    await self._hear(news)

    async def _hear(self, news: anyio.Event) -> None:
        """Wait until there may be news."""
        await news.wait()

    async def finish(self, key: str, submission: Submission) -> None:
        """Make durable what came of a message that was begun."""
        await self._run(LedgerStore.finish, key, submission)

    async def record(self, *notifications: Notification) -> None:
        """Take notifications in, all or none of them; one that came before changes nothing."""
        await self._run(LedgerStore.record, notifications)

    async def delivery(
        self, tracking_id: str | None = None, *, key: str | None = None
    ) -> Delivery | None:
        """Return what is known of a message, by its tracking id or its key."""
        _one_name(tracking_id, key)
        return await self._run(LedgerStore.delivery, tracking_id=tracking_id, key=key)

    async def wait_for(
        self, tracking_id: str | None = None, *, key: str | None = None, timeout: float
    ) -> Delivery:
        """Wait until a message is delivered or failed, `timeout` seconds at most.

        Raises TimeoutError where it is neither by then.
        """
        name = _one_name(tracking_id, key)
        with anyio.fail_after(timeout):
            while True:
                with self._news.of(name) as news:
                    delivery = await self.delivery(tracking_id, key=key)
                    if delivery is not None and delivery.state.is_final:
                        return delivery
                    await self._hear(news)

    async def summary(self) -> Summary:
        """Count what there is."""
        return await self._run(LedgerStore.summary)

    async def deliveries(self, state: MessageState | None = None) -> AsyncIterator[Delivery]:
        """Return every message in that state, or every message, in the order of their intents."""
        after: int | None = 0
        while after is not None:
            found, after = await self._run(LedgerStore.page, state, after)
            for delivery in found:
                yield delivery

    async def unplaced(self) -> AsyncIterator[Notification]:
        """Return the notifications for messages that this ledger does not know."""
        after: int | None = 0
        while after is not None:
            found, after = await self._run(LedgerStore.unplaced, after)
            for notification in found:
                yield notification

    async def opt_out(self, number: str) -> None:
        """Mark a number as one that may not be sent to."""
        await self._run(LedgerStore.mark, numbers.number(number), out=True)

    async def opt_in(self, number: str) -> None:
        """Unmark a number."""
        await self._run(LedgerStore.mark, numbers.number(number), out=False)

    async def is_opted_out(self, number: str) -> bool:
        """Return whether a number may not be sent to."""
        return await self._run(LedgerStore.is_opted_out, numbers.number(number))


def _one_name(tracking_id: str | None, key: str | None) -> str:
    if (tracking_id is None) == (key is None):
        raise TypeError("give a tracking id or a key, and not both")
    return tracking_id or key or ""


class Waiters:
    """Who waits for news of a key or a tracking id."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[anyio.Event]] = {}

    def of(self, name: str) -> _Waiting:
        """Listen, while the context is open, for news of a name."""
        return _Waiting(self._waiting, name)

    def tell(self, touched: Iterable[str]) -> None:
        """Wake who listens for one of these names."""
        if self._waiting:
            for name in touched:
                for event in self._waiting.get(name, ()):
                    event.set()

    def end(self) -> None:
        """Wake everyone: the ledger is closed, and tells them so."""
        self.tell(tuple(self._waiting))


class _Waiting:
    def __init__(self, waiting: dict[str, list[anyio.Event]], name: str) -> None:
        self._all = waiting
        self._name = name
        self._event = anyio.Event()

    def __enter__(self) -> anyio.Event:
        self._all.setdefault(self._name, []).append(self._event)
        return self._event

    def __exit__(self, *_error: object) -> None:
        waiting = self._all[self._name]
        waiting.remove(self._event)
        if not waiting:
            del self._all[self._name]
