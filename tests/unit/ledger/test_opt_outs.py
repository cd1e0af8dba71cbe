"""The rules of opt-outs, over values alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from skycore_async.codes import DeliveryState, FailureReason
from skycore_async.ledger.model import (
    StoredNotification,
)
from skycore_async.ledger.opt_outs import (
    CLEAR,
    OptOut,
    latest_entry,
    may_be_sent_to,
    opt_out_of,
)
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
    """Make an event that differs from others by its name."""
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
    """A text that is only STOP or START, with any case, quotes and marks, opts out or in."""
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
    """A STOP from a number in digits of another script opts out the same number."""
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
    """N302 opts a number out and N301 in; other notifications do neither."""
    notification, expected = OTHERS[case]
    said = opt_out_of(notification, received=NOON)
    assert (None if said is None else (said.number, said.out)) == expected


@pytest.mark.parametrize(
    ("timestamp", "at", "stamped"),
    [
        (datetime.fromtimestamp(NOON - 9, UTC), NOON - 9, True),
        (datetime.fromtimestamp(NOON + 9, UTC), NOON + 9, True),
        (datetime.fromtimestamp(NOON - 9, UTC).replace(tzinfo=None), NOON, False),
        (None, NOON, False),
    ],
)
def test_an_opt_out_has_the_time_of_its_text(
    timestamp: datetime | None, at: float, stamped: bool
) -> None:
    """An opt-out has the time of its text, or of receipt if that time has no offset."""
    said = opt_out_of(
        InboundSMS(from_=TO, text="STOP", timestamp=timestamp, raw={}), received=NOON
    )
    assert said is not None
    assert (said.at, said.stamped) == (at, stamped)


def entry(out: bool, at: float, *, stamped: bool = True) -> OptOut:
    return OptOut(number=TO, out=out, at=at, stamped=stamped)


STOP, START = True, False
NOW = NOON + 5 * CLEAR
# The entry that is known, the one that comes, and whether that counts from now on.
COMING = {
    "a later stamp": (entry(STOP, NOON), entry(START, NOON + 1), True),
    "an earlier stamp": (entry(STOP, NOON + 1), entry(START, NOON), False),
    "the same stamp": (entry(START, NOON), entry(STOP, NOON), True),
    "the caller's": (entry(STOP, NOON), entry(START, NOW, stamped=False), True),
    "the caller's after one from ahead": (
        entry(STOP, NOW + 9),
        entry(START, NOW, stamped=False),
        True,
    ),
    "a STOP a little older than the caller's": (
        entry(START, NOON, stamped=False),
        entry(STOP, NOON - CLEAR),
        True,
    ),
    "a STOP much older than the caller's": (
        entry(START, NOON, stamped=False),
        entry(STOP, NOON - CLEAR - 1),
        False,
    ),
    "a START a little older than the caller's": (
        entry(STOP, NOON, stamped=False),
        entry(START, NOON - 1),
        False,
    ),
    "an older STOP after a STOP of the caller's": (
        entry(STOP, NOON, stamped=False),
        entry(STOP, NOON - 1),
        False,
    ),
    "any after the caller's from ahead": (
        entry(STOP, NOW + 1, stamped=False),
        entry(START, NOW - 1),
        True,
    ),
    "what a rule found to be no opt-out, after one": (
        entry(STOP, NOON),
        attrs.evolve(entry(START, NOON + 1), only_if_in=True),
        False,
    ),
    "the caller's leave that another heard before the STOP": (
        entry(STOP, NOON),
        attrs.evolve(entry(START, NOON, stamped=False), relayed=True),
        False,
    ),
    "the caller's leave that another heard after it": (
        entry(STOP, NOON),
        attrs.evolve(entry(START, NOON + 1, stamped=False), relayed=True),
        True,
    ),
    "the caller's leave that another heard after one from ahead": (
        entry(STOP, NOW + 1),
        attrs.evolve(entry(START, NOON, stamped=False), relayed=True),
        True,
    ),
    "a STOP that another heard before": (
        entry(START, NOON, stamped=False),
        attrs.evolve(entry(STOP, NOON - 1, stamped=False), relayed=True),
        True,
    ),
    "the caller's STOP that another heard before a STOP": (
        entry(STOP, NOON),
        attrs.evolve(entry(STOP, NOON - 1, stamped=False), relayed=True),
        False,
    ),
    "the caller's STOP that another heard after a STOP": (
        entry(STOP, NOON),
        attrs.evolve(entry(STOP, NOON + 1, stamped=False), relayed=True),
        True,
    ),
    "a START of the same postback that an inbox kept": (
        entry(STOP, NOON, stamped=False),
        attrs.evolve(entry(START, NOON, stamped=False), relayed=True),
        True,
    ),
    "a START that an inbox kept while a STOP came": (
        entry(STOP, NOON + 1, stamped=False),
        attrs.evolve(entry(START, NOON, stamped=False), relayed=True),
        False,
    ),
    "a right stamp after one from ahead": (entry(START, NOW + 9), entry(STOP, NOW), True),
    "an earlier stamp, both from ahead": (entry(START, NOW + 9), entry(STOP, NOW + 8), False),
}


@pytest.mark.parametrize("case", COMING)
def test_the_latest_entry_counts_and_where_it_is_not_clear_the_number_has_opted_out(
    case: str,
) -> None:
    """The latest entry counts, and where the order is unclear the number is opted out."""
    known, comes, counts = COMING[case]
    assert latest_entry(known, [comes], now=NOW) == (comes if counts else known)


@pytest.mark.parametrize(
    ("own", "short", "is_out"),
    [
        (None, None, False),
        (None, True, True),
        (None, False, False),
        (True, None, True),
        (True, False, True),  # somebody of that name came back, in one country or another
        (False, True, False),  # the number itself did, and later
        (False, None, False),
    ],
)
def test_a_number_is_known_by_what_it_is_called_within_its_country(
    own: bool | None, short: bool | None, is_out: bool
) -> None:
    """An opt-out without country code counts until the full number is opted in later."""
    number, called = "15551234888", "5551234888"
    given = {number: (own, NOON + 1), called: (short, NOON)}
    entries = {
        name: OptOut(number=name, out=out, at=at)
        for name, (out, at) in given.items()
        if out is not None
    }
    assert may_be_sent_to(number, entries) is not is_out
    earlier = {name: attrs.evolve(entry, at=NOON) for name, entry in entries.items()}
    assert may_be_sent_to(number, earlier) is not (is_out or short is True)
