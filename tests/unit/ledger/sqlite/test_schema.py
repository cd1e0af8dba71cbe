"""Migrations of SQLite files, statement by statement within one transaction."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources

import pytest

from skycore_async.ledger.attempts import turn_of
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
    """A semicolon in a text, comment or trigger ends no statement of a migration."""
    monkeypatch.setattr(schema, "migrations", lambda: (SCRIPT,))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        schema.migrate(connection, 0)
        assert connection.in_transaction
        assert connection.execute("SELECT text FROM odd").fetchall() == [("a;b",), (";",)]
        connection.execute("ROLLBACK")
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_a_new_file_has_what_every_migration_in_order_leads_to() -> None:
    """A new file has the same tables and indexes as one that went through all migrations."""
    files = [sqlite3.connect(":memory:", isolation_level=None) for _ in range(3)]
    with closing(files[0]), closing(files[1]), closing(files[2]):
        schema._run(files[0], schema.migrations(), 0)
        for file in files[1:]:
            schema.migrate(file, 0)
        everything = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid"
        expected, *made = [file.execute(everything).fetchall() for file in files]
        assert made == [expected, expected]
        for table in {table for _, _, table, _ in expected}:
            counts = [file.execute(f"SELECT count(*) FROM {table}").fetchone() for file in files]  # noqa: S608
            assert counts == [(int(table == "identity"),)] * 3
        identities = {file.execute("SELECT ledger FROM identity").fetchone() for file in files}
        assert [len(ledger) for (ledger,) in identities] == [16, 16, 16]
        assert schema.version_of(files[1], "new") == schema.VERSION


def test_rows_that_migrations_lead_to_are_in_a_new_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that migrations insert are in a new file."""
    scripts = (*schema.migrations(), "INSERT INTO inboxes VALUES (x'00', 1)")
    monkeypatch.setattr(schema, "migrations", lambda: scripts)
    for _ in range(2):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            schema.migrate(connection, 0)
            assert connection.execute("SELECT taken FROM inboxes").fetchall() == [(1,)]


def test_what_an_earlier_version_began_again_has_its_turn_by_the_clock() -> None:
    """A migrated message that was sent again days later gets its turn by the clock."""
    day, turns = 86_400.0, schema.migrations()[:12]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema._run(connection, turns, 0)
        for key, started_at in enumerate((9 * day, 1, 2 * day + 2, 3, 4, day + 5, 9 * day - 1)):
            connection.execute(
                "INSERT INTO messages (key, content, recipient, state, started_at)"
                " VALUES (?, x'', '', 'accepted', ?)",
                (str(key), started_at),
            )
        schema._run(connection, schema.migrations(), 12)
        found = connection.execute("SELECT id, turn FROM messages ORDER BY id").fetchall()
    in_order = sorted(found, key=lambda each: turn_of(*each))
    assert [id_ for id_, _ in in_order] == [2, 4, 5, 6, 3, 7, 1]
    assert [id_ for id_, turn in found if turn is not None] == [1, 3]
    assert max(turn_of(*each) for each in found) < turn_of(8, None)


@pytest.mark.parametrize("package", ["skycore_async.ledger.sqlite", "skycore_async.postgres"])
def test_migrations_are_numbered_without_a_gap(package: str) -> None:
    """Migration files are numbered from 1 without gap or repetition."""
    found = resources.files(package).joinpath("migrations").iterdir()
    names = sorted(file.name for file in found if file.name.endswith(".sql"))
    assert [int(name.partition("_")[0]) for name in names] == list(range(1, len(names) + 1))
