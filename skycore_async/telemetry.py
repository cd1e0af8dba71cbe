"""Spans and metrics for OpenTelemetry: one span for each message and each postback.

Strategy: `Dispatcher` and `PostbackReceiver` work inside an operation and tell it how it ended;
this module decides what is recorded.  It uses only OpenTelemetry's API, so that the program
chooses the destination; until it does, nothing is exported.

Rules:

* Names are those of OpenTelemetry's semantic conventions for messaging.
* No key, text or number is recorded, and no error's text, which may hold one; an error's class and
  documented code are.
* A metric's attributes have few values.  A tracking id is only on spans.
* An SMS carries no trace context, so its postbacks have separate traces; the tracking id joins
  them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from .codes import API_ERRORS
from .messages import Accepted, Outcome
from .notifications import Notification
from .runtime.extras import missing
from .version import __version__

try:
    from opentelemetry import context, metrics, trace
except ImportError as error:
    raise missing("otel", error) from error

Attributes = dict[str, str | int]

_SCHEMA: Final = "https://opentelemetry.io/schemas/1.37.0"
# The conventions' own; the SDK's default is made for milliseconds.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_SEND: Final[Mapping[str, str]] = {
    "messaging.system": "skycore",
    "messaging.operation.name": "send",
    "messaging.operation.type": "send",
}
_PROCESS: Final[Mapping[str, str]] = {
    "messaging.system": "skycore",
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
    "messaging.destination.name": "postback",
}


class Operation:
    """The span and metrics of one message or postback."""

    def __init__(self, span: trace.Span, attributes: Attributes) -> None:
        self._span = span
        self.attributes = attributes

    def ended(self, outcome: Outcome) -> None:
        """Record the outcome of a message."""
        if outcome.message.tags:
            self._span.set_attribute("skycore.message.tags", outcome.message.tags)
        if isinstance(outcome, Accepted):
            if outcome.tracking_id is not None:
                self._span.set_attribute("messaging.message.id", outcome.tracking_id)
        else:
            self.failed(outcome.error)

    def failed(self, error: BaseException) -> None:
        """Record the error that it failed with."""
        self.attributes["error.type"] = type(error).__name__
        self._span.set_attribute("error.type", type(error).__name__)
        self._span.set_status(trace.StatusCode.ERROR)
        code = getattr(error, "code", None)
        if code in API_ERRORS:
            self._span.set_attribute("skycore.error.code", code)


class Telemetry:
    """Report a client's messages and a receiver's postbacks to OpenTelemetry.

    Pass it as `telemetry` to `SkycoreClient` and to `PostbackReceiver`.  Without providers it uses
    the global ones of the program.  `clock` returns seconds.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._tracer = trace.get_tracer(
            "skycore_async", __version__, tracer_provider, schema_url=_SCHEMA
        )
        meter = metrics.get_meter("skycore_async", __version__, meter_provider, schema_url=_SCHEMA)
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Messages that were to be sent."
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Notifications that came."
        )
        self._sending = _seconds(
            meter, "messaging.client.operation.duration", "How long sending a message took."
        )
        self._processing = _seconds(
            meter, "messaging.process.duration", "How long taking a postback in took."
        )

    def here(self) -> context.Context:
        """Return the caller's trace context, for an operation in another task."""
        return context.get_current()

    @contextmanager
    def sending(
        self, base_url: str, *, parent: context.Context | None = None
    ) -> Iterator[Operation]:
        """Return a context manager around sending one message, with all its tries.

        It yields the operation to tell how the message ended.
        """
        server, name = _server(base_url)
        began = self._clock()
        attributes: Attributes = {**_SEND, **server}
        try:
            with self._span(name, trace.SpanKind.CLIENT, attributes, parent) as operation:
                yield operation
        finally:
            self._sent.add(1, attributes)
            self._sending.record(self._clock() - began, attributes)

    @contextmanager
    def receiving(self, notifications: Sequence[Notification]) -> Iterator[Operation]:
        """Return a context manager around receiving a postback with its notifications.

        It yields the operation to tell of a failure.
        """
        began = self._clock()
        attributes: Attributes = {**_PROCESS}
        try:
            with self._span("process postback", trace.SpanKind.CONSUMER, attributes) as operation:
                trace.get_current_span().set_attributes(_about(notifications))
                yield operation
        finally:
            self._consumed.add(len(notifications), attributes)
            self._processing.record(self._clock() - began, attributes)

    @contextmanager
    def _span(
        self,
        name: str,
        kind: trace.SpanKind,
        attributes: Attributes,
        parent: context.Context | None = None,
    ) -> Iterator[Operation]:
        with self._tracer.start_as_current_span(
            name,
            context=parent,
            kind=kind,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            operation = Operation(span, attributes)
            try:
                yield operation
            except BaseException as error:
                operation.failed(error)
                raise


def _seconds(meter: metrics.Meter, name: str, description: str) -> metrics.Histogram:
    return meter.create_histogram(
        name, "s", description, explicit_bucket_boundaries_advisory=_BUCKETS
    )


@functools.lru_cache(maxsize=8)
def _server(base_url: str) -> tuple[Attributes, str]:
    """Return the attributes for the API's address, and the name of its spans."""
    address = urlsplit(base_url)
    host = address.hostname or ""
    port = address.port or {"https": 443, "http": 80}.get(address.scheme, 0)
    return {"server.address": host, "server.port": port}, f"send {host}:{port}"


def _about(notifications: Sequence[Notification]) -> Attributes:
    if len(notifications) != 1:
        return {"messaging.batch.message_count": len(notifications)}
    tracking_id = getattr(notifications[0], "tracking_id", None)
    return {"messaging.message.id": tracking_id} if tracking_id else {}
