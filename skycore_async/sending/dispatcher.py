"""How one message is sent: prepared, looked up, admitted, submitted, tried again.

Strategy: `Dispatcher` has the one path of a message.  `send_sms` follows it for a caller who may
be cancelled, and `send_many` in tasks of its own.  The two differ in how a message waits for
admission and in which task it is submitted, and pass both as functions.  `protocol`, `outcomes`
and `retry` make the decisions, which need no waiting.

Rules:

* The timeout bounds the whole path: waiting for a slot and for the limiter, tries and pauses.
* Until an exchange begins, cancelling the caller withdraws the message.  From then on the exchange
  belongs to the client and runs to its end.  If nobody waits for the outcome any more, it goes to
  the ledger and the log, and no further try is made.
* An error that a limiter, a transport or telemetry raises against its contract is logged with its
  type and place.  No message loses its outcome by it, and no slot is lost.  If the transport
  raised it, the message is in doubt; otherwise nothing changes.
* A throttled message slows the limiter down for the whole client.
* A message is not tried again if its number has opted out since it was begun.
"""

from __future__ import annotations

import copy
import itertools
import random
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

import anyio

from ..errors import ConfigurationError, NotSent, OutcomeUnknown, SkycoreError, Throttled
from ..limits.base import Limiter
from ..messages import SMS, Accepted, Failed, Outcome
from ..protocol import responses
from ..runtime.background import BackgroundTasks
from ..runtime.event_loop import is_accident, now
from ..runtime.logs import log
from ..transports.base import Transport, TransportUnusable
from ..transports.failures import failed
from .admission import Admission
from .detached import DetachedSend
from .prepare import PreparedSend, ResolvedMessage, log_outcome, prepare, warn_that_keys_do_nothing
from .retry import latest_start, pause_before_retry
from .settings import Settings
from .tracing import in_trace, told

if TYPE_CHECKING:
    from ..ledger.interface import Ledger
    from ..telemetry import Telemetry
    from .recording import Recorder

# Seconds for which a Retry-After stops everyone; a longer one is likelier a mistake.
_LONGEST_RETRY_AFTER: Final = 3600.0

Acquire = Callable[[SMS], Awaitable[float]]


class Dispatcher:
    """Send messages over `transport`, as fast as `limiter` allows, recorded with `recorder`.

    At most `slots` messages are in flight.  With `paced`, a message is looked up in the ledger
    before it is admitted, so that a known message uses up no rate.  Otherwise it is looked up as
    it is begun, which saves a step of the ledger.  `chance` returns a random number from 0 to 1,
    for the pauses between tries.
    """

    def __init__(
        self,
        transport: Transport,
        limiter: Limiter,
        *,
        slots: int = 50,
        paced: bool = True,
        recorder: Recorder | None = None,
        telemetry: Telemetry | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.tasks = BackgroundTasks(self._finalize)
        self._paced = paced
        self.recorder = recorder
        self.transport = transport
        self._limiter = limiter
        self.admission = Admission(limiter, slots=slots)
        self._chance = chance
        self._telemetry = telemetry
        self._has_warned = False

    def over(self, ledger: Ledger) -> Self:
        """Return the same dispatcher over another view of its ledger."""
        if self.recorder is None:
            raise ConfigurationError("ledger: there is nothing to view, as the client has none")
        other = copy.copy(self)
        other.recorder = self.recorder.over(ledger)
        return other

    def check_ledger(self) -> None:
        """Raise RuntimeError if there is a ledger and it is not open."""
        if self.recorder is not None:
            self.recorder.check()

    async def send(self, message: SMS, settings: Settings) -> Outcome:
        """Send one message for a caller who may be cancelled."""
        self.tasks.check()
        self.check_ledger()
        deadline = self.tasks.clock.time() + settings.timeout
        latest = latest_start(deadline, settings.timeout)

        async def acquire(_message: SMS) -> float:
            started = await _within(latest, self.admission.acquire_now, self.admission.acquire)
            if started is None:
                raise _too_late(settings)
            return started

        async def submit(prepared: PreparedSend, started: float) -> Outcome:
            try:
                if self._telemetry is not None:
                    prepared = in_trace(self._telemetry, prepared)
                detached = DetachedSend(self._submit, prepared, started, deadline)
                self.tasks.start(detached.run)
            except BaseException:  # the client was closed meanwhile, or Ctrl-C came
                self.admission.release()
                raise
            return await detached.outcome()

        return await self._dispatch(message, settings, acquire, submit)

    def send_here(
        self,
        message: SMS | ResolvedMessage,
        settings: Settings,
        *,
        acquire: Acquire,
        is_abandoned: Callable[[], bool],
    ) -> Awaitable[Outcome]:
        """Send one message from one of `tasks`.

        `acquire` gets the message as it will be sent, and waits until it is admitted.  If it
        raises NotSent, that is the outcome.
        """

        def submit(prepared: PreparedSend, started: float) -> Awaitable[Outcome]:
            deadline = self.tasks.clock.time() + settings.timeout
            return self._submit(prepared, started, deadline, is_abandoned)

        return self._dispatch(message, settings, acquire, submit)

    async def _dispatch(
        self,
        message: SMS | ResolvedMessage,
        settings: Settings,
        acquire: Acquire,
        submit: Callable[[PreparedSend, float], Awaitable[Outcome]],
    ) -> Outcome:
        """Prepare, look up, admit and submit one message."""
        prepared = prepare(message, settings, is_recorded=self.recorder is not None)
        if isinstance(prepared, Failed):
            return prepared
        if self.recorder is None and prepared.message.key is not None and not self._has_warned:
            self._has_warned = True
            warn_that_keys_do_nothing()
        is_asked_for = self._paced or settings.resend_in_doubt
        if self.recorder is not None and is_asked_for and not prepared.is_looked_up:
            found = await self.recorder.look_up(prepared)
            if not isinstance(found, PreparedSend):
                return found
            prepared = found
        try:
            started = await acquire(prepared.resolved)
        except NotSent as error:
            return Failed(message=prepared.message, error=error)
        return await submit(prepared, started)

    async def _finalize(self) -> None:
        try:
            if self.recorder is not None:
                await self.recorder.written()
        finally:
            await self.transport.aclose()

    async def _submit(
        self,
        prepared: PreparedSend,
        started: float,
        deadline: float,
        abandoned: Callable[[], bool],
    ) -> Outcome:
        try:
            if self.recorder is None:
                return await self._tried(prepared, started, deadline, abandoned)
            begun = await self.recorder.begin(prepared, deadline - self.tasks.clock.time())
            if isinstance(begun, Accepted | Failed):
                return begun
            try:
                outcome = await self._tried(prepared, started, deadline, abandoned)
            except TransportUnusable:
                await self.recorder.finish(begun, _unusable(prepared))
                raise
            await self.recorder.finish(begun, outcome)
            return outcome
        finally:
            self.admission.release()

    def _tried(
        self,
        prepared: PreparedSend,
        started: float,
        deadline: float,
        abandoned: Callable[[], bool],
    ) -> Awaitable[Outcome]:
        """Return the outcome of all tries, and tell it to telemetry, if there is any."""
        tries = self._tries(prepared, started, deadline, abandoned)
        return tries if self._telemetry is None else told(self._telemetry, prepared, tries)

    async def _tries(
        self,
        prepared: PreparedSend,
        started: float,
        deadline: float,
        abandoned: Callable[[], bool],
    ) -> Outcome:
        settings = prepared.settings
        if abandoned():
            return _withdrawn(prepared)
        latest = latest_start(deadline, settings.timeout)
        for tries in itertools.count(1):
            if self.tasks.clock.time() >= latest:
                return Failed(message=prepared.message, error=_too_late(settings))
            outcome = await self._exchange(prepared, deadline - self.tasks.clock.time())
            if isinstance(outcome, Accepted):
                return outcome
            if isinstance(outcome.error, Throttled):
                self._slow_down(outcome.error, started)
            pause = pause_before_retry(
                outcome.error,
                tries=tries,
                max_attempts=settings.max_attempts,
                chance=self._chance,
            )
            if pause is None or self.tasks.clock.time() + pause >= latest:
                return outcome
            await anyio.sleep(pause)
            again = await self._another_start(prepared, outcome, latest, abandoned)
            if isinstance(again, Failed):
                return again
            started = again
        raise AssertionError  # pragma: no cover - the loop has no end

    def _slow_down(self, error: Throttled, started: float) -> None:
        with _logged_accident("rate limiter"):  # the outcome is known, and stands
            self._limiter.slow_down(started=started, retry_after=_retry_after(error))

    async def _another_start(
        self, prepared: PreparedSend, last: Failed, latest: float, abandoned: Callable[[], bool]
    ) -> float | Failed:
        """Wait until another try may start, or return the outcome if there is to be none."""
        if self.tasks.closed or abandoned():
            return last
        started = None
        with _logged_accident("rate limiter"):  # the outcome of the last try is known
            started = await _within(latest, self._limiter.start_now, self._limiter.wait)
        if started is None:
            return last
        refused = None
        if self.recorder is not None:
            refused = await self.recorder.refused_meanwhile(prepared, last)
        return refused or (last if abandoned() else started)  # the caller may just have left

    async def _exchange(self, prepared: PreparedSend, timeout: float) -> Outcome:
        outcome: Outcome
        try:
            response = await self.transport.send(prepared.request, timeout=timeout)
            outcome = responses.parse_response(
                prepared.message,
                to=prepared.resolved.to,
                status=response.status,
                headers=response.headers,
                body=response.body,
                api_key=prepared.settings.api_key,
            )
        except SkycoreError as error:
            outcome = Failed(message=prepared.message, error=error)
        except TransportUnusable:
            raise
        except BaseException as raised:
            if not is_accident(raised):  # only the end of the event loop cancels an exchange
                log_outcome(prepared, _broken_off(prepared))
                raise
            # It broke its contract, and the SMS may be out.
            _log_accident("transport", raised)
            outcome = Failed(message=prepared.message, error=failed(raised, not_sent=False))
        log_outcome(prepared, outcome)
        return outcome


async def _within(
    deadline: float,
    acquire_now: Callable[[], float | None],
    wait: Callable[[], Awaitable[float]],
) -> float | None:
    """Return the start that is granted at once or by the deadline; None if there is none."""
    if (started := acquire_now()) is not None:
        return started
    with anyio.move_on_after(deadline - now()):
        return await wait()
    return None


def _retry_after(error: Throttled) -> float | None:
    asked = error.retry_after
    return None if asked is None else min(asked, _LONGEST_RETRY_AFTER)


def _broken_off(prepared: PreparedSend) -> Failed:
    broken = OutcomeUnknown("the exchange was broken off")
    return Failed(message=prepared.message, error=broken)


def _unusable(prepared: PreparedSend) -> Failed:
    unusable = NotSent("its transport is closed, or belongs to another event loop")
    return Failed(message=prepared.message, error=unusable)


@contextmanager
def _logged_accident(what: str) -> Iterator[None]:
    try:
        yield
    except BaseException as raised:
        if not is_accident(raised):
            raise
        _log_accident(what, raised)


def _log_accident(what: str, raised: BaseException) -> None:
    # Without its text, which may hold a number or a URL.
    where = "".join(traceback.format_tb(raised.__traceback__))
    log.error("a %s raised %s\n%s", what, type(raised).__name__, where)


def _too_late(settings: Settings) -> NotSent:
    return NotSent(f"it could not start within {settings.timeout:g} seconds")


def _withdrawn(prepared: PreparedSend) -> Failed:
    withdrawn = Failed(
        message=prepared.message, error=NotSent("its caller left before it was sent")
    )
    log_outcome(prepared, withdrawn)
    return withdrawn
