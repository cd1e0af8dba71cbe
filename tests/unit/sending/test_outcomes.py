"""What an outcome means: the table is total, and each kind of outcome has the right meaning."""

from __future__ import annotations

import attrs
import pytest

from skycore_async import (
    SMS,
    Accepted,
    Failed,
    InvalidMessage,
    NotRecorded,
    NotSent,
    Outcome,
    OutcomeUnknown,
    RecipientOptedOut,
    Rejected,
    SkycoreError,
    Throttled,
    Verdict,
)
from skycore_async.ledger.rules import STATES
from skycore_async.sending.hours import OutsideHours
from skycore_async.sending.outcomes import MEANINGS, Halt, Meaning, StuckCounter, meaning_of

MESSAGE = SMS(to="15551234888", text="Hello")
ACCEPTED = Accepted(message=MESSAGE, to=MESSAGE.to, tracking_id="SMS_1", raw={})


def failed(error: SkycoreError) -> Failed:
    return Failed(message=MESSAGE, error=error)


REJECTED = failed(Rejected.of(code="E110"))
ACCOUNT_REFUSED = failed(Rejected.of(code="E104"))
SENDER_REFUSED = failed(Rejected.of(code="E111"))
CAMPAIGN_REFUSED = failed(Rejected.of(code="E714"))
REQUEST_REFUSED = failed(Rejected.of(code="E108"))
INVALID = failed(InvalidMessage("empty", field="text"))
OPTED_OUT = failed(RecipientOptedOut("said STOP"))
NOT_SENT = failed(NotSent("refused"))
THROTTLED = failed(Throttled("slow down"))
PUT_OFF = failed(OutsideHours("at night"))
NOT_RECORDED = failed(NotRecorded("disk full"))
IN_DOUBT = failed(OutcomeUnknown("HTTP 502"))


def test_every_verdict_has_a_meaning_and_a_state() -> None:
    """The tables of meanings and of states have an entry for every verdict."""
    assert MEANINGS.keys() == STATES.keys() == set(Verdict)


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (ACCEPTED, Meaning(is_final=True, gets_through=True)),
        (REJECTED, Meaning(is_final=True, gets_through=True)),
        (ACCOUNT_REFUSED, Meaning(halts=Halt.EVERYTHING, gets_through=False)),
        (SENDER_REFUSED, Meaning(halts=Halt.SENDER)),
        (CAMPAIGN_REFUSED, Meaning(halts=Halt.CAMPAIGN)),
        (REQUEST_REFUSED, Meaning(halts=Halt.EVERYTHING, gets_through=False)),
        (INVALID, Meaning(is_final=True)),
        (OPTED_OUT, Meaning(is_final=True)),
        (NOT_SENT, Meaning(safe_to_resend=True, gets_through=False)),
        (THROTTLED, Meaning(safe_to_resend=True, gets_through=False)),
        (PUT_OFF, Meaning(safe_to_resend=True)),
        (NOT_RECORDED, Meaning(halts=Halt.EVERYTHING, gets_through=False)),
        (IN_DOUBT, Meaning(in_doubt=True, gets_through=False)),
    ],
)
def test_each_outcome_has_its_meaning(outcome: Outcome, says: Meaning) -> None:
    """Each kind of outcome, and the error in it, has the expected meaning."""
    assert meaning_of(outcome) == says
    if isinstance(outcome, Failed):
        assert meaning_of(outcome.error) == says


@pytest.mark.parametrize("outcome", [NOT_SENT, THROTTLED, IN_DOUBT, NOT_RECORDED])
def test_failures_in_a_row_up_to_the_limit_mean_stuck(outcome: Outcome) -> None:
    """As many unsent or in-doubt outcomes in a row as the limit, and not one fewer, mean stuck."""
    counter = StuckCounter(limit=3)
    for _ in range(2):
        counter.add(outcome)
    assert not counter.is_stuck
    counter.add(outcome)
    assert counter.is_stuck


@pytest.mark.parametrize("outcome", [ACCEPTED, REJECTED])
def test_an_answer_resets_the_stuck_count(outcome: Outcome) -> None:
    """An accepted or rejected message sets the count of failures in a row back to 0."""
    counter = StuckCounter(limit=2, in_a_row=1)
    counter.add(outcome)
    assert counter.in_a_row == 0


@pytest.mark.parametrize(
    "outcome",
    [
        INVALID,
        OPTED_OUT,
        PUT_OFF,
        SENDER_REFUSED,
        CAMPAIGN_REFUSED,
        attrs.evolve(ACCEPTED, recorded=True),
        attrs.evolve(REJECTED, recorded=True),
        attrs.evolve(IN_DOUBT, recorded=True),
    ],
)
def test_an_outcome_without_an_exchange_leaves_the_stuck_count(outcome: Outcome) -> None:
    """An outcome that needed no exchange, or was recorded before, leaves the count as it is."""
    counter = StuckCounter(limit=2, in_a_row=1)
    counter.add(outcome)
    assert counter.in_a_row == 1
