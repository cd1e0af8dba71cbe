"""What the SQLite tables keep, and by how many statements."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest

from skycore_async.ledger.commands import Begin, Finish
from skycore_async.ledger.model import MessageState, SendIntent, Submission
from skycore_async.ledger.opt_outs import OptOut
from skycore_async.ledger.sqlite import statements
from skycore_async.ledger.sqlite.schema import migrate
from skycore_async.ledger.sqlite.store import SQLiteStore


def test_the_number_of_a_submission_is_noted_once_one_is_told() -> None:
    """A submission keeps the first recipient number that a notification names."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        store = SQLiteStore(connection)
        noted: list[str | None] = []
        for number in (None, "15551234567", "15557654321"):
            assert store.submissions({"SMS_1": number}) == {"SMS_1": None}
            noted += [each for (each,) in connection.execute("SELECT recipient FROM submissions")]
        assert noted == [None, "15551234567", "15551234567"]


def test_an_accepted_outcome_is_written_without_a_select() -> None:
    """An accepted outcome is written without a SELECT on `messages`."""
    said: list[str] = []
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        store = SQLiteStore(connection)
        store.insert_new([_begin("k")])
        connection.set_trace_callback(said.append)
        accepted = Submission(state=MessageState.ACCEPTED, tracking_id="SMS_1", raw={})
        found = store.finish_usual([Finish(key="k", submission=accepted)], ended_at=2.0)
        connection.set_trace_callback(None)
    assert [*found.keys] == ["k"]
    verbs = [
        re.findall("SELECT|UPDATE|INSERT", each)[0]
        for each in said
        if "messages" in each.partition("WHERE")[0]
    ]
    assert verbs == ["UPDATE", "INSERT"]  # and the submission, by the message's id


@pytest.mark.parametrize("name", ["5551234567", "05551234567"])
def test_a_name_within_the_country_counts_from_when_it_is_said(name: str) -> None:
    """An opt-out of a number without country code counts for messages begun after it."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        store = SQLiteStore(connection)
        assert store.insert_new([_begin("before")]) == {"before"}
        store.insert_opt_outs([OptOut(number="15557654321", out=True, at=1.0)])
        assert store.insert_new([_begin("still before")]) == {"still before"}
        store.insert_opt_outs([OptOut(number=name, out=True, at=1.0)])
        assert store.insert_new([_begin("after")]) == set()
        assert SQLiteStore(connection).insert_new([_begin("opened again")]) == set()
        assert store.insert_new([_begin("to any", ignore_opt_out=True)]) == {"to any"}


def test_what_writes_many_rows_does_not_copy_the_pages_before() -> None:
    """Each statement that writes many rows says OR FAIL, so that SQLite copies no pages."""
    writing = re.compile(r"(?<!DO )\b(?:INSERT|UPDATE)\b(?: OR FAIL)?")
    said = {
        name: writing.findall(text)
        for name, text in vars(statements).items()
        if isinstance(text, str) and "VALUES {}" in text
    }
    assert {verb for verbs in said.values() for verb in verbs} == {
        "INSERT OR FAIL",
        "UPDATE OR FAIL",
    }
    assert {"INSERT", "ACCEPT", "RECORD", "PROGRESS", "COUNT"} <= {*filter(said.get, said)}


def _begin(key: str, *, ignore_opt_out: bool = False) -> Begin:
    intent = SendIntent(key=key, content=b"-", to="15551234567", from_=None, started_at=1.0)
    return Begin(intent=intent, ignore_opt_out=ignore_opt_out)
