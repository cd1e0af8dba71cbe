"""Commands of a group end as they would one by one: same answers, same tables."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skycore_async.ledger.columns import ACCEPTANCE, Columns
from skycore_async.ledger.commands import (
    Begin,
    Finish,
    LedgerCommand,
    PendingCommand,
    Record,
    SetOptOut,
)
from skycore_async.ledger.execution import CommandExecutor
from skycore_async.ledger.model import MessageRecord, MessageState, SendIntent, Submission
from skycore_async.ledger.report_commands import SettleByReport
from skycore_async.ledger.report_values import DoubtDecision
from skycore_async.ledger.settlement import SETTLE_WITHIN
from skycore_async.ledger.sqlite import statements
from skycore_async.ledger.sqlite import store as sqlite_store
from skycore_async.ledger.sqlite.schema import migrate
from skycore_async.ledger.sqlite.store import SQLiteStore
from tests.support.ledger_cases import (
    BLOCKED,
    DELIVERED,
    DOUBT,
    NOON,
    NOT_SENT,
    OTHER,
    REJECTED,
    SENT,
    TO,
    accepted,
    intent,
    notice,
    said,
)

# Those of a group that are new have their turns before those that are begun again.
MESSAGE = Columns(MessageRecord, without=("id", "turn", "session", "attempt"))
TABLES = (
    f"SELECT {MESSAGE.listed} FROM messages ORDER BY key",  # noqa: S608 - columns of our own
    "SELECT other.tracking_id, key FROM submissions AS other LEFT JOIN messages ON id = message",
    "SELECT identity, tracking_id, recipient, at, state FROM events ORDER BY identity",
    "SELECT * FROM opt_outs ORDER BY number",
)


def begin(intent: SendIntent, *, resend: bool = False, willing: bool = False) -> Begin:
    return Begin(intent=intent, resend_in_doubt=resend, ignore_opt_out=willing)


def finish(key: str, submission: Submission) -> Finish:
    return Finish(key=key, submission=submission)


KEYS = st.sampled_from(("a", "b", "c", "d"))
NUMBERS = st.sampled_from((TO, OTHER))
SUBMISSIONS = st.sampled_from((accepted("T1"), accepted("T2"), DOUBT, NOT_SENT, REJECTED, BLOCKED))
BEGINS = st.builds(
    lambda key, number, content, resend, willing: begin(
        intent(key, content, number), resend=resend, willing=willing
    ),
    KEYS,
    NUMBERS,
    st.sampled_from((b"one", b"two")),
    st.booleans(),
    st.booleans(),
)
FINISHES = st.builds(finish, KEYS, SUBMISSIONS)
RECORDS = st.builds(
    lambda what, tracking_id, number: Record(
        notifications=(notice(what, tracking_id, to=number),)
    ),
    st.sampled_from((SENT, DELIVERED)),
    st.sampled_from(("T1", "T2", "T3")),
    NUMBERS,
)
MARKS = st.builds(SetOptOut, number=NUMBERS, out=st.booleans())
ANY = st.lists(BEGINS | FINISHES | RECORDS | MARKS, max_size=12)


Command = LedgerCommand[Any]


class Ran(NamedTuple):
    """The answers of each group, the tables after them, and the keys that the last one touched."""

    answers: list[Any]
    tables: list[list[Any]]
    touched: set[str]


def ran(groups: Iterable[Sequence[Command]]) -> Ran:
    """Run groups of commands, each in one transaction."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        executor = CommandExecutor(
            SQLiteStore(connection), clock=lambda: NOON + 1, settle_within=SETTLE_WITHIN
        )
        answers: list[Any] = []
        touched: set[str] = set()
        for commands in groups:
            group = [PendingCommand(command) for command in commands]
            executor.run(group)
            touched = executor.forget()
            answers.append([(pending.result, repr(pending.error)) for pending in group])
        tables = [connection.execute(table).fetchall() for table in TABLES]
        return Ran(answers, tables, touched)


def column(done: Ran, name: str) -> dict[str, Any]:
    """Return a column of the messages, by their keys."""
    rows = (dict(zip(MESSAGE.names, row, strict=True)) for row in done.tables[0])
    return {row["key"]: row[name] for row in rows}


def alone(commands: Sequence[Command]) -> list[list[Command]]:
    return [[command] for command in commands]


def assert_as_one_by_one(before: Sequence[Command], group: Sequence[Command]) -> None:
    together = ran([*alone(before), group])
    one_by_one = ran([*alone(before), *alone(group)])
    answers = [answer for answers in one_by_one.answers[len(before) :] for answer in answers]
    assert together.answers[-1] == answers
    assert together.tables == one_by_one.tables


def came(tracking_id: str, number: str = TO) -> Record:
    return Record(notifications=(notice(DELIVERED, tracking_id, to=number),))


OUT, IN = (SetOptOut(number=TO, out=out) for out in (True, False))
BOTH = (begin(intent("a")), begin(intent("b", to=OTHER)))
ONE_MORE = (begin(intent("c")),)
AGAIN = (begin(intent("a")), finish("a", DOUBT), begin(intent("a"), resend=True))


@pytest.mark.slow
@given(before=ANY, group=st.lists(BEGINS, min_size=1, max_size=6))
@example(before=[OUT], group=[begin(intent("a"), willing=True), begin(intent("b"))])
@example(before=[OUT, IN], group=[begin(intent("a"))])
@example(before=[begin(intent("a")), came("T1")], group=[begin(intent("a"))])
@example(before=[begin(intent("a")), came("T1")], group=[begin(intent("a")), begin(intent("b"))])
def test_begun_together_is_begun_one_by_one(
    before: Sequence[Command], group: Sequence[Command]
) -> None:
    """Messages begun in a group get the same answers as those begun one by one."""
    assert_as_one_by_one(before, group)


@pytest.mark.slow
@given(before=ANY, group=st.lists(FINISHES, min_size=1, max_size=6))
@example(before=[begin(intent("a"))], group=[finish("a", BLOCKED)])
@example(before=AGAIN, group=[finish("a", NOT_SENT)])
@example(
    before=[*BOTH, came("T1")], group=[finish("a", accepted("T1")), finish("b", accepted("T2"))]
)
@example(
    before=[*BOTH, came("T3", OTHER)], group=[finish("a", accepted("T1")), finish("b", DOUBT)]
)
@example(
    before=[*BOTH, finish("a", accepted("T1")), *ONE_MORE, finish("c", accepted("T1"))],
    group=[finish("a", accepted("T1")), finish("b", accepted("T2"))],
)
def test_ended_together_is_ended_one_by_one(
    before: Sequence[Command], group: Sequence[Command]
) -> None:
    """Outcomes recorded in a group have the same effect as those recorded one by one."""
    assert_as_one_by_one(before, group)


@pytest.mark.slow
@given(begun=st.sets(KEYS, min_size=1), early=st.sets(KEYS))
def test_all_keys_that_ended_in_a_group_are_reported(begun: set[str], early: set[str]) -> None:
    """Each key that ended in a group is reported as touched, even if its receipt came first."""
    before = [*(begin(intent(key)) for key in begun), *(came(key, OTHER) for key in early)]
    group = [finish(key, accepted(key)) for key in begun]
    done = ran([*alone(before), group])
    assert done.touched >= begun
    assert column(done, "state") == {
        key: "delivered" if key in early else "accepted" for key in begun
    }


def test_a_group_of_any_size_is_run() -> None:
    """A group larger than one statement takes is run."""
    keys = [f"order-{number}" for number in range(999)]
    done = ran(
        [
            [begin(intent(key)) for key in keys],
            [finish(key, accepted(f"T-{key}")) for key in keys],
        ]
    )
    assert column(done, "state") == dict.fromkeys(keys, "accepted")
    assert column(done, "tracking_id") == {key: f"T-{key}" for key in keys}


def test_a_key_under_way_is_not_begun_again() -> None:
    """A key under way is not begun again, whatever was written before."""
    done = ran([[begin(intent("a"))], [begin(intent("b"))], [came("T")], [begin(intent("b"))]])
    assert done.answers[-1] == [(None, "UnderWay()")]


def test_what_came_before_changes_nothing_whatever_is_written_with_it_or_last() -> None:
    """A repeated STOP changes nothing, alone or in a group with new notifications."""
    stop, stop_too = (Record(notifications=(said("STOP", from_=each),)) for each in (TO, OTHER))
    hello = Record(notifications=(said("Hello", from_=OTHER),))
    alone_again = ran([[hello], [stop], [IN], [begin(intent("a"))], [stop]])
    among_others = ran([[stop], [IN], [stop, stop_too]])
    assert [(number, out) for number, out, *_ in alone_again.tables[3]] == [(TO, 0)]
    assert [(number, out) for number, out, *_ in among_others.tables[3]] == [(TO, 0), (OTHER, 1)]


def test_a_doubt_is_settled_once_nothing_to_its_number_is_under_way() -> None:
    """A doubt is settled by an earlier receipt once the other message has its own id."""
    begun = [begin(intent("a")), begin(intent("b")), finish("a", DOUBT), came("T1")]
    done = ran([*alone(begun), [finish("b", accepted("T2"))]])
    assert column(done, "tracking_id") == {"a": "T1", "b": "T2"}


@pytest.mark.parametrize(
    ("since", "state"),
    [
        ([], "not_sent"),
        ([begin(intent("a"), resend=True)], "sending"),  # its second attempt is under way
        ([begin(intent("a"), resend=True), finish("a", DOUBT)], "in_doubt"),  # and may be taken
        ([came("T1")], "delivered"),
    ],
)
def test_what_a_report_tells_is_of_the_attempt_that_it_was_held_against(
    since: list[Command], state: str
) -> None:
    """A report's decision is dropped if the message was settled or sent again meanwhile."""
    began = attrs.evolve(intent("a"), started_at=NOON - 9)
    seen = MessageRecord(
        id=1,
        key="a",
        content=began.content,
        to=began.to,
        from_=began.from_,
        state=MessageState.IN_DOUBT,
        started_at=began.started_at,
        ended_at=NOON + 1,
    )
    decisions = (DoubtDecision(seen=seen, state=MessageState.NOT_SENT),)
    doubt: list[Command] = [begin(began), finish("a", DOUBT)]
    done = ran([*alone(doubt), *alone(since), [SettleByReport(decisions=decisions)]])
    assert column(done, "state") == {"a": state}
    told = {"a"} if not since else set()
    assert done.answers[-1] == [(frozenset(told), "None")]


def test_whatever_is_known_of_an_acceptance_is_kept() -> None:
    """Each field of an accepted submission is stored, even those that no API answer has."""
    # A HISTORYID is told by postbacks and reports, and never by the outcome of a request, which
    # does not know either what was in doubt before.  By when it began, it is told from another.
    usual = {"state", "tracking_id", "plain_id", "raw", "history_id", "was_resent", "started_at"}
    others = (each.name for each in attrs.fields(Submission) if each.name not in usual)
    given = {name: 202 if name == "http_status" else "in words" for name in others}
    keys = {f"odd by {name}": name for name in given}
    group = [
        finish(key, attrs.evolve(accepted(key), **{name: given[name]}))  # type: ignore[arg-type]
        for key, name in keys.items()
    ]
    done = ran([[begin(intent(key)) for key in keys], group])
    assert {name: column(done, name)[key] for key, name in keys.items()} == given


def test_an_older_sqlite_takes_them_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older SQLite without UPDATE FROM gives the same result."""
    steps: list[list[Command]] = [
        [begin(intent("a")), begin(intent("b"))],
        [finish("a", accepted()), finish("b", DOUBT)],
    ]
    at_once = ran(steps)
    monkeypatch.setattr(sqlite_store, "_UPDATE_FROM", (99,))
    assert ran(steps) == at_once


def test_a_command_of_no_kind_is_an_error_of_the_program() -> None:
    """An unknown command raises TypeError."""
    with pytest.raises(TypeError, match="no command LedgerCommand"):
        ran([[LedgerCommand()]])


@pytest.mark.parametrize(
    ("statement", "values", "indexes"),
    [
        (statements.CANDIDATES, ("34888",), {"candidates"}),
        (statements.MAY_SETTLE, ("34888",) * 3, {"candidates", "unmatched"}),
        (statements.UNMATCHED, ("34888",), {"unmatched", "events_by_tracking_id"}),
        (statements.UNSETTLED, (), {"candidates", "unmatched"}),
        (statements.UNDER_WAY, (), {"candidates"}),
    ],
)
def test_statements_that_settle_doubts_use_indexes(
    statement: str, values: tuple[str, ...], indexes: set[str]
) -> None:
    """The statements that settle doubts use indexes, and scan no table."""
    with closing(sqlite3.connect(":memory:")) as connection:
        migrate(connection, 0)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    used = [re.search(r"USING (?:COVERING )?INDEX (\w+)", step) for *_, step in plan]
    assert {found[1] for found in used if found} == indexes
    assert not [step for *_, step in plan if re.match(r"SCAN (?!.*INDEX)", step)]


@pytest.mark.parametrize(
    ("statement", "width"),
    [
        (statements.ACCEPT, len(ACCEPTANCE.names) + 1),
        (statements.FOUND, 3),
        (statements.SUBMIT_ACCEPTED, 2),
    ],
)
def test_statements_that_record_an_outcome_use_indexes(statement: str, width: int) -> None:
    """The statements that record an outcome use indexes, and scan no table."""
    values = statement.count("?") + width
    statement = statement.format(f"({', '.join('?' * width)})")
    with closing(sqlite3.connect(":memory:")) as connection:
        migrate(connection, 0)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", (None,) * values).fetchall()
    steps = [step for *_, step in plan]
    assert [step for step in steps if "SEARCH messages" in step]
    assert not [step for step in steps if step.startswith(("SCAN own", "SCAN other", "SCAN mess"))]


@pytest.mark.parametrize(
    ("others", "may_settle"),
    [
        pytest.param([], True, id="alone"),
        pytest.param([intent("b", to=OTHER)], True, id="to another number"),
        pytest.param([attrs.evolve(intent("b"), from_="77777")], True, id="from another sender"),
        pytest.param([attrs.evolve(intent("b"), from_=None)], True, id="from any sender"),
        pytest.param([intent("b")], False, id="to the same number from the same sender"),
    ],
)
def test_doubts_that_nothing_tells_apart_are_not_even_read(
    others: list[SendIntent], may_settle: bool
) -> None:
    """Doubts with equal number and sender are not read when a notification comes."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        store = SQLiteStore(connection)
        executor = CommandExecutor(store, clock=lambda: NOON + 1, settle_within=SETTLE_WITHIN)
        steps = [begin(intent("a")), finish("a", DOUBT), *map(begin, others)]
        executor.run([PendingCommand(step) for step in steps])
        assert not store.may_settle(TO[-5:])
        store.submissions({"SMS_1": TO})
        assert store.may_settle(TO[-5:]) is may_settle
