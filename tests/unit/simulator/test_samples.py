"""One postback of each kind, in both of the provider's forms, as the parser reads it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from skycore_async import (
    DeliveryReceipt,
    DeliveryState,
    FailureReason,
    InboundSMS,
    Notification,
    SentNotification,
    SubscriptionChange,
    UnknownNotification,
    parse_postback,
)
from skycore_async.cli.commands.simulate import KINDS
from skycore_async.ledger.settlement import identities
from skycore_async.simulator import PostbackForm
from skycore_async.simulator.samples import SAMPLES, SampleFacts

TIME = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
FACTS = SampleFacts(id=7, time=TIME, number="15550001111", tracking_id="SMS_9")

S, R = DeliveryState, FailureReason
EXPECTED: dict[str, tuple[type, dict[str, Any]]] = {
    "sent": (SentNotification, {"code": "N201"}),
    "delivered": (DeliveryReceipt, {"state": S.DELIVERED}),
    "failed": (DeliveryReceipt, {"state": S.FAILED}),
    "expired": (DeliveryReceipt, {"state": S.FAILED, "reason": R.EXPIRED}),
    "rejected": (DeliveryReceipt, {"state": S.FAILED}),
    "not-sent": (DeliveryReceipt, {"state": S.FAILED, "code": "E201"}),
    "inbound": (InboundSMS, {"text": "yes please", "to": "60856"}),
    "stop": (InboundSMS, {"text": "STOP"}),
    "start": (InboundSMS, {"text": "START"}),
    "subscribed": (SubscriptionChange, {"subscribed": True, "campaign_id": "77676"}),
    "unsubscribed": (SubscriptionChange, {"subscribed": False}),
    "unknown": (UnknownNotification, {"code": "N102", "origin": "MMS_MT"}),
}


def read(kind: str, form: PostbackForm, facts: SampleFacts = FACTS) -> Notification:
    (found,) = parse_postback(SAMPLES[kind](facts, form))
    return found


def test_every_kind_is_known_to_the_command() -> None:
    """The command has every kind of sample, and each has a case here."""
    assert list(SAMPLES) == list(KINDS) == list(EXPECTED)


@pytest.mark.parametrize("form", PostbackForm)
@pytest.mark.parametrize("kind", EXPECTED)
def test_a_sample_is_of_its_kind(kind: str, form: PostbackForm) -> None:
    """A sample is of its kind, with its number or message, and its time."""
    expected, fields = EXPECTED[kind]
    found = read(kind, form)
    assert type(found) is expected
    assert {name: getattr(found, name) for name in fields} == fields
    assert found.id == ("7" if form is PostbackForm.NOTIFICATION else None)
    assert found.timestamp == TIME
    if isinstance(found, SentNotification | DeliveryReceipt):
        assert (found.to, found.tracking_id) == ("15550001111", "SMS_9")
    elif isinstance(found, InboundSMS):
        assert found.from_ == "15550001111"
    elif isinstance(found, SubscriptionChange):
        assert found.mobile == "15550001111"


@pytest.mark.parametrize("form", PostbackForm)
@pytest.mark.parametrize("kind", EXPECTED)
def test_two_samples_are_two_notifications(kind: str, form: PostbackForm) -> None:
    """Two samples have different ids, so that a ledger records both."""
    later = SampleFacts(id=8, time=TIME.replace(microsecond=679000))
    assert identities(read(kind, form)) != identities(read(kind, form, later))
