"""Telemetry: what OpenTelemetry gets about messages and postbacks, and what it never gets."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import attrs
import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from skycore_async import (
    SMS,
    Accepted,
    Failed,
    MemoryLedger,
    Notification,
    OutcomeUnknown,
    PostbackReceiver,
    Rejected,
    SkycoreClient,
    SkycoreError,
    parse_postback,
)
from skycore_async.telemetry import Telemetry
from tests.support.stub_transport import StubTransport

BASE_URL = "https://apiv13.example.com/API/wxml/1.3/"
MESSAGE = SMS(to="15551234888", text="Hello Jerry", key="order-17")
ACCEPTED = Accepted(message=MESSAGE, to="15551234888", tracking_id="SMS_12345", raw={})
RECEIPT = (
    "<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N202</CODE><TO>15551234888</TO>"
    "<TRACKINGID>SMS_12345</TRACKINGID></POSTBACK>"
)


@attrs.frozen
class RecordedTelemetry:
    """A telemetry, and what OpenTelemetry received through it."""

    telemetry: Telemetry
    tracer_provider: TracerProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def span(self) -> ReadableSpan:
        """Return the one span that ended."""
        (span,) = self.exporter.get_finished_spans()
        return span

    def points(self) -> dict[str, Any]:
        """Return the one data point of each metric, by its name."""
        data = self.reader.get_metrics_data()
        assert data is not None
        found: dict[str, Any] = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            (found[metric.name],) = metric.data.data_points
        return found

    def everything(self) -> str:
        """Return everything that was recorded, as text."""
        spans = [span.to_json() for span in self.exporter.get_finished_spans()]
        data = self.reader.get_metrics_data()
        return "".join(spans) + ("" if data is None else data.to_json())


@pytest.fixture
def recorded() -> Iterator[RecordedTelemetry]:
    """Make a telemetry and the exporters that record its spans and metrics."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    meter_provider = MeterProvider([reader])
    ticks = iter([10.0, 10.25])
    telemetry = Telemetry(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        clock=lambda: next(ticks),
    )
    yield RecordedTelemetry(telemetry, tracer_provider, exporter, reader)
    tracer_provider.shutdown()
    meter_provider.shutdown()


SENT = {
    "messaging.system": "skycore",
    "messaging.operation.name": "send",
    "messaging.operation.type": "send",
    "server.address": "apiv13.example.com",
    "server.port": 443,
}


def test_the_tags_of_a_message_are_on_its_span(recorded: RecordedTelemetry) -> None:
    """By which its traces are found; metrics have none of them."""
    tagged = attrs.evolve(
        ACCEPTED, message=attrs.evolve(ACCEPTED.message, tags=["spring", "late"])
    )
    with recorded.telemetry.sending(BASE_URL) as operation:
        operation.ended(tagged)
        assert "skycore.message.tags" not in operation.attributes
    assert (recorded.span().attributes or {})["skycore.message.tags"] == ("spring", "late")


def test_an_accepted_message_is_a_span_with_its_tracking_id(recorded: RecordedTelemetry) -> None:
    """The span has the conventions' attributes, no error, and the tracking id."""
    with recorded.telemetry.sending(BASE_URL) as operation:
        operation.ended(ACCEPTED)
    span = recorded.span()
    assert (span.name, span.kind) == ("send apiv13.example.com:443", SpanKind.CLIENT)
    assert dict(span.attributes or {}) == SENT | {"messaging.message.id": "SMS_12345"}
    assert span.status.status_code is StatusCode.UNSET


def test_a_message_is_counted_and_timed(recorded: RecordedTelemetry) -> None:
    """The counter goes up by one, the histogram has the seconds, neither has the tracking id."""
    with recorded.telemetry.sending(BASE_URL) as operation:
        operation.ended(ACCEPTED)
    points = recorded.points()
    assert points["messaging.client.sent.messages"].value == 1
    duration = points["messaging.client.operation.duration"]
    assert (duration.sum, duration.count) == (0.25, 1)
    assert duration.explicit_bounds[:2] == (0.005, 0.01)
    assert [dict(point.attributes) for point in points.values()] == [SENT, SENT]


@pytest.mark.parametrize(
    ("error", "named", "code"),
    [
        (Rejected.of(code="E110", info="15551234888 is not valid"), "InvalidRecipient", "E110"),
        (Rejected.of(code="15551234888", info="odd"), "Rejected", None),
        (OutcomeUnknown("no answer for 15551234888"), "OutcomeUnknown", None),
    ],
)
def test_a_failure_is_recorded_by_its_class(
    recorded: RecordedTelemetry, error: SkycoreError, named: str, code: str | None
) -> None:
    """A failure sets `error.type` by its class, its code on the span, and its text nowhere."""
    with recorded.telemetry.sending(BASE_URL) as operation:
        operation.ended(Failed(message=MESSAGE, error=error))
    span = recorded.span()
    attributes = dict(span.attributes or {})
    assert attributes["error.type"] == named
    assert attributes.get("skycore.error.code") == code
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert [dict(point.attributes) for point in recorded.points().values()] == [
        SENT | {"error.type": named}
    ] * 2


def test_an_exception_passes_and_is_recorded(recorded: RecordedTelemetry) -> None:
    """An exception ends the span as an error by its class, without its text or traceback."""
    with pytest.raises(ZeroDivisionError), recorded.telemetry.sending(BASE_URL):
        raise ZeroDivisionError("15551234888")
    assert dict(recorded.span().attributes or {})["error.type"] == "ZeroDivisionError"
    assert not recorded.span().events
    assert recorded.points()["messaging.client.sent.messages"].value == 1


@pytest.mark.parametrize("secret", ["15551234888", "Hello Jerry", "order-17", "4888"])
def test_no_number_text_or_key_is_recorded(recorded: RecordedTelemetry, secret: str) -> None:
    """No number, text or key reaches OpenTelemetry."""
    with suppress(RuntimeError), recorded.telemetry.sending(BASE_URL) as operation:
        operation.ended(ACCEPTED)
        operation.ended(Failed(message=MESSAGE, error=OutcomeUnknown(secret)))
        raise RuntimeError(secret)
    assert secret not in recorded.everything()


def test_a_password_in_the_address_is_not_recorded(recorded: RecordedTelemetry) -> None:
    """Only the host and the port of the API's address are recorded."""
    with recorded.telemetry.sending("http://user:secret@127.0.0.1:8080/path?q=1"):
        pass
    assert recorded.span().name == "send 127.0.0.1:8080"
    assert "secret" not in recorded.everything()
    assert "path" not in recorded.everything()


def test_a_message_sent_in_another_task_belongs_to_its_caller(recorded: RecordedTelemetry) -> None:
    """With the caller's `here`, the span is a child of the caller's."""
    tracer = recorded.tracer_provider.get_tracer("test")
    with tracer.start_as_current_span("caller") as caller:
        parent = recorded.telemetry.here()
    with recorded.telemetry.sending(BASE_URL, parent=parent) as operation:
        operation.ended(ACCEPTED)
    sent = recorded.exporter.get_finished_spans()[-1]
    assert sent.parent is not None
    assert sent.parent.span_id == caller.get_span_context().span_id


def test_a_postback_is_a_span_with_its_tracking_id(recorded: RecordedTelemetry) -> None:
    """Taking in one notification is one process span, counted and timed apart from sending."""
    with recorded.telemetry.receiving(parse_postback(RECEIPT)):
        pass
    span = recorded.span()
    assert (span.name, span.kind) == ("process postback", SpanKind.CONSUMER)
    attributes = dict(span.attributes or {})
    assert attributes["messaging.operation.type"] == "process"
    assert attributes["messaging.message.id"] == "SMS_12345"
    points = recorded.points()
    assert points["messaging.client.consumed.messages"].value == 1
    assert points["messaging.process.duration"].sum == 0.25
    assert points.keys() == {"messaging.client.consumed.messages", "messaging.process.duration"}
    assert "15551234888" not in recorded.everything()


def test_a_bundle_is_one_span_with_its_size(recorded: RecordedTelemetry) -> None:
    """A postback of several notifications has their number and no single tracking id."""
    with recorded.telemetry.receiving(parse_postback(RECEIPT) * 3):
        pass
    attributes = dict(recorded.span().attributes or {})
    assert attributes["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in attributes
    assert recorded.points()["messaging.client.consumed.messages"].value == 3


def test_a_postback_that_could_not_be_taken_in_is_an_error(recorded: RecordedTelemetry) -> None:
    """The receiver answers 500 and tells by which error."""
    with recorded.telemetry.receiving(parse_postback(RECEIPT)) as operation:
        operation.failed(TimeoutError("15551234888"))
    assert recorded.span().status.status_code is StatusCode.ERROR
    assert dict(recorded.span().attributes or {})["error.type"] == "TimeoutError"
    assert "15551234888" not in recorded.everything()


def test_without_an_sdk_it_costs_nothing_and_breaks_nothing() -> None:
    """Without providers in the program, operations pass and record nothing."""
    telemetry = Telemetry()
    with telemetry.sending(BASE_URL) as operation:
        operation.ended(ACCEPTED)
    with telemetry.receiving(parse_postback(RECEIPT)):
        pass


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenTelemetry the import names the pip install that cures it."""
    monkeypatch.delitem(sys.modules, "skycore_async.telemetry")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match=r"pip install 'skycore-async\[otel\]'"):
        importlib.import_module("skycore_async.telemetry")


@pytest.mark.anyio
async def test_a_client_records_what_it_sends(recorded: RecordedTelemetry) -> None:
    """Each message is a span whose parent is its caller's, though a task of its own sends it."""
    tracer = recorded.tracer_provider.get_tracer("a user's")
    client = SkycoreClient(
        api_key="a key",
        from_="60856",
        base_url=BASE_URL,
        transport=StubTransport(),
        telemetry=recorded.telemetry,
    )
    async with client:
        with tracer.start_as_current_span("order") as order:
            await client.send_sms(to="15551234888", text="Hello Jerry")
    sent, _ = recorded.exporter.get_finished_spans()
    assert sent.parent is not None
    assert sent.parent.span_id == order.get_span_context().span_id
    assert (sent.attributes or {})["messaging.message.id"] == "SMS_15551234888"
    assert recorded.points()["messaging.client.sent.messages"].value == 1


async def post(receiver: PostbackReceiver) -> int:
    """Post the receipt to a receiver, and return the status."""
    transport = httpx.ASGITransport(receiver)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as web:
        return (await web.post("/postback", content=RECEIPT)).status_code


@pytest.mark.anyio
async def test_a_receiver_records_what_it_takes_in(recorded: RecordedTelemetry) -> None:
    """A postback is a span."""
    receiver = PostbackReceiver(on_notification=str, telemetry=recorded.telemetry)
    assert await post(receiver) == 200
    assert recorded.span().status.status_code is StatusCode.UNSET
    assert recorded.points()["messaging.client.consumed.messages"].value == 1


@pytest.mark.anyio
async def test_a_receiver_records_what_it_cannot_take_in(recorded: RecordedTelemetry) -> None:
    """What a handler raised is the span's error, by its class."""

    def failing(_: Notification) -> None:
        raise ZeroDivisionError

    receiver = PostbackReceiver(on_notification=failing, telemetry=recorded.telemetry)
    assert await post(receiver) == 500
    assert recorded.span().status.status_code is StatusCode.ERROR
    assert (recorded.span().attributes or {})["error.type"] == "ZeroDivisionError"


class Broken(SimpleSpanProcessor):
    """An exporter's helper that fails."""

    def on_end(self, span: ReadableSpan) -> None:
        raise ConnectionError("no collector")


@pytest.mark.anyio
async def test_an_outcome_is_not_lost_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    """An error in telemetry leaves an accepted message accepted."""
    provider = TracerProvider()
    provider.add_span_processor(Broken(InMemorySpanExporter()))
    telemetry = Telemetry(tracer_provider=provider, meter_provider=MeterProvider())
    async with (
        MemoryLedger() as ledger,
        SkycoreClient(
            api_key="a key",
            from_="60856",
            transport=StubTransport(),
            telemetry=telemetry,
            ledger=ledger,
        ) as client,
    ):
        sent = await client.send_sms(to="15551234888", text="Hello", key="order-17")
        delivery = await ledger.delivery(key="order-17")
    assert delivery is not None
    assert (delivery.state, delivery.tracking_id) == ("accepted", sent.tracking_id)
    assert "could not be traced: ConnectionError" in caplog.text


@pytest.mark.anyio
async def test_a_postback_is_not_refused_for_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    """What was taken in is answered with 200, or the provider would send it again and again."""
    provider = TracerProvider()
    provider.add_span_processor(Broken(InMemorySpanExporter()))
    telemetry = Telemetry(tracer_provider=provider, meter_provider=MeterProvider())
    assert await post(PostbackReceiver(on_notification=str, telemetry=telemetry)) == 200
    assert "a postback could not be traced: ConnectionError" in caplog.text


@pytest.mark.anyio
async def test_a_broken_transport_makes_an_error_span(recorded: RecordedTelemetry) -> None:
    """A transport that breaks its protocol leaves doubt, and the span is an error."""

    def accident(_to: str) -> bytes:
        raise KeyError("a lane")

    client = SkycoreClient(
        api_key="a key",
        from_="60856",
        transport=StubTransport(accident),
        telemetry=recorded.telemetry,
    )
    async with client:
        with pytest.raises(OutcomeUnknown, match="KeyError"):
            await client.send_sms(to="15551234888", text="Hello")
    assert recorded.span().status.status_code is StatusCode.ERROR
