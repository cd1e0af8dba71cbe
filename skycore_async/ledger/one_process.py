"""A ledger in one process: the steps of `Store`, and waiting for news.

Strategy: every call is a step that is run over a `Store`, and the subclass says
how: `MemoryLedger` at once, `SQLiteLedger` in a thread and many in one
transaction.  Who waits, for a key under way or for a postback, waits for an
event that is set when a step has touched what it waits for.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar

import anyio

from .. import wire
from ..messages import Notification
from .base import Delivery, Intent, MessageState, Submission, Summary
from .store import Store, UnderWay

T = TypeVar("T")
Step = Callable[[Store], T]


class OneProcessLedger(ABC):
    """What `MemoryLedger` and `SQLiteLedger` share; see `Ledger` for what each call does."""

    def __init__(self) -> None:
        self._news = _News()

    @abstractmethod
    async def _run(self, step: Step[T]) -> T:
        """Run a step, and return when it is as durable as this ledger makes it."""

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

    async def known(self, intent: Intent, *, resend_in_doubt: bool = False) -> Submission | None:
        """Give what came of a message before; None where it may be begun or is under way."""
        return await self._run(lambda store: store.known(intent, resend_in_doubt=resend_in_doubt))

    async def begin(
        self, intent: Intent, *, resend_in_doubt: bool = False, ignore_opt_out: bool = False
    ) -> Submission | None:
        """Make an intent durable, and give None; or give what came of it before."""

        def step(store: Store) -> Submission | None:
            return store.begin(
                intent, resend_in_doubt=resend_in_doubt, ignore_opt_out=ignore_opt_out
            )

        try:
            return await self._whole(step)  # nearly no key is under way: news would be for nothing
        except UnderWay:
            # Who waits for one that was in doubt then has its word on it, not on this one.
            resend_in_doubt = False
        while True:
            with self._news.of(intent.key) as news:
                try:
                    return await self._whole(step)
                except UnderWay:
                    await news.wait()

    async def _whole(self, step: Step[T]) -> T:
        # What waits for news may be cancelled; what begins a message may not, since
        # nobody would know that it began.
        with anyio.CancelScope(shield=True):
            return await self._run(step)
        raise AssertionError  # pragma: no cover - nothing cancels that scope

    async def finish(self, key: str, submission: Submission) -> None:
        """Make durable what came of a message that was begun."""
        await self._run(lambda store: store.finish(key, submission))

    async def record(self, *notifications: Notification) -> None:
        """Take notifications in, all or none of them; one that came before changes nothing."""
        await self._run(lambda store: store.record(notifications))

    async def delivery(
        self, tracking_id: str | None = None, *, key: str | None = None
    ) -> Delivery | None:
        """Give what is known of a message, by its tracking id or its key."""
        _one_name(tracking_id, key)
        return await self._run(lambda store: store.delivery(tracking_id=tracking_id, key=key))

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
                    await news.wait()

    async def summary(self) -> Summary:
        """Count what there is."""
        return await self._run(lambda store: store.summary())

    async def deliveries(self, state: MessageState | None = None) -> AsyncIterator[Delivery]:
        """Give every message in that state, or every message, in the order of their intents."""
        after: int | None = 0
        while after is not None:
            found, after = await self._run(functools.partial(Store.page, state=state, after=after))
            for delivery in found:
                yield delivery

    async def unplaced(self) -> AsyncIterator[Notification]:
        """Give the notifications for messages that this ledger does not know."""
        after: int | None = 0
        while after is not None:
            found, after = await self._run(functools.partial(Store.unplaced, after=after))
            for notification in found:
                yield notification

    async def opt_out(self, number: str) -> None:
        """Mark a number as one that may not be sent to."""
        await self._run(lambda store: store.mark(wire.number(number), out=True))

    async def opt_in(self, number: str) -> None:
        """Unmark a number."""
        await self._run(lambda store: store.mark(wire.number(number), out=False))

    async def is_opted_out(self, number: str) -> bool:
        """Tell whether a number may not be sent to."""
        return await self._run(lambda store: store.is_opted_out(wire.number(number)))


def _one_name(tracking_id: str | None, key: str | None) -> str:
    if (tracking_id is None) == (key is None):
        raise TypeError("give a tracking id or a key, and not both")
    return tracking_id or key or ""


class _News:
    """Who waits for news of a key or a tracking id."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[anyio.Event]] = {}

    def of(self, name: str) -> _Waiting:
        return _Waiting(self._waiting, name)

    def tell(self, touched: Iterable[str]) -> None:
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
