"""Migrations of SQLite files: scripts are run by statements, within one transaction."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources

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


@pytest.mark.parametrize("package", ["skycore_async.ledger.sqlite", "skycore_async.postgres"])
def test_migrations_are_numbered_without_a_gap(package: str) -> None:
    """Two of one number would be run in the order of their names, in one file or the other."""
    found = resources.files(package).joinpath("migrations").iterdir()
    names = sorted(file.name for file in found if file.name.endswith(".sql"))
    assert [int(name.partition("_")[0]) for name in names] == list(range(1, len(names) + 1))
