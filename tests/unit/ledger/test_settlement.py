"""What notifications mean for messages, over values alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycore_async.codes import DeliveryState, FailureReason
from skycore_async.ledger.model import (
    MessageRecord,
    MessageState,
    StoredNotification,
)
from skycore_async.ledger.settlement import (
    CLOCKS_APART,
    Progress,
    UnmatchedSubmission,
    in_order,
    match_doubts,
    progress_by,
    stored,
)
from skycore_async.messages import SMS
from skycore_async.notifications import (
    DeliveryReceipt,
    InboundSMS,
    Notification,
    SentNotification,
    SubscriptionChange,
    UnknownNotification,
)
from skycore_async.postbacks import parse_postback

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


# How far a message got.

EXPIRED = FailureReason.EXPIRED
TOLD: dict[str, tuple[list[StoredNotification], MessageState, FailureReason | None]] = {
    "nothing": ([], MessageState.ACCEPTED, None),
    "sent": ([event("a")], MessageState.SENT, None),
    "sent twice": ([event("a"), event("b", at=NOON + 1)], MessageState.SENT, None),
    "an unknown state alone": ([event("a", UNKNOWN)], MessageState.ACCEPTED, None),
    "no state at all": ([event("a", None)], MessageState.ACCEPTED, None),
    "an unknown state after it was sent": (
        [event("a"), event("b", UNKNOWN, NOON + 1)],
        MessageState.SENT,
        None,
    ),
    "an unknown state after it was delivered": (
        [event("a", DELIVERED), event("b", UNKNOWN, NOON + 1)],
        MessageState.DELIVERED,
        None,
    ),
    "sent, and at once delivered": (
        [event("a"), event("b", DELIVERED)],
        MessageState.DELIVERED,
        None,
    ),
    "delivered, by the clock before it was sent": (
        [event("a", at=NOON + 60), event("b", DELIVERED)],
        MessageState.DELIVERED,
        None,
    ),
    "failed": (
        [event("a"), event("b", FAILED, NOON + 1, EXPIRED)],
        MessageState.FAILED,
        EXPIRED,
    ),
    "failed before it was delivered": (
        [event("a", FAILED, NOON, EXPIRED), event("b", DELIVERED, NOON + 1)],
        MessageState.FAILED,
        EXPIRED,
    ),
    "delivered before it failed": (
        [event("a", DELIVERED), event("b", FAILED, NOON + 1, EXPIRED)],
        MessageState.DELIVERED,
        None,
    ),
    "failed and delivered at the same time": (
        [event("a", FAILED, reason=EXPIRED), event("b", DELIVERED)],
        MessageState.DELIVERED,
        None,
    ),
    "failed with a time and delivered without one": (
        [event("a", DELIVERED, None), event("b", FAILED, NOON, EXPIRED)],
        MessageState.FAILED,
        EXPIRED,
    ),
    "two failures at the same time": (
        [event("b", FAILED), event("a", FAILED, reason=EXPIRED)],
        MessageState.FAILED,
        EXPIRED,
    ),
}


@pytest.mark.parametrize("case", TOLD)
def test_a_state_is_told_by_all_the_notifications_in_any_order(case: str) -> None:
    """The first final notification by time wins, delivered wins a tie, in any order of receipt."""
    events, state, reason = TOLD[case]
    told = Progress(state=state, reason=reason, history_id=None)
    for order in itertools.permutations(events):
        assert progress_by(order) == told
        assert progress_by(order * 2) == told
        assert in_order(order) == in_order(events)


@pytest.mark.slow
@given(
    st.lists(
        st.builds(
            event,
            st.sampled_from("abcdefgh"),
            st.sampled_from([*DeliveryState, None]),
            st.sampled_from([None, NOON, NOON + 1, NOON + 2]),
            st.sampled_from([None, *FailureReason]),
        ),
        max_size=8,
        unique_by=lambda made: made.identity,
    ),
    st.randoms(use_true_random=False),
)
def test_order_and_repetition_of_notifications_change_no_state(
    events: list[StoredNotification], chance: Any
) -> None:
    """A message's state depends on the set of notifications, not on order or repetition."""
    again = events + [chance.choice(events) for _ in events]
    chance.shuffle(again)
    assert progress_by(again) == progress_by(events)


# What settles a doubt.


def doubt(
    id_: int = 1,
    *,
    from_: str | None = "60856",
    began: float = NOON,
    state: MessageState = MessageState.IN_DOUBT,
) -> MessageRecord:
    """Make the record of a message in doubt."""
    return MessageRecord(
        id=id_, key=f"k{id_}", content=b"", to=TO, from_=from_, state=state, started_at=began
    )


WITHIN = 3600.0
IDS = [f"SMS_{number}" for number in range(1000)]


def unmatched(
    tracking_id: str = "T",
    *happened: float,
    from_: str | None = "60856",
    to: str | None = TO,
    received: float | None = None,
) -> UnmatchedSubmission:
    """Make a submission; its notifications were received when they happened, or as given."""
    return UnmatchedSubmission(
        plain_id=tracking_id,
        events=[
            event(
                f"{tracking_id} {time}",
                tracking_id=tracking_id,
                happened=time,
                received=time if received is None else received,
                from_=from_,
                to=to,
            )
            for time in happened or (NOON,)
        ],
    )


def found(id_: int = 1, to: str = TO) -> MessageRecord:
    """Make a message that a report found under HISTORYID 77."""
    record = doubt(id_, state=MessageState.ACCEPTED)
    return attrs.evolve(record, to=to, history_id="77", settled_by="report", doubted=True)


def under_77(name: str = "T", to: str | None = TO, *more: StoredNotification) -> Any:
    """Make a submission whose notification has HISTORYID 77 and came days later."""
    told = event(name, tracking_id=name, to=to, history_id="77", happened=NOON + 99 * WITHIN)
    return UnmatchedSubmission(plain_id=name, events=[told, *more])


ANOTHER = f"44{TO[2:]}"  # that ends as it does
SETTLED: dict[
    str, tuple[Sequence[MessageRecord], Sequence[UnmatchedSubmission], list[tuple[int, str]]]
] = {
    "one message and one submission": ([doubt()], [unmatched()], [(1, "T")]),
    "one found and its HISTORYID": ([found()], [under_77()], [(1, "T")]),
    "... without its country code": ([found()], [under_77(to=TO[1:])], [(1, "T")]),
    "... without a number": ([found()], [under_77(to=None)], [(1, "T")]),
    "... with another number": ([found()], [under_77(to=ANOTHER)], []),
    "... with two numbers": ([found()], [under_77("T", TO, event("b", to=ANOTHER))], []),
    "two found with one HISTORYID": ([found(1), found(2)], [under_77()], []),
    "... to two numbers": ([found(1), found(2, ANOTHER)], [under_77(to=ANOTHER)], [(2, "T")]),
    "two submissions with its HISTORYID": ([found()], [under_77("T"), under_77("U")], []),
    "nothing": ([], [], []),
    "a message alone": ([doubt()], [], []),
    "a submission alone": ([], [unmatched()], []),
    "two messages and one submission": ([doubt(1), doubt(2)], [unmatched()], []),
    "one message and two submissions": ([doubt()], [unmatched("T"), unmatched("U")], []),
    "two messages and two submissions": (
        [doubt(1), doubt(2)],
        [unmatched("T"), unmatched("U")],
        [],
    ),
    "two messages, told apart by FROM": (
        [doubt(1), doubt(2, from_="12345")],
        [unmatched("T"), unmatched("U", from_="12345")],
        [(1, "T"), (2, "U")],
    ),
    "two messages, however far apart": (
        [doubt(1), doubt(2, began=NOON + 10_000)],
        [unmatched("T"), unmatched("U", NOON + 10_001)],
        [],
    ),
    "one message and a submission of another time": (
        [doubt()],
        [unmatched("T"), unmatched("U", NOON + 10_001), unmatched("V", NOON - 10_001)],
        [(1, "T")],
    ),
    "a message that was sent again": (
        [doubt(1), doubt(2, state=MessageState.ACCEPTED)],
        [unmatched()],
        [],
    ),
    "no message in doubt": ([doubt(state=MessageState.ACCEPTED)], [unmatched()], []),
    "stamped out of time, and received in time": (
        [doubt()],
        [unmatched("T", NOON - 7 * 3600, received=NOON + 1)],
        [(1, "T")],
    ),
    "stamped in time, and received out of time": (
        [doubt()],
        [unmatched("T", NOON, received=NOON + 99 * WITHIN)],
        [(1, "T")],
    ),
    "two submissions, one of them in time by its stamp alone": (
        [doubt()],
        [unmatched("T"), unmatched("U", NOON, received=NOON + 99 * WITHIN)],
        [],
    ),
    "without its country code": ([doubt()], [unmatched(to=TO[1:])], [(1, "T")]),
    "another number that ends so": ([doubt()], [unmatched(to=f"44{TO[2:]}")], []),
    "no number on its notifications": ([doubt()], [unmatched(to=None)], [(1, "T")]),
    "notifications of two numbers": (
        [doubt()],
        [
            UnmatchedSubmission(
                plain_id="T", events=[*unmatched().events, *unmatched(to="15559876543").events]
            )
        ],
        [],
    ),
    "FROM written in another way": (
        [doubt(from_="15550001111")],
        [unmatched(from_="+1 555-000-1111")],
        [(1, "T")],
    ),
    "FROM in other letters": ([doubt(from_="Shop1")], [unmatched(from_="SHOP1")], [(1, "T")]),
    "FROM with other letters": ([doubt(from_="Shop1")], [unmatched(from_="Cafe1")], []),
    "a chain of what is possible": (
        [doubt(1), doubt(2, began=NOON + 3000)],
        [unmatched("T"), unmatched("U", NOON + 3000)],
        [],
    ),
    "a message that is under way": ([doubt(state=MessageState.SENDING)], [unmatched()], []),
    "another that is under way": (
        [doubt(1), doubt(2, state=MessageState.SENDING)],
        [unmatched()],
        [],
    ),
    "another that is under way, and began after it": (
        [doubt(1), doubt(2, state=MessageState.SENDING, began=NOON + CLOCKS_APART + 1)],
        [unmatched()],
        [],
    ),
    "another FROM": ([doubt()], [unmatched(from_="12345")], []),
    "no FROM on the notification": ([doubt()], [unmatched(from_=None)], [(1, "T")]),
    "no FROM on the message": ([doubt(from_=None)], [unmatched()], [(1, "T")]),
    "the first moment": ([doubt()], [unmatched("T", NOON - CLOCKS_APART)], [(1, "T")]),
    "before the first moment": ([doubt()], [unmatched("T", NOON - CLOCKS_APART - 1)], []),
    "the last moment": ([doubt()], [unmatched("T", NOON + WITHIN)], [(1, "T")]),
    "after the last moment": ([doubt()], [unmatched("T", NOON + WITHIN + 1)], []),
    "several notifications of one submission": (
        [doubt()],
        [unmatched("T", NOON, NOON + 5, NOON + 60)],
        [(1, "T")],
    ),
    "several notifications, one of which is from before the first moment": (
        [doubt()],
        [unmatched("T", NOON - CLOCKS_APART - 1, NOON)],
        [],
    ),
    "several notifications, all of which are from after the last moment": (
        [doubt()],
        [unmatched("T", NOON + WITHIN + 1, NOON + WITHIN + 2)],
        [],
    ),
    "several notifications, one of which has another FROM": (
        [doubt()],
        [
            UnmatchedSubmission(
                plain_id="T", events=[*unmatched().events, *unmatched(from_="12345").events]
            )
        ],
        [],
    ),
    "a receipt long after it was sent, whichever came first": (
        [doubt()],
        [unmatched("T", NOON + 99 * WITHIN, NOON + 1)],
        [(1, "T")],
    ),
}


@pytest.mark.parametrize("case", SETTLED)
def test_doubt_is_settled_where_two_can_only_mean_each_other(case: str) -> None:
    """A doubt is settled only if it and a submission are each other's only candidate."""
    doubts, submissions, expected = SETTLED[case]
    assert match_doubts(doubts, submissions, within=WITHIN) == expected
    assert match_doubts(doubts[::-1], submissions[::-1], within=WITHIN) == expected


class _Counted(list[StoredNotification]):
    """Notifications that count how often they are iterated."""

    looks = 0

    def __iter__(self) -> Iterator[StoredNotification]:
        type(self).looks += 1
        return super().__iter__()


def test_what_others_send_to_a_number_in_doubt_is_looked_through_once_for_each() -> None:
    """Matching a doubt with a thousand submissions looks at each a limited number of times."""
    submissions = [
        attrs.evolve(each, events=_Counted(each.events)) for each in map(unmatched, IDS)
    ]
    _Counted.looks = 0
    assert match_doubts([doubt()], submissions, within=WITHIN) == []
    assert _Counted.looks < 10 * len(IDS)


# What is kept of a notification.


def form_a(id_: str = "325", code: str = "N201", tracking_id: str = "T", extra: str = "") -> str:
    return (
        f'<NOTIFICATION ID="{id_}" CREATED="2011-07-26 10:22:26-04"><ORIGIN>SMS_MT</ORIGIN>'
        f"<CODE>{code}</CODE><BODY><TO>{TO}</TO><TRACKINGID>{tracking_id}</TRACKINGID>{extra}"
        "</BODY></NOTIFICATION>"
    )


def form_b(second: int = 8, status: str = "Message Sent") -> str:
    return (
        f"<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE><TO>{TO}</TO>"
        f"<TRACKINGID>T</TRACKINGID><STATUS>{status}</STATUS>"
        f"<TIMESTAMP>2013-11-05T05:41:0{second}-05:00</TIMESTAMP></POSTBACK>"
    )


def from_handset(from_: str = TO, text: str = "STOP", created: str = "2011-07-26 10:22:26") -> str:
    return (
        f'<NOTIFICATION ID="325" CREATED="{created}-04"><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE>'
        f"<BODY><FROM>{from_}</FROM><TO>60856</TO><TEXT>{text}</TEXT></BODY></NOTIFICATION>"
    )


def unsubscribed(mobile: str = TO) -> str:
    return (
        '<NOTIFICATION ID="325"><ORIGIN>SUB</ORIGIN><CODE>N302</CODE>'
        f"<BODY><MOBILE>{mobile}</MOBILE></BODY></NOTIFICATION>"
    )


IDENTITIES = {
    "form A, again": (form_a(), form_a(), True),
    "form A, again with other content": (form_a(), form_a(extra="<SPID>7</SPID>"), True),
    "form A, another id": (form_a(), form_a("326"), False),
    "form A, another code": (form_a(), form_a(code="E201"), False),
    "form A, another message": (form_a(), form_a(tracking_id="U"), False),
    "a text, again": (from_handset(), from_handset(created="2011-07-26T10:22:26.0"), True),
    "a text of another account, from another": (from_handset(), from_handset(ANOTHER), False),
    "a text of another account": (from_handset(), from_handset(text="START"), False),
    "a text of another time": (from_handset(), from_handset(created="2011-07-27 01:00"), False),
    "who unsubscribed, again": (unsubscribed(), unsubscribed(), True),
    "who unsubscribed at another account": (unsubscribed(), unsubscribed(ANOTHER), False),
    "form B, again": (form_b(), form_b(), True),
    "form B, another time": (form_b(), form_b(9), False),
    "form B, another status": (form_b(), form_b(status="Message Failed"), False),
    "the one form and the other": (form_a(), form_b(), False),
}


@pytest.mark.parametrize("case", IDENTITIES)
def test_a_repetition_is_known_by_its_id_or_else_by_all_of_it(case: str) -> None:
    """A repeated notification is known by its id in form A, and by its content in form B.

    Texts and subscription changes are also told apart by number, text and time.
    """
    one, other, are_same = IDENTITIES[case]
    first, second = (
        stored(parse_postback(document)[0], received=received)
        for document, received in ((one, NOON), (other, NOON + 5))
    )
    assert (first.identity == second.identity) is are_same


def test_the_order_of_elements_tells_no_notification_from_another() -> None:
    """Form B with its elements in another order is the same notification."""
    document = "<POSTBACK><TO>15551234888</TO><CODE>N201</CODE><ORIGIN>SMS_MT</ORIGIN></POSTBACK>"
    mixed = "<POSTBACK><CODE>N201</CODE><ORIGIN>SMS_MT</ORIGIN><TO>15551234888</TO></POSTBACK>"
    one, other = (stored(parse_postback(each)[0], received=NOON) for each in (document, mixed))
    assert one.identity == other.identity


SUMMER = timezone(timedelta(hours=-4))
TEN = datetime(2011, 7, 26, 10, 0, 0)
RECEIVED = NOON
TIMES: dict[str, tuple[datetime | None, datetime | None, float | None, float]] = {
    "a time with an offset": (
        TEN.replace(tzinfo=SUMMER),
        None,
        datetime(2011, 7, 26, 14, tzinfo=UTC).timestamp(),
        datetime(2011, 7, 26, 14, tzinfo=UTC).timestamp(),
    ),
    "a naive time is taken as UTC for the order, and settles nothing": (
        TEN,
        None,
        TEN.replace(tzinfo=UTC).timestamp(),
        RECEIVED,
    ),
    "the time of creation where there is no other": (
        None,
        TEN.replace(tzinfo=UTC),
        TEN.replace(tzinfo=UTC).timestamp(),
        TEN.replace(tzinfo=UTC).timestamp(),
    ),
    "the notification's own time before that of its creation": (
        TEN.replace(tzinfo=UTC),
        TEN.replace(tzinfo=SUMMER),
        TEN.replace(tzinfo=UTC).timestamp(),
        TEN.replace(tzinfo=UTC).timestamp(),
    ),
    "no time at all": (None, None, None, RECEIVED),
}


@pytest.mark.parametrize("case", TIMES)
def test_the_place_in_time_is_not_the_time_that_settles(case: str) -> None:
    """A naive time orders notifications, but only a time with offset, or of receipt, settles."""
    timestamp, created, at, happened = TIMES[case]
    notification = SentNotification(timestamp=timestamp, created=created, raw={})
    kept = stored(notification, received=RECEIVED)
    assert (kept.at, kept.happened) == (at, happened)


KEPT: dict[str, tuple[Notification, dict[str, Any]]] = {
    "sent": (
        SentNotification(tracking_id="T", to="+1 555 123 4888", from_="60856", raw={}),
        {"tracking_id": "T", "to": TO, "from_": "60856", "state": SENT, "reason": None},
    ),
    "a receipt": (
        DeliveryReceipt(tracking_id="T", to=TO, state=FAILED, reason=EXPIRED, raw={}),
        {"tracking_id": "T", "to": TO, "from_": None, "state": FAILED, "reason": EXPIRED},
    ),
    "a receipt of nothing": (
        DeliveryReceipt(state=UNKNOWN, raw={}),
        {"tracking_id": None, "to": None, "from_": None, "state": UNKNOWN, "reason": None},
    ),
    "an inbound message, which is about no message of ours": (
        InboundSMS(tracking_id="T", to="60856", from_=TO, raw={}),
        {"tracking_id": None, "to": None, "from_": None, "state": None, "reason": None},
    ),
    "a change of subscription": (
        SubscriptionChange(subscribed=True, mobile=TO, raw={}),
        {"tracking_id": None, "to": None, "from_": None, "state": None, "reason": None},
    ),
    "what is unknown": (
        UnknownNotification(raw={}),
        {"tracking_id": None, "to": None, "from_": None, "state": None, "reason": None},
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_an_event_says_which_message_it_is_about(case: str) -> None:
    """Only sent notifications and receipts name a message, by tracking id and number."""
    notification, expected = KEPT[case]
    kept = stored(notification, received=NOON)
    assert {name: getattr(kept, name) for name in expected} == expected
