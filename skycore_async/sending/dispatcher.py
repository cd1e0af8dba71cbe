"""One message down the road: its turn, its attempts, its outcome.

Strategy: `Sender` is what `send_sms` and `send_many` share.  It waits for the
message's turn, lets the transport carry one exchange, reads the answer, and
tries again where that is proven safe.  What can be decided without waiting is
decided in `protocol` and `retry`.

Rules:

* The timeout bounds all of it: places, turns, attempts and pauses.
* Until an exchange begins, a cancelled caller calls the message back.  From
  then on the exchange is the client's: it runs to its own end, and where
  nobody waits for the outcome any more, the ledger and the log have it.  No
  further attempt is made for nobody.
* A throttled message concerns the whole client: the limiter hears of it.
"""

from __future__ import annotations

import copy
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import anyio
import attrs

from ..errors import ConfigurationError, NotSent, OutcomeUnknown, SkycoreError, Throttled
from ..limits.base import Limiter
from ..messages import SMS, Accepted, Failed, Outcome
from ..protocol import responses
from ..runtime.background import BackgroundTasks
from ..runtime.event_loop import now
from ..transports.base import Transport
from .admission import Admission
from .prepare import PreparedSend, log_outcome, prepare
from .retry import pause_before_retry
from .settings import Settings

if TYPE_CHECKING:
    from ..ledger.model import Ledger
    from ..telemetry import Telemetry
    from .recording import Recorder

_log: Final = logging.getLogger("skycore_async")
# Seconds for which a Retry-After stops everyone; a longer one is likelier a slip than a wish.
_LONGEST_WISH: Final = 3600.0


class Sender:
    """Send messages over `transport`, at the pace of `limiter`, and keep them in `journal`.

    At most `places` of them are in flight.  Where they are `paced`, the ledger is asked
    what came of one before it takes a turn; else to begin it tells that, too, and is one
    step less.  `chance` gives a random number from 0 to 1, for the pauses between attempts.
    """

    def __init__(
        self,
        transport: Transport,
        limiter: Limiter,
        *,
        places: int = 50,
        paced: bool = True,
        journal: Recorder | None = None,
        telemetry: Telemetry | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.owner = BackgroundTasks(self._finalize)
        self._paced = paced
        self.journal = journal
        self._transport = transport
        self._limiter = limiter
        self.admission = Admission(limiter, places=places)
        self._chance = chance
        self._telemetry = telemetry

    def over(self, ledger: Ledger) -> Self:
        """Return the same sender over another view of its ledger."""
        if self.journal is None:
            raise ConfigurationError("ledger: there is nothing to view, as the client has none")
        other = copy.copy(self)
        other.journal = self.journal.over(ledger)
        return other

    async def send(self, message: SMS, settings: Settings) -> Outcome:
        """Send one message for a caller who may be cancelled."""
        self.owner.check()
        deadline = now() + settings.timeout
        job = prepare(message, settings)
        if isinstance(job, Failed):
            return job
        if recorded := await self.recorded(job):
            return recorded
        started = await _by(deadline, self.admission.acquire_now, self.admission.acquire)
        if started is None:
            return _late(job)
        if self._telemetry is not None:
            job = attrs.evolve(job, trace=self._telemetry.here())
        errand = DetachedSend(self._submit, job, started, deadline)
        try:
            self.owner.start(errand.run)
        except BaseException:  # it was closed meanwhile
            self.admission.release()
            raise
        return await errand.outcome()

    async def recorded(self, job: PreparedSend) -> Outcome | None:
        """Return what came of a message that need not take a turn, as the ledger knows it."""
        if self.journal is None or job.message.key is None or not self._paced:
            return None
        return await self.journal.recorded(job.message, job.resolved, job.settings)

    def send_in_turn(
        self, job: PreparedSend, started: float, abandoned: Callable[[], bool]
    ) -> Awaitable[Outcome]:
        """Send one message that `admission` let in, from a task of `owner`'s."""
        deadline = now() + job.settings.timeout
        return self._submit(job, started, deadline, abandoned)

    async def _finalize(self) -> None:
        try:
            if self.journal is not None:
                with suppress(Exception):  # it was told of each when it was not written
                    await self.journal.write_what_is_left()
        finally:
            await self._transport.aclose()

    async def _submit(
        self, job: PreparedSend, started: float, deadline: float, abandoned: Callable[[], bool]
    ) -> Outcome:
        try:
            if self.journal is None:
                return await self._observed(job, started, deadline, abandoned)
            begun = await self.journal.begin(
                job.message, job.resolved, job.settings, deadline=deadline
            )
            if isinstance(begun, Accepted | Failed):
                return begun
            try:
                outcome = await self._observed(job, started, deadline, abandoned)
            except Exception:
                await self.journal.finish(begun, _broken_off(job))
                raise
            await self.journal.finish(begun, outcome)
            return outcome
        finally:
            self.admission.release()

    def _observed(
        self, job: PreparedSend, started: float, deadline: float, abandoned: Callable[[], bool]
    ) -> Awaitable[Outcome]:
        if self._telemetry is None:
            return self._attempts(job, started, deadline, abandoned)
        return self._traced(self._telemetry, job, started, deadline, abandoned)

    async def _traced(
        self,
        telemetry: Telemetry,
        job: PreparedSend,
        started: float,
        deadline: float,
        abandoned: Callable[[], bool],
    ) -> Outcome:
        outcome: Outcome | None = None
        try:
            with telemetry.sending(job.settings.base_url, parent=job.trace) as operation:
                outcome = await self._attempts(job, started, deadline, abandoned)
                operation.ended(outcome)
        except Exception as error:
            if outcome is None:
                raise
            _log.error("what came of an SMS could not be traced: %s", type(error).__name__)
        return outcome

    async def _attempts(
        self, job: PreparedSend, started: float, deadline: float, abandoned: Callable[[], bool]
    ) -> Outcome:
        settings = job.settings
        if abandoned():
            return _called_back(job)
        for attempt in itertools.count(1):
            left = deadline - now()
            if left <= 0:
                return _late(job)
            outcome = await self._exchange(job, left)
            if isinstance(outcome, Accepted):
                return outcome
            if isinstance(outcome.error, Throttled):
                self._limiter.slow_down(started=started, retry_after=_wish(outcome.error))
            pause = pause_before_retry(
                outcome.error,
                attempt=attempt,
                max_attempts=settings.max_attempts,
                chance=self._chance,
            )
            if pause is None or now() + pause >= deadline:
                return outcome
            await anyio.sleep(pause)
            if self.owner.closed or abandoned():
                return outcome
            turn = await _by(deadline, self._limiter.start_now, self._limiter.wait)
            if turn is None or abandoned():
                return outcome
            started = turn
        raise AssertionError  # pragma: no cover - the loop has no end

    async def _exchange(self, job: PreparedSend, timeout: float) -> Outcome:
        outcome: Outcome
        try:
            response = await self._transport.send(job.request, timeout=timeout)
            outcome = responses.parse_response(
                job.message,
                to=job.resolved.to,
                status=response.status,
                headers=_about_pace(response.headers),
                body=job.settings.api_key.hide_in(response.body),
            )
        except SkycoreError as error:
            outcome = Failed(message=job.message, error=error)
        except BaseException:
            # Only the end of the event loop cancels an exchange.
            log_outcome(job, _broken_off(job))
            raise
        log_outcome(job, outcome)
        return outcome


class DetachedSend:
    """A message that is sent in a task which is not its caller's, and what came of it."""

    def __init__(
        self,
        submit: Callable[[PreparedSend, float, float, Callable[[], bool]], Awaitable[Outcome]],
        job: PreparedSend,
        started: float,
        deadline: float,
    ) -> None:
        self._submit = submit
        self._job = job
        self._started = started
        self._deadline = deadline
        self._abandoned = False
        self._outcome: Outcome | None = None
        self._error: Exception | None = None
        self._done = anyio.Event()

    async def run(self) -> None:
        """Send it, and keep what came of it."""
        try:
            self._outcome = await self._submit(
                self._job, self._started, self._deadline, lambda: self._abandoned
            )
        except Exception as error:  # noqa: BLE001 - it belongs to who waits for the outcome
            self._error = error
        finally:
            self._done.set()

    async def outcome(self) -> Outcome:
        """Wait for what came of it; a caller who is cancelled here has left."""
        try:
            await self._done.wait()
        except BaseException:
            self._abandoned = True
            raise
        if self._outcome is not None:
            return self._outcome
        raise self._error or RuntimeError("the event loop ended before the exchange did")


async def _by(
    deadline: float, at_once: Callable[[], float | None], wait: Callable[[], Awaitable[float]]
) -> float | None:
    """Return a turn that comes now or can be waited for, or None where it is not there in time."""
    if (started := at_once()) is not None:
        return started
    with anyio.move_on_after(deadline - now()):
        return await wait()
    return None


def _wish(error: Throttled) -> float | None:
    wish = error.retry_after
    return None if wish is None else min(wish, _LONGEST_WISH)


def _broken_off(job: PreparedSend) -> Failed:
    broken = OutcomeUnknown("the exchange was broken off")
    return Failed(message=job.message, error=broken)


def _late(job: PreparedSend) -> Failed:
    late = NotSent(f"its turn did not come within {job.settings.timeout:g} seconds")
    return Failed(message=job.message, error=late)


def _called_back(job: PreparedSend) -> Failed:
    back = Failed(message=job.message, error=NotSent("its caller left before it was sent"))
    log_outcome(job, back)
    return back


def _about_pace(headers: Mapping[str, str]) -> dict[str, str]:
    # No other is read, and another may repeat the API key, as a Location does.
    return {name: headers[name] for name in ("date", "retry-after") if name in headers}
