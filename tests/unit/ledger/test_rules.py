"""The ledger's rules of sending, over values alone."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import attrs
import pytest

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
from skycore_async.ledger import attempts, rules
from skycore_async.ledger.content import content_of
from skycore_async.ledger.model import (
    Attempt,
    EarlierAttempt,
    MessageRecord,
    MessageState,
    SendIntent,
    StoredNotification,
    Submission,
)
from skycore_async.ledger.rules import UnderWay, look_up, outcome_of, submission_of
from skycore_async.messages import SMS, Accepted, Failed

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


def test_every_field_but_the_key_and_the_tags_is_content() -> None:
    """Every field of a message but key and tags changes its content digest."""
    assert CHANGES.keys() | {"key", "tags"} == attrs.fields_dict(SMS).keys()
    named = attrs.evolve(MESSAGE, key="another", tags=("spring",))
    assert content_of(MESSAGE) == content_of(named)
    changed = [attrs.evolve(MESSAGE, **{name: value}) for name, value in CHANGES.items()]
    assert len({*map(content_of, changed), content_of(MESSAGE)}) == len(changed) + 1


def test_content_does_not_run_from_one_field_into_the_next() -> None:
    """Values moved to another field, or None in place of an empty text, change the digest."""
    one = SMS(to=TO, text="Hello", spid="1", operator_id="2")
    others = [
        attrs.evolve(one, spid="12", operator_id=""),
        attrs.evolve(one, spid="12", operator_id=None),
        attrs.evolve(one, spid="2", operator_id="1"),
    ]
    assert len(set(map(content_of, [one, *others]))) == 4


INTENT = SendIntent(key="k", content=b"one", to=TO, from_=None, started_at=NOON)


def record(state: MessageState, content: bytes = b"one", **fields: Any) -> MessageRecord:
    return MessageRecord(
        id=1, key="k", content=content, to=TO, from_=None, state=state, started_at=NOON, **fields
    )


@pytest.mark.parametrize("state", MessageState)
def test_only_what_is_proven_not_sent_is_begun_again(state: MessageState) -> None:
    """Only a message not sent begins again; one in doubt does with `resend_in_doubt`."""
    startable = state is MessageState.NOT_SENT
    if_told = startable or state is MessageState.IN_DOUBT
    for resend, begins in ((False, startable), (True, if_told)):
        known = look_up(record(state), INTENT, resend_in_doubt=resend)
        assert known == (None if begins else Submission(state=state))


@pytest.mark.parametrize("state", MessageState)
@pytest.mark.parametrize("resend", [False, True])
def test_other_content_is_begun_only_where_nothing_went_out(
    state: MessageState, resend: bool
) -> None:
    """Other content under a key begins only if the key was rejected or not sent.

    Any other state is a KeyConflict that names it, and so is a key that was ever in doubt.
    """
    if state in {MessageState.NOT_SENT, MessageState.REJECTED}:
        assert look_up(record(state, b"two"), INTENT, resend_in_doubt=resend) is None
        with pytest.raises(KeyConflict) as conflict:
            look_up(record(state, b"two", doubted=True), INTENT, resend_in_doubt=resend)
        assert conflict.value.state == MessageState.IN_DOUBT
    else:
        with pytest.raises(KeyConflict) as conflict:
            look_up(record(state, b"two"), INTENT, resend_in_doubt=resend)
        assert conflict.value.state == state


@pytest.mark.parametrize("state", MessageState)
def test_a_conflict_of_a_settled_doubt_names_its_state(state: MessageState) -> None:
    """A KeyConflict of a settled doubt says that it was accepted and what settled it."""
    doubted = record(state, b"two", doubted=True, settled_by="report")
    with pytest.raises(KeyConflict) as conflict:
        look_up(doubted, INTENT, resend_in_doubt=False)
    taken = {
        MessageState.ACCEPTED,
        MessageState.SENT,
        MessageState.DELIVERED,
        MessageState.FAILED,
    }
    assert conflict.value.state == (state if state in taken else MessageState.IN_DOUBT)
    assert conflict.value.settled_by == "report"
    assert ("report of what it sent lists it" in str(conflict.value)) == (
        state is MessageState.ACCEPTED
    )


@pytest.mark.parametrize("code", ["E100", "E101", "E108", "E111", "E714"])
def test_what_an_earlier_version_took_for_the_message_s_refusal_is_begun_again(code: str) -> None:
    """A row that an earlier version kept as rejected for its sender or request begins again."""
    known = record(MessageState.REJECTED, code=code)
    assert look_up(known, INTENT, resend_in_doubt=False) is None
    doubted = attrs.evolve(known, doubted=True)
    assert look_up(doubted, INTENT, resend_in_doubt=False) is not None


def test_a_rejected_message_begins_again_with_its_new_content() -> None:
    """A rejected message begins again with its new content and nothing of the refusal."""
    before = attrs.evolve(
        record(MessageState.REJECTED, b"two", code="E712", info="none", ended_at=NOON),
        to="15551234889",
        from_="60857",
    )
    assert begun(before) == record(MessageState.SENDING)


def begun(
    known: MessageRecord | None,
    *,
    resend: bool = False,
    ignore: bool = False,
    out: bool = False,
    attempt: Attempt | None = None,
) -> MessageRecord | Submission | None:
    return rules.begin(
        known,
        INTENT,
        resend_in_doubt=resend,
        ignore_opt_out=ignore,
        is_opted_out=out,
        attempt=attempt,
    )


@pytest.mark.parametrize("state", [MessageState.NOT_SENT, MessageState.IN_DOUBT])
def test_a_new_attempt_keeps_nothing_of_the_last_one(state: MessageState) -> None:
    """A message begun again keeps nothing of its last attempt, but that it was in doubt."""
    before = record(
        state, ended_at=NOON + 1, code="E503", info="busy", http_status=200, session=1, attempt=1
    )
    after = begun(before, resend=True, attempt=Attempt(session=2, number=7))
    assert after == record(
        MessageState.SENDING,
        doubted=state is MessageState.IN_DOUBT,
        session=2,
        attempt=7,
    )


def test_permission_to_send_a_doubt_again_holds_for_one_attempt() -> None:
    """A permission to resend holds for one attempt; if that fails, the message is in doubt."""
    doubt = record(MessageState.IN_DOUBT)
    for began, is_begun in ((NOON, True), (NOON - 1, False)):
        permitted = attrs.evolve(INTENT, doubt_started_at=began)
        assert (look_up(doubt, permitted, resend_in_doubt=True) is None) == is_begun
    after = begun(doubt, resend=True)
    assert isinstance(after, MessageRecord)
    assert after == record(MessageState.SENDING, doubted=True)
    lost = rules.finish(
        after, Submission(state=MessageState.REJECTED), ended_at=NOON, attempt=None
    )
    assert lost is not None
    assert (lost.state, lost.settled_by) == (MessageState.IN_DOUBT, None)
    assert look_up(lost, INTENT, resend_in_doubt=False) is not None
    assert begun(record(MessageState.NOT_SENT, doubted=True)) == after


def test_a_begin_that_is_refused_says_why() -> None:
    """A key under way raises UnderWay, and an opted-out number raises RecipientOptedOut."""
    sending = record(MessageState.SENDING)
    with pytest.raises(UnderWay):
        begun(sending)
    for known in (None, record(MessageState.NOT_SENT)):
        with pytest.raises(RecipientOptedOut):
            begun(known, out=True)
    assert isinstance(begun(record(MessageState.NOT_SENT), out=True, ignore=True), MessageRecord)
    assert begun(record(MessageState.REJECTED), out=True) == Submission(
        state=MessageState.REJECTED
    )


def test_an_attempt_knows_its_own_again() -> None:
    """A begin that was committed already succeeds again; another attempt's raises UnderWay."""
    own = Attempt(session=2, number=7)
    assert begun(record(MessageState.SENDING, session=2, attempt=7), attempt=own) is None
    with pytest.raises(UnderWay):
        begun(record(MessageState.SENDING, session=2, attempt=6), attempt=own)


ACCEPTED = Submission(state=MessageState.ACCEPTED, tracking_id="T", raw={"TO": TO})


@pytest.mark.parametrize("state", MessageState)
def test_only_what_is_under_way_is_finished(state: MessageState) -> None:
    """An outcome is recorded only for a message under way."""
    after = rules.finish(record(state), ACCEPTED, ended_at=NOON + 1, attempt=None)
    if state is MessageState.SENDING:
        assert after is not None
        assert (after.state, after.tracking_id) == (MessageState.ACCEPTED, "T")
        assert after.ended_at == NOON + 1
    else:
        assert after is None


@pytest.mark.parametrize("state", [MessageState.SENDING, MessageState.IN_DOUBT])
def test_a_late_outcome_of_an_expired_session_is_recorded(state: MessageState) -> None:
    """A late outcome is recorded if its attempt number is that of the row."""
    known = record(state, session=2, attempt=7)
    own, other = Attempt(session=2, number=7), Attempt(session=3, number=7)
    after = rules.finish(known, ACCEPTED, ended_at=NOON, attempt=own)
    assert after is not None
    assert after.state is MessageState.ACCEPTED
    for wrong in (other, None):
        assert rules.finish(known, ACCEPTED, ended_at=NOON, attempt=wrong) is None


def test_an_attempt_has_one_outcome() -> None:
    """A second outcome of the same attempt is not recorded."""
    own = Attempt(session=2, number=7)
    ended = record(MessageState.IN_DOUBT, ended_at=NOON, session=2, attempt=7)
    assert rules.finish(ended, ACCEPTED, ended_at=NOON, attempt=own) is None


@pytest.mark.parametrize("state", MessageState)
def test_a_second_attempt_says_nothing_of_the_first(state: MessageState) -> None:
    """A resent doubt stays in doubt unless its second attempt is accepted."""
    doubted = record(MessageState.SENDING, doubted=True)
    after = rules.finish(doubted, Submission(state=state), ended_at=NOON, attempt=None)
    assert after is not None
    is_accepted = state is MessageState.ACCEPTED
    assert after.state is (MessageState.ACCEPTED if is_accepted else MessageState.IN_DOUBT)


def test_an_attempt_that_may_have_been_taken_is_left_behind() -> None:
    """Resending a doubt keeps its last attempt, with when that had ended at the latest."""
    doubt = record(MessageState.IN_DOUBT, text_digest=b"text")
    left = EarlierAttempt(
        message=1, text_digest=b"text", to=TO, started_at=NOON, ended_at=NOON + 9
    )
    ended = attrs.evolve(doubt, ended_at=NOON + 9, interrupted_at=NOON + 10)
    interrupted = attrs.evolve(doubt, interrupted_at=NOON + 9)
    found_late = attrs.evolve(doubt, interrupted_at=NOON + 1e6)
    a_day_later = attrs.evolve(left, ended_at=NOON + 86_400)
    assert attempts.left_behind(found_late, now=NOON + 2e6) == a_day_later
    assert attempts.left_behind(ended, now=NOON + 20) == left
    assert attempts.left_behind(interrupted, now=NOON + 20) == left
    assert attempts.left_behind(doubt, now=NOON + 9) == left
    assert attempts.left_behind(attrs.evolve(ended, untaken=True), now=NOON + 20) is None
    assert attempts.left_behind(record(MessageState.NOT_SENT), now=NOON + 20) is None


@pytest.mark.parametrize("state", MessageState)
def test_a_doubt_says_whether_its_last_attempt_is_part_of_it(state: MessageState) -> None:
    """A doubt knows whether its last attempt was provably not sent."""
    doubted = record(MessageState.SENDING, doubted=True)
    after = rules.finish(doubted, Submission(state=state), ended_at=NOON, attempt=None)
    assert after is not None
    assert after.untaken is (state in {MessageState.NOT_SENT, MessageState.REJECTED})


@pytest.mark.parametrize("state", [MessageState.ACCEPTED, MessageState.NOT_SENT])
def test_a_late_outcome_replaces_that_of_a_report(state: MessageState) -> None:
    """A late outcome replaces what a report said, unless it is doubt."""
    own = Attempt(session=2, number=7)
    told = record(state, settled_by="report", history_id="12", session=2, attempt=7)
    after = rules.finish(told, ACCEPTED, ended_at=NOON, attempt=own)
    assert after is not None
    assert (after.state, after.tracking_id) == (MessageState.ACCEPTED, "T")
    assert (after.history_id, after.settled_by) == ("12", None)
    refused = rules.finish(
        told, Submission(state=MessageState.NOT_SENT), ended_at=NOON, attempt=own
    )
    assert refused is not None
    assert (refused.state, refused.history_id) == (MessageState.NOT_SENT, None)
    doubt = Submission(state=MessageState.IN_DOUBT)
    assert rules.finish(told, doubt, ended_at=NOON, attempt=own) is None
    ended = attrs.evolve(told, ended_at=NOON)
    assert rules.finish(ended, ACCEPTED, ended_at=NOON, attempt=own) is None


def test_the_digest_of_content_is_the_same_in_every_version() -> None:
    """The content digest of a message has its fixed value, as stored in files."""
    assert content_of(MESSAGE).hex() == "02fff15fb0360beb0a7355013ae3ddb994"
    odd = SMS(to=TO, text="caf\u00e9 \U0001fa77 \n", from_="60856")
    assert content_of(odd).hex() == "025c5733300e77922d1a092d337b3e3abf"


def test_a_row_of_the_first_version_has_a_digest_of_its_own() -> None:
    """A version 1 row is known by its own kind of digest, which still tells other content."""
    shown = blake2b(repr(tuple(attrs.asdict(MESSAGE).values())[:7]).encode(), digest_size=16)
    known = record(MessageState.ACCEPTED, shown.digest())
    intended = attrs.evolve(INTENT, content=content_of(MESSAGE), message=MESSAGE)
    assert look_up(known, intended, resend_in_doubt=False) is not None
    other = attrs.evolve(MESSAGE, text="Hello!")
    with pytest.raises(KeyConflict):
        look_up(known, attrs.evolve(intended, message=other), resend_in_doubt=False)


@pytest.mark.parametrize("shown", ["\U0001fa77", "\\U0001fa77"])
def test_a_row_of_the_first_version_is_known_on_every_python(shown: str) -> None:
    """A version 1 row is known whichever Python made its digest."""
    message = SMS(to=TO, text="I \U0001fa77 you", from_="60856")
    fields = f"('{TO}', 'I {shown} you', '60856', None, None, None, None)"
    first = blake2b(fields.encode(), digest_size=16).digest()
    intended = attrs.evolve(INTENT, content=content_of(message), message=message)
    for state in (MessageState.ACCEPTED, MessageState.IN_DOUBT):
        assert look_up(record(state, first), intended, resend_in_doubt=False) is not None
    other = attrs.evolve(intended, message=attrs.evolve(message, text="I \U0001fa75 you"))
    with pytest.raises(KeyConflict, match="which may have been sent"):
        look_up(record(MessageState.IN_DOUBT, first), other, resend_in_doubt=False)


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
            MessageState.REJECTED if known.scope is Scope.MESSAGE else MessageState.NOT_SENT,
        )
        for code, known in API_ERRORS.items()
        if known.scope not in {Scope.THROTTLE, Scope.UNKNOWN}
    },
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_a_failure_is_kept_as_what_it_says_of_the_message(case: str) -> None:
    """Each failure is stored with its state, and a final or doubtful one comes back equal."""
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
    """A stored Accepted comes back equal, with its raw answer, and is marked as recorded."""
    raw = {"STATUS": "Success", "TRACKINGID": "SMS_1", "TO": {"#text": TO}}
    accepted = Accepted(message=MESSAGE, to=TO, tracking_id="SMS_1", raw=raw)
    kept = submission_of(accepted)
    assert kept.state is MessageState.ACCEPTED
    again = outcome_of(MESSAGE, TO, kept)
    assert again == accepted
    assert (again.recorded, accepted.recorded) == (True, False)


@pytest.mark.parametrize("state", [MessageState.SENT, MessageState.DELIVERED, MessageState.FAILED])
def test_a_sent_delivered_or_failed_message_comes_back_as_accepted(state: MessageState) -> None:
    """A message that is sent, delivered or failed comes back as Accepted."""
    again = outcome_of(MESSAGE, TO, Submission(state=state, tracking_id="SMS_1"))
    assert again == Accepted(message=MESSAGE, to=TO, tracking_id="SMS_1", raw={})


def test_a_message_left_by_the_end_of_the_program_is_in_doubt() -> None:
    """A doubt without a recorded reason comes back as OutcomeUnknown of an ended program."""
    again = outcome_of(MESSAGE, TO, Submission(state=MessageState.IN_DOUBT))
    assert isinstance(again, Failed)
    assert isinstance(again.error, OutcomeUnknown)
    assert "the program ended" in str(again.error)
