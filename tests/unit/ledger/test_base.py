"""What a ledger decides: by values alone, with no ledger at all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycore_async.codes import API_ERRORS, DeliveryState, FailureReason, Scope
from skycore_async.errors import (
    InvalidMessage,
    KeyConflict,
    LedgerError,
    NotSent,
    OutcomeUnknown,
    RecipientOptedOut,
    Rejected,
    SendingHalted,
    SkycoreError,
    Throttled,
)
from skycore_async.ledger.model import MessageState, SendIntent, Submission
from skycore_async.ledger.opt_outs import opt_out_of
from skycore_async.ledger.rules import content_of, known_or_conflict, outcome_of, submission_of
from skycore_async.ledger.settlement import (
    CLOCKS_APART,
    Doubt,
    StoredNotification,
    UnmatchedSubmission,
    derive_state,
    event_of,
    in_order,
    match_doubts,
)
from skycore_async.messages import SMS, Accepted, Failed
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
    """Make an event that its name tells from every other."""
    fields = {"tracking_id": "T", "to": TO, "from_": None, "happened": NOON, **fields}
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
    """The first final one in order of time wins, delivered wins a tie, and unknown is nothing."""
    events, state, reason = TOLD[case]
    for order in itertools.permutations(events):
        assert derive_state(order) == (state, reason)
        assert derive_state(order * 2) == (state, reason)
        assert in_order(order) == in_order(events)


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
def test_no_order_and_no_repetition_changes_what_is_told(
    events: list[StoredNotification], chance: Any
) -> None:
    """What is told is a function of the set of notifications."""
    again = events + [chance.choice(events) for _ in events]
    chance.shuffle(again)
    assert derive_state(again) == derive_state(events)


# What settles a doubt.


def doubt(id_: int = 1, **fields: Any) -> Doubt:
    return Doubt(**{"id": id_, "from_": "60856", "began": NOON, "under_way": False, **fields})


def stray(
    tracking_id: str = "T", *happened: float, from_: str | None = "60856"
) -> UnmatchedSubmission:
    return UnmatchedSubmission(
        tracking_id=tracking_id,
        events=[
            event(f"{tracking_id} {time}", tracking_id=tracking_id, happened=time, from_=from_)
            for time in happened or (NOON,)
        ],
    )


WITHIN = 3600.0
SETTLED: dict[
    str, tuple[Sequence[Doubt], Sequence[UnmatchedSubmission], list[tuple[int, str]]]
] = {
    "one message and one submission": ([doubt()], [stray()], [(1, "T")]),
    "nothing": ([], [], []),
    "a message alone": ([doubt()], [], []),
    "a submission alone": ([], [stray()], []),
    "two messages and one submission": ([doubt(1), doubt(2)], [stray()], []),
    "one message and two submissions": ([doubt()], [stray("T"), stray("U")], []),
    "two messages and two submissions": ([doubt(1), doubt(2)], [stray("T"), stray("U")], []),
    "two messages, told apart by FROM": (
        [doubt(1), doubt(2, from_="12345")],
        [stray("T"), stray("U", from_="12345")],
        [(1, "T"), (2, "U")],
    ),
    "two messages, told apart by their times": (
        [doubt(1), doubt(2, began=NOON + 10_000)],
        [stray("T"), stray("U", NOON + 10_001)],
        [(1, "T"), (2, "U")],
    ),
    "a chain of what is possible": (
        [doubt(1), doubt(2, began=NOON + 3000)],
        [stray("T"), stray("U", NOON + 3000)],
        [],
    ),
    "a message that is under way": ([doubt(under_way=True)], [stray()], []),
    "another that is under way": ([doubt(1), doubt(2, under_way=True)], [stray()], []),
    "another that is under way, and too late for it": (
        [doubt(1), doubt(2, under_way=True, began=NOON + CLOCKS_APART + 1)],
        [stray()],
        [(1, "T")],
    ),
    "another FROM": ([doubt()], [stray(from_="12345")], []),
    "no FROM on the notification": ([doubt()], [stray(from_=None)], [(1, "T")]),
    "no FROM on the message": ([doubt(from_=None)], [stray()], [(1, "T")]),
    "the first moment": ([doubt()], [stray("T", NOON - CLOCKS_APART)], [(1, "T")]),
    "before the first moment": ([doubt()], [stray("T", NOON - CLOCKS_APART - 1)], []),
    "the last moment": ([doubt()], [stray("T", NOON + WITHIN)], [(1, "T")]),
    "after the last moment": ([doubt()], [stray("T", NOON + WITHIN + 1)], []),
    "several notifications of one submission": (
        [doubt()],
        [stray("T", NOON, NOON + 5, NOON + 60)],
        [(1, "T")],
    ),
    "several notifications, one of which is from before the first moment": (
        [doubt()],
        [stray("T", NOON - CLOCKS_APART - 1, NOON)],
        [],
    ),
    "several notifications, all of which are from after the last moment": (
        [doubt()],
        [stray("T", NOON + WITHIN + 1, NOON + WITHIN + 2)],
        [],
    ),
    "several notifications, one of which has another FROM": (
        [doubt()],
        [
            UnmatchedSubmission(
                tracking_id="T", events=[*stray().events, *stray(from_="12345").events]
            )
        ],
        [],
    ),
    "a receipt long after it was sent, whichever came first": (
        [doubt()],
        [stray("T", NOON + 99 * WITHIN, NOON + 1)],
        [(1, "T")],
    ),
}


@pytest.mark.parametrize("case", SETTLED)
def test_doubt_is_settled_where_two_can_only_mean_each_other(case: str) -> None:
    """Nobody guesses: what could be two things is left alone, in whichever order it is asked."""
    doubts, strays, expected = SETTLED[case]
    assert match_doubts(doubts, strays, within=WITHIN) == expected
    assert match_doubts(doubts[::-1], strays[::-1], within=WITHIN) == expected


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


IDENTITIES = {
    "form A, again": (form_a(), form_a(), True),
    "form A, again with other content": (form_a(), form_a(extra="<SPID>7</SPID>"), True),
    "form A, another id": (form_a(), form_a("326"), False),
    "form A, another code": (form_a(), form_a(code="E201"), False),
    "form A, another message": (form_a(), form_a(tracking_id="U"), False),
    "form B, again": (form_b(), form_b(), True),
    "form B, another time": (form_b(), form_b(9), False),
    "form B, another status": (form_b(), form_b(status="Message Failed"), False),
    "the one form and the other": (form_a(), form_b(), False),
}


@pytest.mark.parametrize("case", IDENTITIES)
def test_a_repetition_is_known_by_its_id_or_else_by_all_of_it(case: str) -> None:
    """Form A has an id, which tells within one origin, code and message; form B has none."""
    one, other, are_same = IDENTITIES[case]
    first, second = (
        event_of(parse_postback(document)[0], received=received)
        for document, received in ((one, NOON), (other, NOON + 5))
    )
    assert (first.identity == second.identity) is are_same


def test_the_order_of_elements_tells_no_notification_from_another() -> None:
    """Form B written in another order is the same notification."""
    document = "<POSTBACK><TO>15551234888</TO><CODE>N201</CODE><ORIGIN>SMS_MT</ORIGIN></POSTBACK>"
    mixed = "<POSTBACK><CODE>N201</CODE><ORIGIN>SMS_MT</ORIGIN><TO>15551234888</TO></POSTBACK>"
    one, other = (event_of(parse_postback(each)[0], received=NOON) for each in (document, mixed))
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
    """Order needs some time, settling a certain one: else that of receiving it."""
    timestamp, created, at, happened = TIMES[case]
    notification = SentNotification(timestamp=timestamp, created=created, raw={})
    kept = event_of(notification, received=RECEIVED)
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
    """Receipts name a message by its tracking id and number; nothing else does."""
    notification, expected = KEPT[case]
    kept = event_of(notification, received=NOON)
    assert {name: getattr(kept, name) for name in expected} == expected


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
        ["", " ", "stop it", "don't stop", "STOPP", "STO P", "ST.OP", "restart", "end?", "yes"],
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


# What was intended.

CHANGES: dict[str, Any] = {
    "to": "15551234889",
    "text": "Hello!",
    "from_": "12345",
    "campaign_ref": "77676",
    "spid": "1",
    "operator_id": "2",
    "from_mask": "SKYCORE",
}


def test_every_field_but_the_key_is_content() -> None:
    """Two messages with one key are the same where all that is sent is the same."""
    assert CHANGES.keys() | {"key"} == attrs.fields_dict(SMS).keys()
    assert content_of(MESSAGE) == content_of(attrs.evolve(MESSAGE, key="another"))
    changed = [attrs.evolve(MESSAGE, **{name: value}) for name, value in CHANGES.items()]
    assert len({*map(content_of, changed), content_of(MESSAGE)}) == len(changed) + 1


def test_content_does_not_run_from_one_field_into_the_next() -> None:
    """What moves from one field into another is other content; nothing is not an empty text."""
    one = SMS(to=TO, text="Hello", spid="1", operator_id="2")
    others = [
        attrs.evolve(one, spid="12", operator_id=""),
        attrs.evolve(one, spid="12", operator_id=None),
        attrs.evolve(one, spid="2", operator_id="1"),
    ]
    assert len(set(map(content_of, [one, *others]))) == 4


INTENT = SendIntent(key="k", content=b"one", to=TO, from_=None, started_at=NOON)


@pytest.mark.parametrize("state", MessageState)
def test_only_what_is_proven_not_sent_is_begun_again(state: MessageState) -> None:
    """What is in doubt is begun on the word alone, and the word changes nothing else."""
    known = Submission(state=state)
    startable = state is MessageState.NOT_SENT
    on_the_word = startable or state is MessageState.IN_DOUBT
    for resend, begins in ((False, startable), (True, on_the_word)):
        assert known_or_conflict(INTENT, b"one", known, resend_in_doubt=resend) == (
            None if begins else known
        )
        with pytest.raises(KeyConflict):
            known_or_conflict(INTENT, b"two", known, resend_in_doubt=resend)


# What came of it.

OUTCOMES: dict[str, tuple[SkycoreError, MessageState]] = {
    "the connection was refused": (NotSent("refused"), MessageState.NOT_SENT),
    "the number opted out": (RecipientOptedOut("opted out"), MessageState.NOT_SENT),
    "sending was halted": (SendingHalted("halted"), MessageState.NOT_SENT),
    "too fast": (Throttled("slow down", code="E106", retry_after=1.0), MessageState.NOT_SENT),
    "too fast, by HTTP": (Throttled("slow down"), MessageState.NOT_SENT),
    "not valid": (InvalidMessage("empty", field="text"), MessageState.NOT_SENT),
    "the ledger failed": (LedgerError("full"), MessageState.NOT_SENT),
    "no answer": (OutcomeUnknown("read timeout"), MessageState.IN_DOUBT),
    "a bad gateway": (OutcomeUnknown("HTTP 502", http_status=502), MessageState.IN_DOUBT),
    "E503": (OutcomeUnknown("busy", http_status=200, code="E503"), MessageState.IN_DOUBT),
    "a code in no table": (Rejected.of(code="E999", info="?"), MessageState.REJECTED),
    "no code": (Rejected.of(code=None), MessageState.REJECTED),
    **{
        code: (
            Rejected.of(code=code, info="as the provider says"),
            MessageState.NOT_SENT if known.scope is Scope.ACCOUNT else MessageState.REJECTED,
        )
        for code, known in API_ERRORS.items()
        if known.scope not in {Scope.THROTTLE, Scope.UNKNOWN}
    },
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_a_failure_is_kept_as_what_it_says_of_the_message(case: str) -> None:
    """A refusal of the whole account leaves the message unsent; doubt is kept whole."""
    error, state = OUTCOMES[case]
    kept = submission_of(Failed(message=MESSAGE, error=error))
    assert kept.state is state
    assert kept.tracking_id is None
    assert kept.code == getattr(error, "code", None)
    if kept.state is MessageState.NOT_SENT:
        return  # it is begun again, and never given back
    again = outcome_of(MESSAGE, TO, kept)
    assert isinstance(again, Failed)
    assert again.message is MESSAGE
    assert again.recorded
    assert type(again.error) is type(error)
    assert str(again.error) == str(error)
    assert vars(again.error) == vars(error)


def test_accepted_comes_back_equal() -> None:
    """The recorded outcome is the outcome, its raw answer too."""
    raw = {"STATUS": "Success", "TRACKINGID": "SMS_1", "TO": {"#text": TO}}
    accepted = Accepted(message=MESSAGE, to=TO, tracking_id="SMS_1", raw=raw)
    kept = submission_of(accepted)
    assert kept.state is MessageState.ACCEPTED
    again = outcome_of(MESSAGE, TO, kept)
    assert again == accepted
    assert (again.recorded, accepted.recorded) == (True, False)


@pytest.mark.parametrize("state", [MessageState.SENT, MessageState.DELIVERED, MessageState.FAILED])
def test_what_a_postback_told_is_accepted(state: MessageState) -> None:
    """Whatever became of it later, the submission was accepted; settled, it has no answer."""
    again = outcome_of(MESSAGE, TO, Submission(state=state, tracking_id="SMS_1"))
    assert again == Accepted(message=MESSAGE, to=TO, tracking_id="SMS_1", raw={})


def test_what_the_end_of_the_program_left_is_in_doubt() -> None:
    """A message that was under way has no reason recorded; one is given."""
    again = outcome_of(MESSAGE, TO, Submission(state=MessageState.IN_DOUBT))
    assert isinstance(again, Failed)
    assert isinstance(again.error, OutcomeUnknown)
    assert "the program ended" in str(again.error)
