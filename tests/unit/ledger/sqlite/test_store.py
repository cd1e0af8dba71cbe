"""What the tables in SQLite keep of submissions that no message is known for."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from skycore_async.ledger.sqlite.schema import migrate
from skycore_async.ledger.sqlite.store import SQLiteStore


def test_the_number_of_a_submission_is_noted_once_one_is_told() -> None:
    """A first notification may lack it; the first that has it says it, and no later one."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        store = SQLiteStore(connection)
        noted: list[str | None] = []
        for number in (None, "15551234567", "15557654321"):
            assert store.submissions({"SMS_1": number}) == {"SMS_1": None}
            noted += [each for (each,) in connection.execute("SELECT recipient FROM submissions")]
        assert noted == [None, "15551234567", "15551234567"]
