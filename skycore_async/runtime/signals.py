"""A quick way to tell many tasks at once that something has ended.

Strategy: on asyncio each task waits for a future of its own, without a coroutine in between and
without asking which event loop runs; for a message with a ledger that saves a twentieth of all
its work.  On trio the signal is an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import anyio
import attrs

from .event_loop import is_trios


class Signal(Protocol):
    """A signal that is set once, for tasks of the event loop in which it was made."""

    def wait(self) -> Awaitable[object]:
        """Wait until the signal is set."""
        ...

    def set(self) -> None:
        """Wake all tasks that wait; those that wait later return at once."""
        ...


@attrs.define(eq=False)
class FutureSignal:
    """A signal in an asyncio event loop."""

    _loop: asyncio.AbstractEventLoop
    _waiting: list[asyncio.Future[None]] = attrs.field(factory=list)
    _is_given: bool = False

    def wait(self) -> asyncio.Future[None]:
        """Return a future that is done once the signal is set."""
        future = self._loop.create_future()
        self._waiting.append(future)
        if self._is_given:
            future.set_result(None)
        return future

    def set(self) -> None:
        """Wake all tasks that wait; those that wait later return at once."""
        self._is_given = True
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


def signals() -> Callable[[], Signal]:
    """Return a function that makes signals for the running event loop."""
    return anyio.Event if is_trios() else partial(FutureSignal, asyncio.get_running_loop())
