"""Migrations of SQLite files: scripts are run by statements, within one transaction."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from skycore_async.ledger.sqlite import schema

SCRIPT = """
-- One; with a semicolon; in it.
CREATE TABLE odd (text TEXT DEFAULT ';');
/* And; another. */ INSERT INTO odd VALUES ('a;b');
CREATE TRIGGER twice AFTER INSERT ON odd BEGIN
    DELETE FROM odd WHERE text = 'gone;'; DELETE FROM odd WHERE text = 'gone too';
END;
INSERT INTO odd DEFAULT VALUES
"""


def test_a_semicolon_that_ends_no_statement_is_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a text, a comment or a trigger it is left, and the last statement needs none."""
    monkeypatch.setattr(schema, "migrations", lambda: (SCRIPT,))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        schema.migrate(connection, 0)
        assert connection.in_transaction
        assert connection.execute("SELECT text FROM odd").fetchall() == [("a;b",), (";",)]
        connection.execute("ROLLBACK")
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
