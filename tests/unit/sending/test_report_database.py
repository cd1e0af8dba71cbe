"""The temporary database that joins attempts with the rows of sending reports."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs

from skycore_async.ledger.report_findings import Absent, Taken
from skycore_async.ledger.report_matching import match
from skycore_async.ledger.report_rows import KnownAttempt
from skycore_async.ledger.texts import digest_of
from skycore_async.messages import ReportedMessage, ReportSection
from skycore_async.sending.report_database import ReportDatabase
from tests.unit.ledger.test_report_matching import LATE, OTHER, TO, absent, attempt


def reported(history_id: str, to: str, at: float | None) -> ReportedMessage:
    when = None if at is None else datetime.fromtimestamp(at, UTC)
    return ReportedMessage(
        history_id=history_id,
        to=to,
        text="Hello",
        section=ReportSection.SENDING_LIST,
        acknowledged_at=when,
    )


def test_numbers_come_one_by_one_with_what_may_be_the_same() -> None:
    """Attempts and rows are grouped by number, with or without the country code."""
    database = ReportDatabase()
    text = digest_of("Hello")
    doubts = [
        attempt(1, text=text),
        attempt(2, number="33334888", text=text),
        attempt(3, number="4888"),
    ]
    database.add_attempts((each, False) for each in [*doubts, attempt(4, number=OTHER)])
    listed = [
        reported("A", "5551234888", 1000),
        reported("B", TO, None),
        reported("C", "77734888", 1000),
        reported("D", OTHER, 1000),
        reported("", TO, 1001),
        reported("", TO, 1002),
        reported("B", TO, 1003),
    ]
    database.add_rows(listed)
    database.set_period(None, 5000)
    assert database.span_of_rows() == (1000, 5000)
    database.add_rows([reported("A", "5551234888", 1000)])
    database.set_period(5000, 6000)
    database.want([each.number for each in doubts], [])
    found = {
        tuple(each.id for each in attempts): [(each.history_id, each.at) for each in rows]
        for attempts, rows in database.by_number()
    }
    assert found == {
        (1,): [("B", None), ("A", 1000), ("", 1001), ("", 1002), ("B", 1003)],
        (2,): [],
        (3,): [],
    }
    database._connection.close()


def decisions(*reports: list[ReportedMessage], doubts: list[KnownAttempt]) -> dict[int, object]:
    """Return what reports decide about doubts to one number, each report about its own period."""
    database = ReportDatabase()
    database.add_attempts((each, False) for each in doubts)
    for number, listed in enumerate(reports):
        database.add_rows(listed)
        database.set_period(1000.0 * number, 1000.0 * (number + 1))
    database.want([TO], [])
    ((attempts, rows),) = database.by_number()
    database._connection.close()
    return dict(match(attempts, rows).doubtful)


def test_two_messages_with_one_history_id_are_both_there() -> None:
    """Two rows with one HISTORYID and different texts are two messages."""
    doubts = [attempt(1, text=digest_of("Bye")), attempt(2, text=digest_of("Hello"))]
    bye = attrs.evolve(reported("A", TO, 1000), text="Bye")
    assert decisions([bye, reported("A", TO, 1000)], doubts=doubts) == {
        1: Taken("A"),
        2: Taken("A"),
    }


def test_what_stands_twice_in_one_report_may_be_two() -> None:
    """Two equal rows are two messages in one report, and one message across two reports."""
    doubts = [attempt(each, text=digest_of("Hello")) for each in (1, 2)]
    once = [reported("A", TO, 1000)]
    assert decisions(once * 2, doubts=doubts) == {1: Taken("A"), 2: LATE}
    later = [reported("A", TO, 1100)]
    assert decisions(once, later, doubts=doubts) == {1: Taken("A"), 2: LATE}
    assert decisions(once, once, doubts=doubts) == {1: Taken("A"), 2: absent(1, 2)}


def test_a_history_id_that_two_have_ties_no_row() -> None:
    """A HISTORYID that two rows share gives no row to the attempt whose postback named it."""
    doubts = [attempt(1, text=digest_of("Hello"), history_id="A")]
    bye = attrs.evolve(reported("A", TO, 1000), text="Bye")
    assert decisions([bye], doubts=doubts) == {1: Taken("A")}
    assert isinstance(decisions([bye, reported("A", TO, 1000)], doubts=doubts)[1], Taken)
    two = [bye, attrs.evolve(bye, text="Ciao")]
    assert isinstance(decisions(two, doubts=doubts)[1], Absent)
