"""Postbacks as bytes, in both of the provider's forms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import attrs
import pytest

from skycore_async import DeliveryReceipt, DeliveryState, SentNotification, parse_postback
from skycore_async.protocol import safe_xml
from skycore_async.simulator.behaviours import (
    DELIVERED,
    FAILED,
    NOT_SENT,
    SENT,
    UNDOCUMENTED,
    Event,
)
from skycore_async.simulator.postbacks import (
    MAX_BUNDLE,
    Postback,
    PostbackForm,
    bundle,
    form_field,
    render,
)

SENT_POSTBACK = Postback(
    event=SENT,
    to="15551234888",
    tracking_id="SMS_12345",
    history_id=236990,
    id=325,
    created=datetime(2011, 7, 26, 15, 22, 26, 975911, UTC),
    timestamp=datetime(2011, 7, 26, 15, 22, 25, 262743, UTC),
    from_="60856",
    spid="0001470",
)


def parsed(document: bytes) -> tuple[str, Any]:
    root, fields = safe_xml.parse(document)
    return root, without_layout(fields)


def without_layout(value: Any) -> Any:
    if isinstance(value, list):
        return [without_layout(inner) for inner in value]
    if isinstance(value, dict):
        return {name: without_layout(inner) for name, inner in value.items() if name != "#text"}
    return value


def test_a_sent_notification_is_written_as_in_the_providers_example() -> None:
    """The NOTIFICATION form of the sent notification has no STATUS element."""
    assert parsed(render(SENT_POSTBACK, PostbackForm.NOTIFICATION)) == (
        "NOTIFICATION",
        {
            "@ID": "325",
            "@CREATED": "2011-07-26 10:22:26.975911-05",
            "ORIGIN": "SMS_MT",
            "CODE": "N201",
            "BODY": {
                "HISTORYID": "236990",
                "TO": "15551234888",
                "TRACKINGID": "SMS_12345",
                "TIMESTAMP": "2011-07-26 10:22:25.262743-05",
            },
        },
    )


def test_a_receipt_differs_from_it_by_its_status_alone() -> None:
    """The NOTIFICATION form of a receipt has CODE N201 too, and the aggregator's pair."""
    receipt = attrs.evolve(SENT_POSTBACK, event=DELIVERED)
    _, sent = parsed(render(SENT_POSTBACK, PostbackForm.NOTIFICATION))
    _, delivered = parsed(render(receipt, PostbackForm.NOTIFICATION))
    assert delivered["BODY"].pop("STATUS") == {"@PROTOCOL": "4", "@STATUS": "0"}
    assert delivered == sent


def test_a_message_that_was_not_sent_has_its_own_code() -> None:
    """E201 stays E201 in the NOTIFICATION form."""
    _, fields = parsed(
        render(attrs.evolve(SENT_POSTBACK, event=NOT_SENT), PostbackForm.NOTIFICATION)
    )
    assert fields["CODE"] == "E201"
    assert "STATUS" not in fields["BODY"]


def test_the_flat_form_has_one_event() -> None:
    """The flat form has one event, without NOTIFICATION, BODY and id."""
    receipt = attrs.evolve(SENT_POSTBACK, event=DELIVERED, from_mask="Jerry's")
    assert parsed(render(receipt, PostbackForm.FLAT)) == (
        "POSTBACK",
        {
            "ORIGIN": "SMS_MT",
            "CODE": "N202",
            "STATUS": "Message Sent/Delivered",
            "FROM": "60856",
            "FROM_MASK": "Jerry's",
            "TO": "15551234888",
            "TRACKINGID": "SMS_12345",
            "SPID": "0001470",
            "TIMESTAMP": "2011-07-26T10:22:25.262-05:00",
            "STATUSDETAILS": "delivered",
            "AGGREGATORID": "4",
        },
    )


def test_the_flat_form_has_no_empty_element() -> None:
    """The sent notification has no STATUSDETAILS, and no element is empty."""
    _, fields = parsed(render(attrs.evolve(SENT_POSTBACK, spid=""), PostbackForm.FLAT))
    assert set(fields) == {
        *("ORIGIN", "CODE", "STATUS", "FROM", "TO", "TRACKINGID", "TIMESTAMP"),
    }


@pytest.mark.parametrize("form", PostbackForm)
def test_values_are_escaped(form: PostbackForm) -> None:
    """Values with markup characters come through, in elements and attributes."""
    odd = Event(code="<&>", status='"<&>"', carrier=('"<&', ">'"), detail="<&>")
    document = render(attrs.evolve(SENT_POSTBACK, event=odd, tracking_id="<&>"), form)
    _, fields = parsed(document)
    if form is PostbackForm.FLAT:
        assert (fields["CODE"], fields["STATUS"], fields["TRACKINGID"]) == ("<&>", '"<&>"', "<&>")
    else:
        assert fields["BODY"]["STATUS"] == {"@PROTOCOL": '"<&', "@STATUS": ">'"}


def test_a_bundle_keeps_every_notification_in_order() -> None:
    """Up to 300 notifications share one POSTBACK."""
    postbacks = [attrs.evolve(SENT_POSTBACK, id=number) for number in range(MAX_BUNDLE)]
    root, fields = parsed(bundle(postbacks))
    assert root == "POSTBACK"
    ids = [int(notification["@ID"]) for notification in fields["NOTIFICATION"]]
    assert ids == list(range(MAX_BUNDLE))


@pytest.mark.parametrize("size", [0, MAX_BUNDLE + 1])
def test_a_bundle_has_a_size(size: int) -> None:
    """An empty bundle and one of more than 300 are refused."""
    with pytest.raises(ValueError, match="1 to 300"):
        bundle([SENT_POSTBACK] * size)


def test_a_document_goes_into_a_form_field() -> None:
    """Form-encoding keeps every byte of the document."""
    document = render(SENT_POSTBACK, PostbackForm.FLAT)
    assert parse_qs(form_field(document).decode()) == {"xml": [document.decode()]}


READ_BACK: list[tuple[Event, PostbackForm, DeliveryState | None]] = [
    (SENT, PostbackForm.NOTIFICATION, None),
    (SENT, PostbackForm.FLAT, None),
    (DELIVERED, PostbackForm.NOTIFICATION, DeliveryState.DELIVERED),
    (DELIVERED, PostbackForm.FLAT, DeliveryState.DELIVERED),
    (FAILED, PostbackForm.NOTIFICATION, DeliveryState.FAILED),
    (FAILED, PostbackForm.FLAT, DeliveryState.FAILED),
    (NOT_SENT, PostbackForm.NOTIFICATION, DeliveryState.FAILED),
    (NOT_SENT, PostbackForm.FLAT, DeliveryState.FAILED),
    (UNDOCUMENTED, PostbackForm.NOTIFICATION, DeliveryState.UNKNOWN),
    (UNDOCUMENTED, PostbackForm.FLAT, DeliveryState.UNKNOWN),
]


@pytest.mark.parametrize("as_form_field", [False, True], ids=["bare", "form-field"])
@pytest.mark.parametrize(("event", "form", "state"), READ_BACK)
def test_the_parser_reads_what_the_simulator_writes(
    event: Event, form: PostbackForm, state: DeliveryState | None, *, as_form_field: bool
) -> None:
    """The parser reads every kind of postback in either form as it was written."""
    document = render(attrs.evolve(SENT_POSTBACK, event=event), form)
    (read,) = parse_postback(form_field(document) if as_form_field else document)
    assert isinstance(read, SentNotification if state is None else DeliveryReceipt)
    assert (read.to, read.tracking_id) == ("15551234888", "SMS_12345")
    assert read.timestamp is not None
    assert abs(read.timestamp - SENT_POSTBACK.timestamp) < timedelta(milliseconds=1)
    if isinstance(read, DeliveryReceipt):
        assert read.state is state


def test_the_parser_reads_a_bundle_in_order() -> None:
    """A bundle of the most that the provider sends comes back whole and in order."""
    postbacks = [attrs.evolve(SENT_POSTBACK, id=number) for number in range(MAX_BUNDLE)]
    read = parse_postback(bundle(postbacks))
    assert [notification.id for notification in read] == [str(n) for n in range(MAX_BUNDLE)]
