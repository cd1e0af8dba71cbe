"""Statements over many rows: how many different ones a connection has to prepare."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from skycore_async.ledger.sqlite.rows import StatementRunner

_INSERT = "INSERT INTO names SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL"


@pytest.mark.parametrize(("count", "read"), [(1, 1), (4, 1), (5, 2), (64, 2)])
def test_a_few_rows_have_one_statement_whatever_they_lack(count: int, read: int) -> None:
    """A few rows use one statement whichever values are None; many rows may use another."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE names (id, first, last)")
    statements: set[str] = set()

    class Noting:
        def execute(self, statement: str, values: Any = ()) -> Any:
            statements.add(statement)
            return connection.execute(statement, values)

    runner = StatementRunner(Noting())
    whole = [(id_, "a", "b") for id_ in range(count)]
    partial = [(count + id_, None, "b") for id_ in range(count)]
    for rows in (whole, partial):
        runner._over(_INSERT, rows)
    assert len(statements) == read
    assert connection.execute("SELECT * FROM names ORDER BY id").fetchall() == whole + partial
    connection.close()
