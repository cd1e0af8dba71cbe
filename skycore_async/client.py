"""The client: a message in, an outcome out.

Strategy: settings are checked once.  `send_sms` gives one message to the `Dispatcher`, and
`send_many` gives it many.  The `Dispatcher` has what a client owns, its connections, its rate
limit and background tasks; the views of a client share it.

Rules:

* An invalid message raises `InvalidMessage`, and is not sent.  Once a transport has a message, its
  outcome is `OutcomeUnknown` unless the transport or the answer proves another.
* The API key is kept in a `Secret`, and masked in answers that repeat it.
* No cancel scope of the caller stays open: a client may be opened in one task and closed in
  another.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterable, Iterable
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

import anyio
import attrs

from .errors import ConfigurationError
from .limits.base import Limiter
from .limits.local import limiter_of
from .messages import SMS, Accepted
from .protocol import requests
from .protocol.numbers import NumberReader
from .sending.bulk import BulkSend
from .sending.dispatcher import Dispatcher
from .sending.settings import (
    Method,
    Options,
    Settings,
    checked_address,
    checked_key,
    or_environment,
)
from .sending.sources import Source
from .transports.base import Transport
from .transports.choice import Road, check_same_way, choose

if TYPE_CHECKING:
    from .ledger.interface import Ledger
    from .ledger.report_values import Settlement
    from .sending.prepare import ResolvedMessage
    from .sending.recording import Recorder
    from .sending.report import SendingReport
    from .telemetry import Telemetry
    from .transports.http_client import AsyncHTTPClient


class SkycoreClient:
    """Send SMS through Skycore, from asyncio or trio.

    `api_key`, `from_` (the short code) and `base_url` default to SKYCORE_API_KEY, SKYCORE_FROM and
    SKYCORE_BASE_URL of the environment.  `from_` and `campaign_ref` are for messages that name
    none.  With `enforce_campaign_check`, the account's setting of that name, a message without a
    campaign reference is refused here.  Texts of more than `max_segments` are refused.
    `number_reader`, such as `NationalNumbers("US")`, first converts each number to international
    format.

    `rate` is in messages per second, of which up to `burst` start at once.  It may be a `Limiter`
    that is shared with other clients.  Without it messages start at once, until the API throttles.
    `max_in_flight` is how many messages are under way at once, and so the number of connections
    with any transport.  `timeout`, in seconds and at most a day, bounds everything that one
    message takes.  `max_attempts` is how often it tries a message that was proven not sent.

    Without `transport` and `http_client` the client makes connections of its own by httpx, or with
    `transport="fast"` by `DirectTransport`, for volume, through the proxy that the environment
    names for `base_url` (HTTPS_PROXY, NO_PROXY).  With `http_client` it sends over an
    `AsyncClient` of the caller, of httpx or httpx2, with a new connection for each message, and
    never closes it.  `transport` may be any `Transport`, which is closed with the client.
    `method="GET"` puts the API key into the URL, where proxies and logs see it, and lets a
    proxy send a message twice.

    `ledger`, opened by the caller, remembers every message: see `Ledger`.  Without a ledger the
    `key` of a message does nothing, and a warning says so once.  `telemetry` reports messages to
    OpenTelemetry: see `Telemetry`.

    Use it as an async context manager, or call `aclose` at the end: both wait for what is in
    flight.  A client belongs to the event loop in which it first sent, and cannot be used in a
    forked process.

    Raises ConfigurationError if the settings cannot work.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        from_: str | None = None,
        campaign_ref: str | None = None,
        enforce_campaign_check: bool = False,
        base_url: str | None = None,
        rate: float | Limiter | None = None,
        burst: int = 1,
        max_in_flight: int = 50,
        timeout: float = 30,
        max_attempts: int = 3,
        transport: Transport | Road | None = None,
        http_client: AsyncHTTPClient | None = None,
        ledger: Ledger | None = None,
        telemetry: Telemetry | None = None,
        max_segments: int | None = None,
        number_reader: NumberReader | None = None,
        method: Method = "POST",
    ) -> None:
        key, api_key = or_environment(api_key, "SKYCORE_API_KEY"), None
        url, base_url = or_environment(base_url, "SKYCORE_BASE_URL", requests.ENDPOINT), None
        self._settings = Settings(
            api_key=checked_key(key),
            from_=os.environ.get("SKYCORE_FROM") or None if from_ is None else from_,
            campaign_ref=campaign_ref,
            enforce_campaign_check=enforce_campaign_check,
            base_url=checked_address(url),
            timeout=timeout,
            max_attempts=max_attempts,
            max_segments=max_segments,
            number_reader=number_reader,
            method=method,
        )
        self._max_in_flight = max_in_flight
        if not isinstance(max_in_flight, int) or max_in_flight < 1:
            raise ConfigurationError(f"max_in_flight: {max_in_flight!r} is no int above 0")
        self._dispatcher = Dispatcher(
            choose(transport, http_client, self._settings.base_url),
            limiter_of(rate, burst),
            slots=max_in_flight,
            paced=rate is not None,
            recorder=_recorder(ledger),
            telemetry=telemetry,
        )
        self._is_view = False
        self._is_chosen = http_client is None and isinstance(transport, str | None)

    @property
    def max_in_flight(self) -> int:
        """How many messages are under way at once."""
        return self._max_in_flight

    def with_options(self, **options: Unpack[Options]) -> Self:
        """Return a view with other settings over the same connections and rate limit.

        Closing the view closes nothing: the connections belong to this client.
        Raises ConfigurationError for invalid settings, or a `base_url` that needs another proxy.
        """
        settings = self._settings.changed(options)
        if self._is_chosen and settings.base_url != self._settings.base_url:
            check_same_way(self._settings.base_url, settings.base_url)
        return self._view(settings, self._dispatcher, self._max_in_flight)

    def _over(self, ledger: Ledger, *, max_in_flight: int) -> Self:
        """Return a view of this client over another view of its ledger.

        It sends over the same connections, at the same rate, and closing it closes nothing.  Of
        the messages in flight, `max_in_flight` may be its own.

        Raises ConfigurationError if the client has no ledger.
        """
        return self._view(self._settings, self._dispatcher.over(ledger), max_in_flight)

    def _view(self, settings: Settings, dispatcher: Dispatcher, max_in_flight: int) -> Self:
        view = object.__new__(type(self))
        vars(view).update(vars(self), _settings=settings, _dispatcher=dispatcher)
        vars(view).update(_max_in_flight=max_in_flight, _is_view=True)
        return view

    async def send_sms(
        self,
        *,
        to: str,
        text: str,
        from_: str | None = None,
        campaign_ref: str | None = None,
        spid: str | None = None,
        operator_id: str | None = None,
        from_mask: str | None = None,
        key: str | None = None,
        tags: Iterable[str] = (),
        resend_in_doubt: bool = False,
        ignore_opt_out: bool = False,
    ) -> Accepted:
        """Send one SMS and return what the provider answered; for the fields see `SMS`.

        With a ledger, a `key` that was sent before sends nothing: its outcome is returned again.
        Only with `resend_in_doubt` is a message sent again that may have been sent, and only with
        `ignore_opt_out` one to a number that has opted out.

        Cancelling the caller does not break off an exchange that has begun: it runs on to its own
        timeout, and its outcome goes to the ledger and the log.

        Raises InvalidMessage if it was refused here, RecipientOptedOut if the number has opted
        out, NotSent if it cannot have been sent, Rejected if the API refused it, and
        OutcomeUnknown if it may have been sent.  Only NotSent is safe to try again.  Raises
        ConfigurationError for an invalid flag, RuntimeError if the client or its ledger is closed.
        """
        message = SMS(
            to=to,
            text=text,
            from_=from_,
            campaign_ref=campaign_ref,
            spid=spid,
            operator_id=operator_id,
            from_mask=from_mask,
            key=key,
            tags=tags,
        )
        settings = self._with_permissions(resend_in_doubt, ignore_opt_out)
        outcome = await self._dispatcher.send(message, settings)
        if isinstance(outcome, Accepted):
            return outcome
        raise outcome.error

    def send_many(
        self, messages: Source, *, resend_in_doubt: bool = False, ignore_opt_out: bool = False
    ) -> BulkSend:
        """Send many messages, and return their outcomes as they complete.

            async with client.send_many(messages) as outcomes:
                async for outcome in outcomes:
                    ...

        `messages` is an iterable or async iterable of `SMS`, which is read only as fast as
        messages can be sent.  A message that fails has a `Failed` among the outcomes, and stops
        nothing; see `BulkSend` for what does.

        With a ledger, give the same messages with the same keys again after a crash: only those
        that were not sent are sent, and the others yield their recorded outcomes.  For the other
        arguments see `send_sms`.

        Raises RuntimeError if the client has a ledger that is not open.
        """
        self._dispatcher.check_ledger()
        settings = self._with_permissions(resend_in_doubt, ignore_opt_out)
        return BulkSend(self._dispatcher, settings, messages, in_flight=self._max_in_flight)

    def sending_report(
        self, since: datetime, until: datetime, *, period: timedelta | None = None
    ) -> SendingReport:
        """Return the provider's list of what it sent between two times, to be read as it comes.

            async with client.sending_report(since, until) as report:
                async for message in report:
                    ...

        It has everything that the account sent, from any program.  One look-up covers at most
        `period`, or less if that is too long for the account; see `SendingReport`. Raises
        ValueError if a time has no time zone, or the times are in the wrong order.
        """
        from .sending.report import SendingReport  # noqa: PLC0415 - not needed before

        return SendingReport(self._dispatcher, self._settings, since, until, period=period)

    async def settle(
        self,
        *,
        after: float = 3600,
        trust_absence: bool = False,
        is_dry_run: bool = False,
        wait: float = 600,
        save: str | os.PathLike[str] | None = None,
    ) -> Settlement:
        """End doubts by the provider's sending reports, and return what became of each.

        Requests reports for the times at which something in the ledger is in doubt.  A message
        that is listed was sent.  A message that is provably missing was not sent, and the next run
        sends it.  Proof is a report that covers at least `after` seconds past the end of an
        attempt, was made after that, and lists what was accepted before and after it.  With
        `trust_absence` you vouch that no such witnesses are needed, and that reports show each
        text as it was sent: if that is wrong, what was sent is sent again, and billed twice.  With
        `is_dry_run` no message is changed.

        If reports were requested too often, it waits, `wait` seconds in all; what cannot be
        requested by then stays in doubt.  A report is kept in the file `save`, further ones beside
        it.

        Raises ConfigurationError if the client has no ledger of this package, and for an `after`
        below 0 or above a year, LedgerInUse if its doubts are being settled already, Rejected if
        the account may not have reports, and OSError if one cannot be saved.
        """
        from .sending.report import SendingReport  # noqa: PLC0415 - not needed to send
        from .sending.report_requests import settle  # noqa: PLC0415 - not needed to send

        recorder = self._dispatcher.recorder
        return await settle(
            None if recorder is None else await recorder.written(),
            partial(SendingReport, self._dispatcher, self._settings),
            after=after,
            trust_absence=trust_absence,
            is_dry_run=is_dry_run,
            wait=wait,
            save=save,
        )

    def _send_resolved(
        self, messages: AsyncIterable[ResolvedMessage], *, resend_in_doubt: bool
    ) -> BulkSend:
        """Send messages that the caller has resolved and looked up, like `send_many`."""
        settings = self._with_permissions(resend_in_doubt, ignore_opt_out=False)
        return BulkSend(self._dispatcher, settings, messages, in_flight=self._max_in_flight)

    def _with_permissions(self, resend_in_doubt: bool, ignore_opt_out: bool) -> Settings:
        if not (resend_in_doubt or ignore_opt_out):
            return self._settings
        return attrs.evolve(
            self._settings, resend_in_doubt=resend_in_doubt, ignore_opt_out=ignore_opt_out
        )

    async def aclose(self) -> None:
        """Wait for what is in flight, then close the connections."""
        if not self._is_view:
            await self._dispatcher.tasks.close()

    async def __aenter__(self) -> Self:
        self._dispatcher.tasks.check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        # A ledger around it closes next, and has to get the outcomes of what is in flight.
        with anyio.CancelScope(shield=True):
            await self.aclose()

    def __repr__(self) -> str:
        # A traceback may show one whose __init__ failed.
        settings = getattr(self, "_settings", None)
        if settings is None:
            return "<SkycoreClient, which was not made>"
        return f"<SkycoreClient base_url={settings.base_url!r} from_={settings.from_!r}>"

    def __del__(self) -> None:
        # A client whose __init__ failed has no dispatcher.
        if not getattr(self, "_is_view", True) and self._dispatcher.tasks.is_open:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)


def _recorder(ledger: Ledger | None) -> Recorder | None:
    if ledger is None:
        return None
    from .sending.recording import Recorder  # noqa: PLC0415 - not without a ledger

    return Recorder(ledger)
