"""A group's steps end as they would one by one: the same answers, and the same tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from skycore_async.ledger.sqlite.grouped import GroupedStore

from skycore_async.ledger.commands import LedgerCommand
from skycore_async.ledger.group_commit import PendingCommand
from skycore_async.ledger.model import SendIntent, Submission
from skycore_async.ledger.sqlite import grouped
from skycore_async.ledger.sqlite.store import SCHEMA, SQLiteStore
from tests.postgres.test_ledger_contract import (
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

MESSAGES = (
    "SELECT key, content, recipient, sender, state, began, ended, tracking_id, code, info,"
    " http_status, raw, reason, settled_by, doubted FROM messages ORDER BY key"
)
EVENTS = (
    "SELECT identity, (SELECT key FROM messages WHERE id = message), tracking_id, recipient, at,"
    " state FROM events ORDER BY identity"
)
OPT_OUTS = "SELECT * FROM opt_outs ORDER BY number"


def begin(intent: SendIntent, *, resend: bool = False, willing: bool = False) -> LedgerCommand:
    return LedgerCommand(
        "begin", (intent,), {"resend_in_doubt": resend, "ignore_opt_out": willing}
    )


def finish(key: str, submission: Submission) -> LedgerCommand:
    return LedgerCommand("finish", (key, submission))


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
    lambda what, tracking_id, number: LedgerCommand(
        "record", ((notice(what, tracking_id, to=number),),)
    ),
    st.sampled_from((SENT, DELIVERED)),
    st.sampled_from(("T1", "T2", "T3")),
    NUMBERS,
)
MARKS = st.builds(
    lambda number, out: LedgerCommand("mark", (number,), {"out": out}), NUMBERS, st.booleans()
)
ANY = st.lists(BEGINS | FINISHES | RECORDS | MARKS, max_size=12)


class Taken(NamedTuple):
    """What came of a group, what the tables hold after it, and of which keys it told."""

    answers: list[Any]
    tables: list[list[Any]]
    news: set[str]


def _one_by_one(store: SQLiteStore, group: Iterable[PendingCommand]) -> None:
    for waiting in group:
        waiting.take(store)


def _taken(
    groups: Iterable[Sequence[LedgerCommand]],
    take: Callable[[GroupedStore, Sequence[PendingCommand]], None] = GroupedStore.take,
) -> Taken:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        store = GroupedStore(connection, clock=lambda: NOON + 1)
        answers: list[Any] = []
        for steps in groups:
            group = [PendingCommand(step) for step in steps]
            store.touched.clear()
            take(store, group)
            answers.append([(waiting.result, repr(waiting.error)) for waiting in group])
        tables = [connection.execute(table).fetchall() for table in (MESSAGES, EVENTS, OPT_OUTS)]
        return Taken(answers, tables, set(store.touched))


def _alone(steps: Sequence[LedgerCommand]) -> list[list[LedgerCommand]]:
    return [[step] for step in steps]


def _assert_as_one_by_one(
    before: Sequence[Sequence[LedgerCommand]], group: Sequence[LedgerCommand]
) -> None:
    together = _taken([*before, group])
    alone = _taken([*before, group], _one_by_one)
    assert together.answers[-1] == alone.answers[-1]
    assert together.tables == alone.tables


OUT, IN = (LedgerCommand("mark", (TO,), {"out": out}) for out in (True, False))
AGAIN = (begin(intent("a")), finish("a", DOUBT), begin(intent("a"), resend=True))


@given(before=ANY, group=st.lists(BEGINS, min_size=1, max_size=6))
@example(before=[OUT], group=[begin(intent("a"), willing=True), begin(intent("b"))])
@example(before=[OUT, IN], group=[begin(intent("a"))])
def test_begun_together_is_begun_one_by_one(
    before: Sequence[LedgerCommand], group: Sequence[LedgerCommand]
) -> None:
    """New keys, known ones, the same one twice, numbers that opted out: each as by itself."""
    _assert_as_one_by_one(_alone(before), group)


@given(before=ANY, group=st.lists(FINISHES, min_size=1, max_size=6))
@example(before=[begin(intent("a"))], group=[finish("a", BLOCKED)])
@example(before=AGAIN, group=[finish("a", NOT_SENT)])
def test_ended_together_is_ended_one_by_one(
    before: Sequence[LedgerCommand], group: Sequence[LedgerCommand]
) -> None:
    """What came early, doubts to settle, blocked numbers, doubts sent again: each as by itself."""
    _assert_as_one_by_one(_alone(before), group)


@given(begun=st.sets(KEYS, min_size=1))
def test_who_waits_is_told_of_all_that_ended_together(begun: set[str]) -> None:
    """Each key that ended is news."""
    group = [finish(key, accepted(key)) for key in begun]
    assert _taken([*_alone([begin(intent(key)) for key in begun]), group]).news >= begun


def test_a_group_of_any_size_is_taken() -> None:
    """The most that wait together are more than one statement takes."""
    keys = [f"order-{number}" for number in range(999)]
    taken = _taken(
        [
            [begin(intent(key)) for key in keys],
            [finish(key, accepted(f"T-{key}")) for key in keys],
        ]
    )
    assert [(row[0], row[4], row[7]) for row in taken.tables[0]] == [
        (key, "accepted", f"T-{key}") for key in sorted(keys)
    ]


def test_an_older_sqlite_takes_them_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite lacks what takes many at once, the same comes of it."""
    steps = [
        [begin(intent("a")), begin(intent("b"))],
        [finish("a", accepted()), finish("b", DOUBT)],
    ]
    at_once = _taken(steps)
    monkeypatch.setattr(grouped, "_OLDEST", (99,))
    assert _taken(steps) == at_once
