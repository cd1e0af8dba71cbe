"""Which rows of a report belong to which attempts: tables of cases and decisions."""

from __future__ import annotations

from typing import Any

import pytest

from skycore_async.ledger.model import EarlierAttempt, MessageRecord, MessageState
from skycore_async.ledger.report_decisions import (
    MessageInDoubt,
    decide,
    earlier_attempt,
    last_attempt,
)
from skycore_async.ledger.report_evidence import (
    OpenReason,
    ReportPeriod,
    periods_of,
    why_no_report,
    why_not_covered,
)
from skycore_async.ledger.report_findings import Absent, Taken, Unclear
from skycore_async.ledger.report_matching import Matching, match
from skycore_async.ledger.report_rows import KnownAttempt, ReportRow, Role
from skycore_async.ledger.report_values import AttemptDecision, DoubtDecision

TO, OTHER = "15551234888", "15559876543"
HELLO, BYE = b"hello", b"bye"


def attempt(
    id_: int, role: Role = Role.DOUBTFUL, *, at: float = 1000, **changes: Any
) -> KnownAttempt:
    given = {"message": id_, "number": TO, "text": HELLO, "from_": "60856", "ended_at": at + 1}
    named = {"id": id_, "turn": id_, "role": role, "started_at": at}
    return KnownAttempt(**{**named, **given, **changes})


def accepted(id_: int, **changes: Any) -> KnownAttempt:
    return attempt(id_, Role.ACCEPTED, **changes)


def row(history_id: str, *, at: float | None = 1000, **changes: Any) -> ReportRow:
    given = {"number": TO, "text": HELLO, "from_": "60856", "since": 0.0, "until": 10_000.0}
    return ReportRow(**{"history_id": history_id, "at": at, **given, **changes})


def absent(*ids: int) -> Absent:
    return Absent(frozenset(ids))


ALIKE = Unclear(OpenReason.ALIKE)
LATE = Unclear(OpenReason.LATE_ROW)
OTHERS = Unclear(OpenReason.SENT_BY_OTHERS)
OLDER = Unclear(OpenReason.OLDER_VERSION)

# What is given, what is told of each doubt, and which accepted attempts surely are there.
CASES: dict[str, tuple[list[KnownAttempt], list[ReportRow], dict[int, object], set[int]]] = {
    "listed": ([attempt(1)], [row("A")], {1: Taken("A")}, set()),
    "not listed": ([attempt(1)], [], {1: absent(1)}, set()),
    "listed as by a clock before it was set back": (
        [attempt(1, at=9000, ended_at=1000)],
        [row("A", at=9000)],
        {1: Taken("A")},
        set(),
    ),
    "listed as by a clock after it was set back": (
        [attempt(1, at=9000, ended_at=1000)],
        [row("A", at=1000)],
        {1: Taken("A")},
        set(),
    ),
    "with no country code": ([attempt(1)], [row("A", number=TO[1:])], {1: Taken("A")}, set()),
    "to another number": ([attempt(1)], [row("A", number=OTHER)], {1: absent(1)}, set()),
    "another text": (
        [attempt(1)],
        [row("A", text=BYE)],
        {1: Absent(frozenset({1}), is_beside_another=True)},
        set(),
    ),
    "another text, which is another's": (
        [attempt(1), accepted(2, text=BYE)],
        [row("A", text=BYE)],
        {1: absent(1)},
        {2},
    ),
    "another text, which may have waited": (
        [attempt(1)],
        [row("A", text=BYE, at=1400)],
        {1: Absent(frozenset({1}), is_beside_another=True)},
        set(),
    ),
    "a name in place of its short code": (
        [attempt(1)],
        [row("A", from_="Shop")],
        {1: Taken("A")},
        set(),
    ),
    "another sender": ([attempt(1)], [row("A", from_="12345")], {1: absent(1)}, set()),
    "no sender in the row": ([attempt(1)], [row("A", from_=None)], {1: Taken("A")}, set()),
    "a name for a sender": (
        [attempt(1, from_="Shop")],
        [row("A", from_="SHOP")],
        {1: Taken("A")},
        set(),
    ),
    "clocks a little apart": ([attempt(1)], [row("A", at=1300)], {1: Taken("A")}, set()),
    "before it, as by a clock that was ahead": (
        [attempt(1)],
        [row("A", at=699)],
        {1: Absent(frozenset({1}), is_beside_another=True)},
        set(),
    ),
    "before it, and another's": (
        [attempt(1), accepted(2, at=100)],
        [row("A", at=100)],
        {1: absent(1)},
        {2},
    ),
    "days before it": ([attempt(1, at=180_000)], [row("A", at=699)], {1: absent(1)}, set()),
    "before it, as by a clock that was ahead by a day": (
        [attempt(1, at=90_000)],
        [row("A", at=699)],
        {1: Absent(frozenset({1}), is_beside_another=True)},
        set(),
    ),
    "much later": ([attempt(1)], [row("A", at=1400)], {1: LATE}, set()),
    "waits at the provider": ([attempt(1)], [row("A", at=None)], {1: Taken("A")}, set()),
    "waits, in a report of before": (
        [attempt(1)],
        [row("A", at=None, until=100)],
        {1: Absent(frozenset({1}), is_beside_another=True)},
        set(),
    ),
    "waits, in a report of later": (
        [attempt(1)],
        [row("A", at=None, since=5000)],
        {1: LATE},
        set(),
    ),
    "two, one of them listed": (
        [attempt(1), attempt(2, at=1001)],
        [row("A")],
        {1: Taken("A"), 2: absent(1, 2)},
        set(),
    ),
    "more are listed than were sent": ([attempt(1)], [row("A"), row("B")], {1: OTHERS}, set()),
    "another's at another time explains none": (
        [attempt(1), accepted(2, at=9000)],
        [row("A"), row("B", at=9000)],
        {1: Taken("A")},
        set(),  # B may be the doubt's, which waited
    ),
    "one accepted has it": ([attempt(1), accepted(2)], [row("A")], {1: ALIKE}, set()),
    "one accepted, both listed": (
        [attempt(1), accepted(2)],
        [row("A"), row("B")],
        {1: Taken("A")},
        set(),
    ),
    "one accepted, neither listed": ([attempt(1), accepted(2)], [], {1: ALIKE}, set()),
    "one under way has it": (
        [attempt(1), attempt(2, Role.POSSIBLE)],
        [row("A")],
        {1: ALIKE},
        set(),
    ),
    "one accepted is known by its id": (
        [attempt(1), accepted(2, history_id="A")],
        [row("A")],
        {1: absent(1)},
        {2},
    ),
    "an id that two have ties neither": (
        [attempt(1), accepted(2, history_id="A"), accepted(3, history_id="A")],
        [row("A")],
        {1: ALIKE},
        set(),
    ),
    "a doubt is known by its id": (
        [attempt(1, history_id="A")],
        [row("A")],
        {1: Taken("A")},
        set(),
    ),
    "a doubt by an id that is not listed": (
        [attempt(1, history_id="A")],
        [],
        {1: absent(1)},
        set(),
    ),
    "one accepted later has the later row": (
        [attempt(1), accepted(2, at=3000)],
        [row("A", at=3000)],
        {1: LATE},
        set(),
    ),
    "a doubt later has the later row": (
        [attempt(1), attempt(2, at=3000)],
        [row("A", at=3000)],
        {1: LATE, 2: Taken("A")},
        set(),
    ),
    "one accepted waited, and has the row of one of two doubts": (
        [accepted(9, at=100), attempt(1), attempt(2, at=5000)],
        [row("A"), row("B", at=5000)],
        {1: ALIKE, 2: ALIKE},
        set(),
    ),
    "one accepted waited, and has the row of one of two doubts of one time": (
        [accepted(9, at=100), attempt(1), attempt(2, at=1001)],
        [row("A"), row("B")],
        {1: Taken("A"), 2: ALIKE},
        set(),
    ),
    "one accepted waited, and one of two doubts of one time has a row": (
        [accepted(9, at=100), attempt(1), attempt(2, at=5000), attempt(3, at=5001)],
        [row("A"), row("B", at=5000), row("C", at=5000)],
        {1: ALIKE, 2: Taken("B"), 3: ALIKE},
        set(),
    ),
    "one accepted queued into a doubt's time": (
        [accepted(1, at=1000), attempt(2, at=2000)],
        [row("A", at=2000)],
        {2: ALIKE},
        set(),
    ),
    "a message that has one is content": (
        [accepted(1, message=7, at=1010), attempt(2, message=7), attempt(3, message=8, at=1005)],
        [row("A"), row("B")],
        {2: ALIKE, 3: Taken("A")},
        set(),
    ),
    "an older version's is found": ([attempt(1, text=None)], [row("A")], {1: Taken("A")}, set()),
    "and never missed": ([attempt(1, text=None)], [], {1: OLDER}, set()),
    "an older version's may be another's": (
        [attempt(1, text=None), attempt(2)],
        [row("A")],
        {1: OLDER, 2: ALIKE},
        set(),
    ),
    "of a time that is not known": (
        [attempt(1, Role.POSSIBLE, at=0, ended_at=1000), attempt(2)],
        [row("A")],
        {2: ALIKE},
        set(),
    ),
    "accepted ones are there if there are enough rows": (
        [accepted(1), accepted(2)],
        [row("A"), row("B")],
        {},
        {1, 2},
    ),
    "and one of them is not, if there are too few": (
        [accepted(1), accepted(2), accepted(3, at=9000)],
        [row("A"), row("B", at=9000)],
        {},
        set(),  # B may have waited
    ),
    "one may have waited": ([accepted(1)], [row("A", at=4901)], {}, {1}),
    "but not as long as a report would be about a doubt": (
        [accepted(1)],
        [row("A", at=4902)],
        {},
        set(),
    ),
    "one is listed at its time by its id": ([accepted(1, history_id="A")], [row("A")], {}, {1}),
    "as by a clock that was behind": (
        [accepted(1, history_id="A")],
        [row("A", at=4902)],
        {},
        set(),
    ),
    "as by a clock that was ahead": (
        [accepted(1, history_id="A")],
        [row("A", at=699)],
        {},
        set(),
    ),
    "a row is handed on to who has no other": (
        [accepted(1), accepted(2, at=1100)],
        [row("A", at=1100), row("B", at=750)],
        {},
        {1, 2},
    ),
    "a message that has none comes first": (
        [
            accepted(9, message=1, history_id="Z"),
            attempt(1),
            attempt(3, at=1500),
            attempt(4, at=1501),
        ],
        [row("Z"), row("A", at=1100), row("B", at=1600)],
        {1: Taken("A"), 3: Taken("B"), 4: absent(1, 3, 4)},
        {9},
    ),
    "a report may name what a postback told in another way": (
        [attempt(1), accepted(2, at=1010, history_id="Z")],
        [row("A", at=1010)],
        {1: ALIKE},
        set(),
    ),
    "at another time it has no such row, where the report is not about its own": (
        [attempt(1), accepted(2, at=400, history_id="Z")],
        [row("A", at=1010, since=600.0)],
        {1: Taken("A")},
        set(),
    ),
    "nor from one about its own, but that lacks it: it may have waited": (
        [attempt(1), accepted(2, at=400, history_id="Z")],
        [row("A", at=1010)],
        {1: ALIKE},
        set(),
    ),
    "a postback told the id of a row that another accepted one fits better": (
        [attempt(1), accepted(2, at=1010, history_id="B"), accepted(3, at=5000)],
        [row("A", at=1010), row("B", at=5000)],
        {1: ALIKE},
        set(),
    ),
    "where one told id is wrong, so may be another, of a row at another time": (
        [attempt(1), accepted(2, at=1100, history_id="B"), accepted(3, at=3000, history_id="A")],
        [row("A", at=1050), row("B", at=5000)],
        {1: ALIKE},
        set(),
    ),
    "or of another text to it at another time, beside its own": (
        [attempt(1), accepted(2, at=1010, history_id="B")],
        [row("A", at=1010), row("B", text=BYE, at=9000)],
        {1: ALIKE},
        set(),
    ),
    "late for one of two, and in time for the other, which has a row": (
        [attempt(1), attempt(2, at=1290)],
        [row("A", at=1350), row("B", at=1580)],
        {1: LATE, 2: Taken("A")},
        set(),
    ),
    "a postback may have told the id of another text": (
        [attempt(1), accepted(2, text=BYE, history_id="A")],
        [row("A")],
        {1: Taken("A")},
        set(),
    ),
    "nobody has waited where a doubt has the row at once": (
        [attempt(1), accepted(2, at=1010), attempt(3, at=5000)],
        [row("A"), row("B", at=5000)],
        {1: ALIKE, 3: Taken("B")},
        set(),  # A may be the first one's, and B that of the one accepted
    ),
    "also where it is one of a message that has another": (
        [
            attempt(1),
            accepted(2, at=1010, number=TO[1:]),
            attempt(3, message=7, at=5000),
            accepted(4, message=7, at=9000),
        ],
        [row("A"), row("B", at=5000), row("C", at=9000)],
        {1: ALIKE, 3: Taken("B")},
        set(),
    ),
    "nor where it is one of a message that has another": (
        [attempt(1), attempt(2, message=7, at=5000), attempt(3, message=7, at=5100)],
        [row("A", at=5000), row("B", at=5100)],
        {1: LATE, 2: Taken("A"), 3: Taken("B")},
        set(),
    ),
    "one more at another time may be somebody else's": (
        [attempt(1), accepted(2, at=5000)],
        [row("A", at=5000), row("B", at=5010)],
        {1: LATE},
        set(),
    ),
    "rows are handed on": (
        [accepted(1, at=1000), accepted(2, at=1100), attempt(3, at=1350)],
        [row("A", at=1250), row("B", at=1000), row("C", at=1420)],
        {3: Taken("C")},
        set(),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_are_given_to_attempts(case: str) -> None:
    """Each case of attempts and rows gets its decisions, in whichever order the attempts come."""
    attempts, rows, doubtful, present = CASES[case]
    for some in (attempts, attempts[::-1]):
        found = match(some, rows)
        told = {id_: _kind(each) for id_, each in found.doubtful.items()}
        assert told == {id_: _kind(each) for id_, each in doubtful.items()}
        assert found.present == present
    assert match(attempts, rows).doubtful == doubtful or len(rows) > 1


def _kind(decision: object) -> object:
    """Return a decision without its row, since rows that are alike are interchangeable."""
    return Taken if isinstance(decision, Taken) else decision


def test_a_number_with_too_many_attempts_stays_open() -> None:
    """A number with more than a thousand attempts stays open as crowded."""
    doubts = [attempt(n) for n in range(1, 1002)]
    found = match(doubts, [row(str(n)) for n in range(1000)])
    assert found == Matching(
        doubtful=dict.fromkeys(range(1, 1002), Unclear(OpenReason.CROWDED)), present=frozenset()
    )


@pytest.mark.slow
def test_hundreds_that_are_alike_are_told_apart() -> None:
    """Of hundreds of equal doubts as many are taken as are listed."""
    found = match([attempt(n) for n in range(300)], [row(str(n)) for n in range(200)])
    taken = [each for each in found.doubtful.values() if isinstance(each, Taken)]
    assert len({each.history_id for each in taken}) == 200


def test_rows_that_two_kinds_share_are_given_out_once() -> None:
    """Rows that fit doubts with and without a known sender are given out once each."""
    doubts = [attempt(1, from_=None), attempt(2), attempt(3, from_="12345")]
    told = match(doubts, [row("A"), row("B"), row("C", from_="12345")]).doubtful
    given = [each.history_id for each in told.values() if isinstance(each, Taken)]
    assert sorted(given) == ["A", "B", "C"]


# When it is proof that a report lacks one.


def period(since: float, until: float, made_at: float = 9000) -> ReportPeriod:
    return ReportPeriod(since=since, until=until, made_at=made_at)


COVERED: dict[str, tuple[list[ReportPeriod], OpenReason | None]] = {
    "none": ([], OpenReason.NOT_COVERED),
    "all of it": ([period(700, 4700)], None),
    "begins too late": ([period(701, 9000)], OpenReason.NOT_COVERED),
    "ends before it": ([period(0, 900)], OpenReason.NOT_COVERED),
    "ends too soon": ([period(0, 4600)], OpenReason.TOO_SOON),
    "made too soon": ([period(0, 9000, 4600)], OpenReason.TOO_SOON),
    "two that meet": ([period(2000, 9000), period(0, 2000)], None),
    "two with a gap": ([period(0, 2000), period(2001, 9000)], OpenReason.TOO_SOON),
    "two, the older made too soon": (
        [period(0, 2000, 2000), period(2000, 9000)],
        OpenReason.TOO_SOON,
    ),
}


@pytest.mark.parametrize("case", COVERED)
def test_a_report_covers_from_before_an_attempt_to_long_after(case: str) -> None:
    """A report must cover from before the attempt until long after, in one part or several."""
    periods, reason = COVERED[case]
    assert why_not_covered(1000, 1100, periods, after=3600) == reason


def test_a_clock_that_is_ahead_puts_a_row_later_than_the_report_ends() -> None:
    """A report must allow for clocks that differ, even with `after=0`."""
    assert why_not_covered(1000, 1100, [period(0, 1399)], after=0) is OpenReason.TOO_SOON
    assert why_not_covered(1000, 1100, [period(0, 1400)], after=0) is None


NOT_HAD: dict[str, tuple[OpenReason, dict[str, bool], OpenReason]] = {
    "nothing is in the way": (OpenReason.NOT_COVERED, {}, OpenReason.NOT_COVERED),
    "asked too often": (
        OpenReason.NOT_COVERED,
        {"is_refused": True},
        OpenReason.ASKED_TOO_OFTEN,
    ),
    "asked too often for the rest": (
        OpenReason.TOO_SOON,
        {"is_refused": True},
        OpenReason.ASKED_TOO_OFTEN,
    ),
    "the rest broke off": (
        OpenReason.TOO_SOON,
        {"has_problem": True, "is_refused": True},
        OpenReason.NO_REPORT,
    ),
    "no report could have it yet": (
        OpenReason.TOO_SOON,
        {"is_over": False, "has_problem": True, "is_refused": True},
        OpenReason.TOO_SOON,
    ),
}


@pytest.mark.parametrize("case", NOT_HAD)
def test_the_reason_of_a_missing_report_says_what_to_wait_for(case: str) -> None:
    """The reason says what to wait for: the time, the rate of requests, or a whole report."""
    reason, given, told = NOT_HAD[case]
    so = {"is_over": True, "has_problem": False, "is_refused": False, **given}
    assert why_no_report(reason, **so) is told


def test_times_near_each_other_are_asked_for_at_once() -> None:
    """Times near each other become one period, in whole seconds, with a margin for clocks."""
    assert periods_of([(1000.5, 2000.5), (1500, 1600), (6000, 6001), (99_000, 99_100)]) == (
        (700, 6301),
        (98_700, 99_400),
    )


@pytest.mark.parametrize("reason", OpenReason)
def test_each_reason_has_its_words(reason: OpenReason) -> None:
    """Each reason has a sentence for people."""
    assert len(reason.words) > 20


# What becomes of a message.

RECORD = MessageRecord(
    id=9, key="k", content=b"", to=TO, from_=None, state=MessageState.IN_DOUBT, started_at=1000
)


def told_of(doubt: MessageInDoubt, told: dict[int, Any], *, proven: bool = True) -> object:
    return decide(doubt, told, lambda _: None if proven else OpenReason.TOO_SOON)


def test_a_message_is_what_its_attempts_are() -> None:
    """A message is sent if one attempt was, and not sent if all provably were not."""
    doubt = MessageInDoubt(record=RECORD, last=1, earlier={2: 20})
    taken, gone = Taken("A"), absent(1, 2)
    decision = DoubtDecision(seen=RECORD, state=MessageState.ACCEPTED, history_id="A")
    assert told_of(doubt, {1: taken, 2: ALIKE}) == decision
    earlier = told_of(doubt, {1: ALIKE, 2: taken}, proven=False)
    assert isinstance(earlier, DoubtDecision)
    assert earlier.earlier == (
        AttemptDecision(id=20, state=MessageState.ACCEPTED, history_id="A"),
    )
    unsent = told_of(doubt, {1: gone, 2: gone})
    assert isinstance(unsent, DoubtDecision)
    assert (unsent.state, unsent.history_id) == (MessageState.NOT_SENT, None)
    assert unsent.earlier == (AttemptDecision(id=20, state=MessageState.NOT_SENT),)
    assert told_of(doubt, {1: gone, 2: gone}, proven=False) is OpenReason.TOO_SOON
    assert told_of(doubt, {1: gone, 2: ALIKE}) is OpenReason.ALIKE
    assert told_of(doubt, {1: gone}) is OpenReason.OLDER_VERSION
    beside = Absent(frozenset({1}), is_beside_another=True)
    assert told_of(doubt, {1: beside, 2: gone}) is OpenReason.ANOTHER_TEXT
    trusted = decide(doubt, {1: beside, 2: gone}, lambda _: None, trust_absence=True)
    assert isinstance(trusted, DoubtDecision)


def test_a_message_that_may_still_be_sent_is_left_open() -> None:
    """A message with an attempt that may still be sent is left open."""
    doubt = MessageInDoubt(record=RECORD, last=1, earlier={}, reason=OpenReason.UNDER_WAY)
    assert told_of(doubt, {1: Taken("A")}) is OpenReason.UNDER_WAY


def test_the_last_attempt_ends_when_that_is_known() -> None:
    """An attempt ends at its outcome, at its interruption within a day, or after an hour."""
    for changes, ended_at in (
        ({"ended_at": 1005.0, "interrupted_at": 1007.0}, 1005),
        ({"interrupted_at": 1007.0}, 1007),
        ({"interrupted_at": 1e6}, 87_400),
        ({}, 4600),
    ):
        record = MessageRecord(
            **{
                **{
                    field: getattr(RECORD, field)
                    for field in ("id", "key", "content", "to", "from_")
                },
                "state": MessageState.IN_DOUBT,
                "started_at": 1000.0,
                **changes,
            }
        )
        last = last_attempt(record, 1, Role.DOUBTFUL)
        assert last is not None
        assert last.ended_at == ended_at


def test_an_earlier_attempt_that_was_taken_has_a_row() -> None:
    """An earlier attempt that a report found counts as accepted from then on."""
    known = EarlierAttempt(
        message=9, to=TO, started_at=1, ended_at=2, history_id="A", state=MessageState.ACCEPTED
    )
    assert earlier_attempt(known, 1, Role.DOUBTFUL).role is Role.ACCEPTED
