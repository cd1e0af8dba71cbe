"""When doubts in a row are reported, and with which counts, over values alone."""

from __future__ import annotations

from skycore_async.campaigns.outage import REPORT_EVERY, DoubtReport, DoubtStreak
from skycore_async.errors import NotSent, OutcomeUnknown, Rejected, SkycoreError
from skycore_async.messages import SMS, Accepted, Failed, Outcome

MESSAGE = SMS(to="15551234888", text="Hello")
ACCEPTED = Accepted(message=MESSAGE, to=MESSAGE.to, tracking_id="T", raw={})


def failed(error: SkycoreError, *, recorded: bool = False) -> Outcome:
    return Failed(message=MESSAGE, error=error, recorded=recorded)


DOUBT = failed(OutcomeUnknown("HTTP 502"))


def streak(*outcomes: Outcome) -> DoubtStreak:
    made = DoubtStreak()
    for outcome in outcomes:
        made.add(outcome)
    return made


def test_where_messages_get_through_it_is_said_once_a_chunk() -> None:
    """Answered messages are reported once a chunk."""
    calm = streak(ACCEPTED, failed(Rejected.of(code="E110")))
    assert not calm.is_due
    assert calm.has_report
    assert calm.report() == DoubtReport(new=0, in_a_row=0, got_through=True, error="")
    assert not calm.has_report


def test_what_was_not_sent_says_nothing() -> None:
    """A message not sent is not reported."""
    assert not streak(failed(NotSent("no route"))).has_report


def test_doubts_are_reported_a_few_at_a_time() -> None:
    """Doubts are reported every few of them."""
    many = streak(*[DOUBT] * (REPORT_EVERY - 1))
    assert not many.is_due
    assert many.has_report
    many.add(DOUBT)
    assert many.is_due
    assert many.report() == DoubtReport(
        new=REPORT_EVERY, in_a_row=REPORT_EVERY, got_through=False, error="HTTP 502"
    )
    assert not many.is_due
    assert not many.has_report


def test_a_clear_answer_ends_a_streak_that_was_reported() -> None:
    """An answer after reported doubts restarts the campaign's count."""
    many = streak(*[DOUBT] * REPORT_EVERY)
    many.report()
    many.add(ACCEPTED)
    assert many.is_due
    many.add(DOUBT)
    assert many.report() == DoubtReport(new=1, in_a_row=1, got_through=True, error="HTTP 502")


def test_what_was_recorded_before_is_not_reported() -> None:
    """A recorded outcome is not reported."""
    assert not streak(failed(OutcomeUnknown("lost"), recorded=True)).has_report
