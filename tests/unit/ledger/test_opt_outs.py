"""Who may not be sent to: by values alone, with no ledger at all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from skycore_async.codes import DeliveryState, FailureReason
from skycore_async.ledger.model import (
    StoredNotification,
)
from skycore_async.ledger.opt_outs import opt_out_of
from skycore_async.messages import SMS
from skycore_async.notifications import (
    DeliveryReceipt,
    InboundSMS,
    Notification,
    SubscriptionChange,
    UnknownNotification,
)

TO = "15551234888"
NOON = 1_700_000_000.0
MESSAGE = SMS(to="+1 (555) 123-4888", text="Hello", from_="60856", key="order-17")

SENT, DELIVERED = DeliveryState.SENT, DeliveryState.DELIVERED
FAILED, UNKNOWN = DeliveryState.FAILED, DeliveryState.UNKNOWN


def event(
    name: str,
    state: DeliveryState | None = SENT,
    at: float | None = NOON,
    reason: FailureReason | None = None,
    **fields: Any,
) -> StoredNotification:
    """Make an event that its name tells from every other."""
    fields = {"tracking_id": "T", "to": TO, "from_": None, **fields}
    fields = {"happened": NOON, "received": NOON, **fields}
    return StoredNotification(
        identity=name.encode(), at=at, state=state, reason=reason, raw=f'"{name}"', **fields
    )


# Who may not be sent to.

WORDS = {
    **dict.fromkeys(
        ["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "stop", "Stop", " stop\r\n"],
        True,
    ),
    **dict.fromkeys(["REVOKE", "OPTOUT", "opt out", "Opt-Out", "Stop all", "Revoke."], True),
    **dict.fromkeys(["\u201cSTOP\u201d", "\u2018stop\u2019", "Stop,", "\u00a0stop"], True),
    **dict.fromkeys(['"STOP"', "'stop'", "Stop.", "STOP!", "stop!!", "\tQuit. "], True),
    **dict.fromkeys(["START", "UNSTOP", "start", "Start!", "unstop."], False),
    **dict.fromkeys(
        ["", " ", "stop it", "don't stop", "STO P", "ST.OP", "restart", "end?", "yes"],
        None,
    ),
}


@pytest.mark.parametrize("text", WORDS)
def test_a_message_that_is_nothing_but_the_word_opts_out_or_in(text: str) -> None:
    """Case, quotes and closing marks are no matter; another word beside it is."""
    said = opt_out_of(InboundSMS(from_="+1 555 123 4888", text=text, raw={}), received=NOON)
    assert (None if said is None else (said.number, said.out)) == (
        None if WORDS[text] is None else (TO, WORDS[text])
    )


@pytest.mark.parametrize(
    "number",
    [
        "\uff0b\uff11\uff15\uff15\uff15\uff11\uff12\uff13\uff14\uff18\uff18\uff18",
        "\u0661\u0665\u0665\u0665\u0661\u0662\u0663\u0664\u0668\u0668\u0668",
        "1 (555) 123-\u096a\u096e\u096e\u096e",
    ],
)
def test_a_number_in_digits_of_another_script_is_the_same(number: str) -> None:
    """STOP from it is STOP from the number that is sent to."""
    said = opt_out_of(InboundSMS(from_=number, text="STOP", raw={}), received=NOON)
    assert said is not None
    assert said.number == TO


OTHERS: dict[str, tuple[Notification, tuple[str, bool] | None]] = {
    "unsubscribed": (SubscriptionChange(subscribed=False, mobile=TO, raw={}), (TO, True)),
    "subscribed": (SubscriptionChange(subscribed=True, mobile="+" + TO, raw={}), (TO, False)),
    "unsubscribed, of no number": (SubscriptionChange(subscribed=False, raw={}), None),
    "unsubscribed, of what is no number": (
        SubscriptionChange(subscribed=False, mobile="unknown", raw={}),
        None,
    ),
    "STOP from nobody": (InboundSMS(text="STOP", raw={}), None),
    "a receipt": (DeliveryReceipt(state=FAILED, to=TO, raw={}), None),
    "what is unknown": (UnknownNotification(raw={}), None),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_change_of_subscription_opts_out_or_in(case: str) -> None:
    """N302 opts out and N301 in; what names no number, or is something else, does neither."""
    notification, expected = OTHERS[case]
    said = opt_out_of(notification, received=NOON)
    assert (None if said is None else (said.number, said.out)) == expected


@pytest.mark.parametrize(
    ("timestamp", "at"),
    [
        (datetime.fromtimestamp(NOON - 9, UTC), NOON - 9),
        (datetime.fromtimestamp(NOON + 9, UTC), NOON),
        (datetime.fromtimestamp(NOON - 9, UTC).replace(tzinfo=None), NOON),
        (None, NOON),
    ],
)
def test_a_word_is_from_when_it_was_said(timestamp: datetime | None, at: float) -> None:
    """Or from when it was received: where its time has no offset, or is yet to come."""
    said = opt_out_of(
        InboundSMS(from_=TO, text="STOP", timestamp=timestamp, raw={}), received=NOON
    )
    assert said is not None
    assert said.at == at
