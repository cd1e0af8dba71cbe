"""Where the messages of a bulk send come from: any iterable, or any async iterable.

Rules:

* One task reads an async source and closes it, as cancel scopes inside the source demand.
* Messages that were not taken remain with the caller, except for the few that were read ahead from
  an async source.
* An error of the source goes to the caller, even `sys.exit()`: raised in one of the client's
  tasks, it would end the event loop, and break off what is in flight.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable

import anyio

from ..messages import SMS
from .prepare import ResolvedMessage

Source = Iterable[SMS] | AsyncIterable[SMS]
Sendable = SMS | ResolvedMessage
AnySource = Iterable[Sendable] | AsyncIterable[Sendable]


def made_source(source: AnySource, *, ahead: int) -> _SyncSource | _AsyncSource:
    """Return what workers take messages from; of an async source, `ahead` may be read ahead."""
    if isinstance(source, AsyncIterable):
        return _AsyncSource(source, ahead)
    return _SyncSource(source)


def _checked(message: Sendable) -> Sendable:
    if not isinstance(message, SMS | ResolvedMessage):
        raise TypeError(f"send_many takes SMS values, and got a {type(message).__name__}")
    return message


class _SyncSource:
    def __init__(self, source: Iterable[Sendable]) -> None:
        self._messages = iter(source)

    def open(self) -> None:
        """Do nothing: there is nothing between the source and the workers."""

    async def take(self) -> Sendable | None:
        for message in self._messages:
            return _checked(message)
        return None

    async def feed(self) -> None:
        """Do nothing: each worker takes for itself."""

    def stop(self) -> None:
        """Do nothing: what was not taken is still the caller's."""


class _AsyncSource:
    """Reads the source in one task, and hands its messages to the workers."""

    def __init__(self, source: AsyncIterable[Sendable], ahead: int) -> None:
        self._messages = aiter(source)
        self._ahead = ahead
        self._is_reading = False
        self._is_stopped = False
        self._reading = anyio.CancelScope()
        self._error: BaseException | None = None

    def open(self) -> None:
        # Not earlier, since the stream has to be closed.
        self._give, self._taken = anyio.create_memory_object_stream[Sendable](self._ahead)

    async def take(self) -> Sendable | None:
        try:
            try:
                return self._taken.receive_nowait()  # which mostly works, and saves a loop turn
            except anyio.WouldBlock:
                return await self._taken.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            if self._error is not None:
                raise self._error from None
            return None

    async def feed(self) -> None:
        with self._give, self._reading:
            try:
                while (message := await self._read()) is not None:
                    try:
                        self._give.send_nowait(message)
                    except anyio.WouldBlock:
                        await self._give.send(message)
            except anyio.BrokenResourceError as error:
                if not self._is_stopped:  # then the source raised it, being a stream of anyio's
                    self._error = error
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the caller is to have it
                self._error = error
            except BaseException:
                # Where nobody stopped it, this is no end that a source comes to.
                if not self._reading.cancel_called:
                    self._error = RuntimeError("the source of the messages was cancelled")
                raise
            # Its own cancel scopes belong to this task, so it is closed here.
            if isinstance(self._messages, AsyncGenerator):
                await self._messages.aclose()

    async def _read(self) -> Sendable | None:
        if self._is_stopped:  # before this task began, or while it passed a message on
            return None
        self._is_reading = True
        try:
            return _checked(await anext(self._messages))
        except StopAsyncIteration:
            return None
        finally:
            self._is_reading = False

    def stop(self) -> None:
        self._is_stopped = True
        self._taken.close()
        # Only while the source itself waits, so that it unwinds: cancelling at any other point
        # would leave cancel scopes of its own open.
        if self._is_reading:
            self._reading.cancel()
