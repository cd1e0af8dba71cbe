"""Many messages: read as fast as they can be sent, their outcomes yielded as they complete.

Strategy: as many workers as may be in flight take messages from the source, and put outcomes into
a buffer, from which the caller's loop takes them.  The workers are tasks of the client, so that no
exchange is broken off if the caller leaves early, is cancelled, or raises an error in its loop.

Rules:

* Look-ahead is bounded: a worker waits for a free slot in the buffer before it takes a message,
  and takes no other until it has sent that.  So a caller who stops reading stops the sending.
* A message is taken before it is admitted, as one that the ledger knows needs no admission.  The
  outcome of each message that was taken is yielded, or logged if the caller has left.  One that
  was not begun by then is not sent.
* Sending halts at the first rejection of the account or of the request, and so it does if the
  ledger cannot be written, the source raises an error or the client is closed.  Then nothing more
  starts; what is in flight completes and is yielded; and after that the error is raised.
* Permission to send again what is in doubt covers only doubts from before this send: if
  the first of two messages with one key ends in doubt, the second is not sent.
* A rejection of a sender or a campaign reference halts the messages with it: they are taken and
  yielded, but not begun.  The others are sent, and after that the error is raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import anyio
import anyio.lowlevel
import attrs

from ..errors import NotSent
from ..messages import SMS, Failed, Outcome
from .dispatcher import Dispatcher
from .outcomes import Halt, Halts, meaning_of
from .prepare import ResolvedMessage
from .settings import Settings
from .sources import AnySource, made_source

_BUFFER: Final = 2  # outcomes that may wait to be read, for each message in flight


class BulkSend:
    """The outcomes of many messages, as they complete; `send_many` makes one.

    Enter it to start the sending, iterate over it for the outcomes, and leave it at any time.
    After leaving nothing more starts, not even another try, and it waits for what is in flight,
    unless it is cancelled.

    After the last outcome, iterating raises SendingHalted if the account, the request, a short
    code or a campaign reference was refused, or the ledger could not be written.  It raises the
    error of the source, if that raised one, and RuntimeError if the client was closed meanwhile.
    """

    def __init__(
        self, dispatcher: Dispatcher, settings: Settings, source: AnySource, *, in_flight: int
    ) -> None:
        self._dispatcher = dispatcher
        self._settings = settings
        self._source = made_source(source, ahead=in_flight)
        self._in_flight = in_flight
        self._buffer: deque[Outcome] = deque()
        self._slots = _Slots(_BUFFER * in_flight)
        self._changed = anyio.Event()
        self._working = 0
        self._is_entered = False
        self._is_left = False
        self._waiting: set[anyio.CancelScope] = set()
        self._stopped = False
        self._error: BaseException | None = None
        self._check: Callable[[SMS], None] | None = None
        self._halts = Halts(from_=settings.from_, campaign_ref=settings.campaign_ref)
        self._without_permission = settings
        self._permission_used: set[str | None] = set()  # keys: for one message each
        if settings.resend_in_doubt:
            self._without_permission = attrs.evolve(settings, resend_in_doubt=False)

    def _begin_where(self, check: Callable[[SMS], None]) -> Self:
        """Do not begin a message for which `check` raises NotSent; that is its outcome.

        `check` is called just before a message begins, with the message as it will be sent.
        """
        self._check = check
        return self

    @property
    def _begun(self) -> int:
        """How many messages have begun and have no outcome yet, if nothing else sends."""
        return self._dispatcher.admission.taken - len(self._waiting)

    async def __aenter__(self) -> Self:
        self._dispatcher.tasks.check()
        if self._is_entered:
            raise RuntimeError("these messages were sent already: call send_many again")
        self._is_entered = True
        self._source.open()
        start = self._dispatcher.tasks.start
        start(self._feed)
        for _ in range(self._in_flight):
            start(self._work)
        self._working = 1 + self._in_flight
        self._dispatcher.tasks.at_closing.add(self._client_closes)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._dispatcher.tasks.at_closing.discard(self._client_closes)
        self._is_left = True
        self._stop()
        if kind is not None and issubclass(kind, anyio.get_cancelled_exc_class()):
            return  # at once: the client waits for the rest when it closes
        while self._working:
            await self._wait()

    def stop(self) -> None:
        """Start nothing more; iterate on inside `async with` for what is in flight."""
        self._stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        while not self._buffer:
            if not self._working:
                if (error := self._error or self._halts.error) is not None:
                    raise error
                if not self._is_entered:
                    raise RuntimeError("nothing is sent before `async with` enters send_many")
                raise StopAsyncIteration
            await self._wait()
        self._slots.give()
        return self._buffer.popleft()

    async def _feed(self) -> None:
        try:
            await self._source.feed()
        finally:
            self._working -= 1
            self._changed.set()

    async def _work(self) -> None:
        try:
            while self._slots.take() or await self._slots.wait():
                message = None if self._slots.closed else await self._source.take()
                if message is None:
                    self._slots.close()  # messages that were taken go on
                    return
                settings = self._settings
                if settings.resend_in_doubt:
                    settings = self._settings_for(message)
                outcome = await self._dispatcher.send_here(
                    message,
                    settings,
                    acquire=self._acquire,
                    is_abandoned=self._has_left,
                )
                self._buffer.append(outcome)
                self._changed.set()
                self._judge(outcome, settings)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - for who iterates
            self._end(error)
        except BaseException:
            # So that a caller who still iterates does not take this for the end of the source.
            self._end(RuntimeError("the sending was broken off"))
            raise
        finally:
            self._working -= 1
            self._changed.set()

    def _settings_for(self, message: SMS | ResolvedMessage) -> Settings:
        key = message.key if isinstance(message, SMS) else message.message.key
        if key in self._permission_used:
            return self._without_permission
        # Noted before it is sent: another message may read its doubt before its outcome is here.
        self._permission_used.add(key)
        return self._settings

    def _has_left(self) -> bool:
        return self._is_left

    async def _acquire(self, message: SMS) -> float:
        """Wait until a message is admitted; NotSent if it is no longer to be begun."""
        if self._halts.error is not None:
            self._halts.check(message)
        try:
            started = self._dispatcher.admission.acquire_now()
            if started is None:
                started = await self._wait_for_start()
        except NotSent:
            raise
        except Exception as error:  # noqa: BLE001 - of the caller's limiter, raised to the caller
            self._end(error)
            raise NotSent(f"its rate limiter raised {type(error).__name__}") from None
        try:
            if started is None or self._stopped:
                raise NotSent("the sending ended before it started")
            if self._halts.error is not None:
                self._halts.check(message)
            if self._check is not None:
                self._check(message)
        except NotSent:
            if started is not None:
                self._dispatcher.admission.release()
            raise
        return started

    async def _wait_for_start(self) -> float | None:
        """Wait for a slot and a start; None if the sending was stopped meanwhile."""
        with anyio.CancelScope() as waiting:
            self._waiting.add(waiting)
            try:
                return await self._dispatcher.admission.acquire()
            finally:
                self._waiting.discard(waiting)
        return None

    def _judge(self, outcome: Outcome, settings: Settings) -> None:
        is_new_doubt = False
        if isinstance(outcome, Failed):
            if self._halts.add(outcome) is Halt.EVERYTHING:
                self._stop(self._halts.error)
            is_new_doubt = meaning_of(outcome).in_doubt and not outcome.recorded
        if settings.resend_in_doubt and not is_new_doubt:
            self._permission_used.discard(outcome.message.key)

    def _client_closes(self) -> None:
        if self._slots.closed:
            self._source.stop()  # the caller may never leave this
        else:
            self._stop(RuntimeError("this client is closed, and nothing more is sent"))

    def _stop(self, error: Exception | None = None) -> None:
        """Start nothing more."""
        self._stopped = True
        for waiting in tuple(self._waiting):
            waiting.cancel()
        self._end(error)

    def _end(self, error: BaseException | None = None) -> None:
        """Take nothing more from the source; what was taken is sent."""
        if isinstance(error, StopAsyncIteration):  # iterating would take it for the end
            ended = RuntimeError("StopAsyncIteration was raised in the middle of the sending")
            ended.__cause__, error = error, ended
        self._error = self._error or error
        self._slots.close()
        self._source.stop()

    async def _wait(self) -> None:
        """Wait until a worker has put something into the buffer, or has ended."""
        # If the event is always set in time, nothing else here lets a cancellation through.
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._changed.is_set():
            self._changed = anyio.Event()
        await self._changed.wait()


class _Slots:
    """The free slots of the buffer: a worker takes one for each outcome, the caller gives it back.

    One waiter is woken at a time, and wakes the next if there are more slots, so that a worker
    whose transport answers at once can take many slots in a row.
    """

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: deque[anyio.Event] = deque()
        self._waking = False
        self.closed = False

    def take(self) -> bool:
        if self.closed or not self._free:
            return False
        self._free -= 1
        self._wake()
        return True

    async def wait(self) -> bool:
        """Take a slot once there is one; return False if closed."""
        while not self.closed:
            woken = anyio.Event()
            self._waiting.append(woken)
            await woken.wait()
            self._waking = False
            if self.take():
                return True
        return False

    def give(self) -> None:
        self._free += 1
        self._wake()

    def close(self) -> None:
        self.closed = True
        while self._waiting:
            self._waiting.popleft().set()

    def _wake(self) -> None:
        if self._free and self._waiting and not self._waking:
            self._waking = True
            self._waiting.popleft().set()
