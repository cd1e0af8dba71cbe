"""Messages, outcomes and notifications as values."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from typing import Any, get_args

import attrs
import pytest

from skycore_async.codes import DeliveryState
from skycore_async.errors import Rejected
from skycore_async.messages import (
    SMS,
    Accepted,
    Failed,
    Outcome,
    ReportedMessage,
    ReportSection,
)
from skycore_async.notifications import (
    DeliveryReceipt,
    InboundSMS,
    Notification,
    SentNotification,
    SubscriptionChange,
    UnknownNotification,
)

SMS_TO_JERRY = SMS(to="15551234888", text="Hello Jerry", from_="60856", key="order-17")
RAW = {"SECRETPLACE": "only in raw"}
TIME = datetime(2011, 7, 26, 14, 22, 25, tzinfo=UTC)

VALUES: list[Any] = [
    SMS_TO_JERRY,
    Accepted(message=SMS_TO_JERRY, to="15551234888", tracking_id="SMS_12345", raw=RAW),
    ReportedMessage(
        history_id="236990",
        to="15551234888",
        text="Hello Jerry",
        section=ReportSection.SENDING_LIST,
        acknowledged_at=TIME,
    ),
    SentNotification(code="N201", origin="SMS_MT", tracking_id="SMS_12345", raw=RAW),
    DeliveryReceipt(
        code="N202",
        origin="SMS_MT",
        timestamp=TIME,
        state=DeliveryState.DELIVERED,
        tracking_id="SMS_12345",
        raw=RAW,
    ),
    InboundSMS(code="N211", origin="SMS_MO", text="  Yes\n", received=TIME, raw=RAW),
    SubscriptionChange(code="N301", origin="SUB", subscribed=True, raw=RAW),
    UnknownNotification(code=None, origin=None, id="9", raw=RAW),
]
KINDS = [type(value).__name__ for value in VALUES]

each_value = pytest.mark.parametrize("value", VALUES, ids=KINDS)


def test_the_table_has_every_value() -> None:
    """Every class of value is tested here; Failed holds an error and is tested by itself."""
    assert {type(value) for value in VALUES} == {
        SMS,
        ReportedMessage,
        *get_args(Outcome),
        *get_args(Notification),
    } - {Failed}


@each_value
def test_a_value_is_frozen(value: Any) -> None:
    """No field of a value can be set."""
    for field in attrs.fields(type(value)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, field.name, "other")


@each_value
def test_fields_are_keyword_only(value: Any) -> None:
    """A value is never built by position, so that fields can be added."""
    assert all(field.kw_only for field in attrs.fields(type(value)))
    with pytest.raises(TypeError):
        type(value)("N201")


@each_value
@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        attrs.evolve,
        *(
            lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol))  # noqa: S301
            for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
    ids=["copy", "deepcopy", "evolve", "pickle 2", "pickle 3", "pickle 4", "pickle 5"],
)
def test_a_copy_is_equal_in_everything(value: Any, copied: Any) -> None:
    """A copied or pickled value is equal, of the same hash, and keeps `raw`."""
    again = copied(value)
    assert again == value
    assert hash(again) == hash(value)
    assert attrs.asdict(again) == attrs.asdict(value)


def test_values_are_told_apart_by_kind_and_by_every_field() -> None:
    """Values of different classes are never equal, and one changed field is enough.

    From memory, an outcome is the same: `recorded`, and what else the ledger knows of it by now,
    make no difference.
    """
    assert len(set(VALUES)) == len(VALUES)
    for value in VALUES:
        apart = {"recorded"} | ({"history_id"} if isinstance(value, Accepted) else set())
        for field in attrs.fields(type(value)):
            changed = attrs.evolve(value, **{field.name: {"other": "value"}})
            assert (changed == value) == (field.name in apart)


@each_value
def test_a_repr_shows_the_fields_and_not_raw(value: Any) -> None:
    """A repr names the class and the fields, and leaves out the copy of the wire."""
    shown = repr(value)
    assert shown.startswith(f"{type(value).__name__}(")
    assert "SECRETPLACE" not in shown
    assert "raw=" not in shown


def test_a_failed_outcome_survives_pickling() -> None:
    """The message comes back equal, and the error with its class and fields."""
    error = Rejected.of(code="E713")
    failed = Failed(message=SMS_TO_JERRY, error=error)
    again = pickle.loads(pickle.dumps(failed))  # noqa: S301
    assert again.message == SMS_TO_JERRY
    assert type(again.error) is type(error)
    assert vars(again.error) == vars(error)
    assert hash(failed) == hash(Failed(message=SMS_TO_JERRY, error=error))


def test_outcomes_are_matched_by_their_fields() -> None:
    """`match` works on the fields of outcomes and notifications."""
    outcome: Outcome = VALUES[1]
    match outcome:
        case Accepted(tracking_id=tracking_id):
            assert tracking_id == "SMS_12345"
        case Failed():
            pytest.fail("an Accepted is no Failed")


def test_a_field_left_out_on_the_wire_is_none() -> None:
    """Only `raw`, and the fields that make a kind, are required."""
    required = {
        kind: {field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING}
        for kind in get_args(Notification)
    }
    assert required == {
        SentNotification: {"raw"},
        DeliveryReceipt: {"raw", "state"},
        InboundSMS: {"raw"},
        SubscriptionChange: {"raw", "subscribed"},
        UnknownNotification: {"raw"},
    }
    assert InboundSMS(raw={}).text == ""
