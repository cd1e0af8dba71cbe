"""A group's commands end as they would one by one: the same answers, and the same tables."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skycore_async.ledger.columns import Columns
from skycore_async.ledger.commands import (
    Begin,
    Finish,
    LedgerCommand,
    PendingCommand,
    Record,
    SetOptOut,
)
from skycore_async.ledger.execution import CommandExecutor
from skycore_async.ledger.model import MessageRecord, SendIntent, Submission
from skycore_async.ledger.settlement import SETTLE_WITHIN
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
)

MESSAGE = Columns(MessageRecord, without=("id", "session", "attempt"))
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
    """What came of each group, what the tables hold after them, and what the last touched."""

    answers: list[Any]
    tables: list[list[Any]]
    touched: set[str]


def ran(groups: Iterable[Sequence[Command]]) -> Ran:
    """Run groups of commands, each as by one transaction."""
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


def alone(commands: Sequence[Command]) -> list[list[Command]]:
    return [[command] for command in commands]


def assert_as_one_by_one(before: Sequence[Command], group: Sequence[Command]) -> None:
    together = ran([*alone(before), group])
    one_by_one = ran([*alone(before), *alone(group)])
    answers = [answer for answers in one_by_one.answers[len(before) :] for answer in answers]
    assert together.answers[-1] == answers
    assert together.tables == one_by_one.tables


OUT, IN = (SetOptOut(number=TO, out=out) for out in (True, False))
AGAIN = (begin(intent("a")), finish("a", DOUBT), begin(intent("a"), resend=True))


@pytest.mark.slow
@given(before=ANY, group=st.lists(BEGINS, min_size=1, max_size=6))
@example(before=[OUT], group=[begin(intent("a"), willing=True), begin(intent("b"))])
@example(before=[OUT, IN], group=[begin(intent("a"))])
def test_begun_together_is_begun_one_by_one(
    before: Sequence[Command], group: Sequence[Command]
) -> None:
    """New keys, known ones, the same one twice, numbers that opted out: each as by itself."""
    assert_as_one_by_one(before, group)


@pytest.mark.slow
@given(before=ANY, group=st.lists(FINISHES, min_size=1, max_size=6))
@example(before=[begin(intent("a"))], group=[finish("a", BLOCKED)])
@example(before=AGAIN, group=[finish("a", NOT_SENT)])
def test_ended_together_is_ended_one_by_one(
    before: Sequence[Command], group: Sequence[Command]
) -> None:
    """What came early, doubts to settle, blocked numbers, doubts sent again: each as by itself."""
    assert_as_one_by_one(before, group)


@given(begun=st.sets(KEYS, min_size=1))
def test_who_waits_is_told_of_all_that_ended_together(begun: set[str]) -> None:
    """Each key that ended is touched."""
    group = [finish(key, accepted(key)) for key in begun]
    assert ran([*alone([begin(intent(key)) for key in begun]), group]).touched >= begun


def test_a_group_of_any_size_is_run() -> None:
    """The most that wait together are more than one statement takes."""
    keys = [f"order-{number}" for number in range(999)]
    done = ran(
        [
            [begin(intent(key)) for key in keys],
            [finish(key, accepted(f"T-{key}")) for key in keys],
        ]
    )
    assert [
        (values["key"], values["state"], values["tracking_id"])
        for values in (dict(zip(MESSAGE.names, row, strict=True)) for row in done.tables[0])
    ] == [(key, "accepted", f"T-{key}") for key in sorted(keys)]


def test_an_older_sqlite_takes_them_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite lacks what takes many at once, the same comes of it."""
    steps: list[list[Command]] = [
        [begin(intent("a")), begin(intent("b"))],
        [finish("a", accepted()), finish("b", DOUBT)],
    ]
    at_once = ran(steps)
    monkeypatch.setattr(sqlite_store, "_RETURNING_FROM", (99,))
    assert ran(steps) == at_once


def test_a_command_of_no_kind_is_an_error_of_the_program() -> None:
    """What nothing knows how to run is not taken for done."""
    with pytest.raises(TypeError, match="no command LedgerCommand"):
        ran([[LedgerCommand()]])


@pytest.mark.parametrize(
    ("statement", "values", "indexes"),
    [
        (sqlite_store.CANDIDATES, ("34888",), {"candidates"}),
        (sqlite_store.UNMATCHED, ("34888",), {"unmatched", "events_by_tracking_id"}),
        (sqlite_store.UNSETTLED, (), {"candidates", "unmatched"}),
        (sqlite_store.UNDER_WAY, (), {"candidates"}),
    ],
)
def test_what_settles_a_doubt_is_found_by_an_index(
    statement: str, values: tuple[str, ...], indexes: set[str]
) -> None:
    """However many messages there are that nothing can come for any more."""
    with closing(sqlite3.connect(":memory:")) as connection:
        migrate(connection, 0)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    used = [re.search(r"USING (?:COVERING )?INDEX (\w+)", step) for *_, step in plan]
    assert {found[1] for found in used if found} == indexes
    assert not [step for *_, step in plan if re.match(r"SCAN (?!.*INDEX)", step)]


def test_what_is_returned_of_an_outcome_is_found_by_an_index() -> None:
    """No table is read from end to end for the outcome of a message, as it would be by default."""
    statement = sqlite_store._END.format(f"({', '.join('?' * 9)})")
    with closing(sqlite3.connect(":memory:")) as connection:
        migrate(connection, 0)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", (None,) * 9).fetchall()
    steps = [step for *_, step in plan]
    assert [step for step in steps if "SEARCH own" in step or "SEARCH other" in step]
    assert not [step for step in steps if step.startswith(("SCAN own", "SCAN other"))]
