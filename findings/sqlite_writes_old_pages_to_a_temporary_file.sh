#!/usr/bin/env bash
# SQLite 3.54.1 (and 3.40.1): a statement over many rows writes old pages to a temporary file.
#
# In WAL mode a commit appends new pages to the log, so one expects an insert to write those
# and nothing else.  But where a statement changes several rows and one of them could break a
# constraint, SQLite first keeps each page as it was, so that it can undo this statement alone
# within its transaction.  From 64 kB on it does so in a file in the directory for temporary
# files, which it opens and deletes at each such statement.  ON CONFLICT DO NOTHING does not
# help, as NOT NULL could still fail.  OR FAIL does: then there is nothing to undo, and whoever
# rolls back the whole transaction after an error loses nothing by it.
#
# Who has a full or slow disk there meets it, beside a database on another one.
#
# Seen: apsw 3.40.1.0 and 3.54.1.0 on Python 3.11: one file for the plain statement and the one
# with ON CONFLICT, none with OR FAIL, and none where no constraint could fail.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"

cat >"$work/count.py" <<'PYTHON'
import random
import sys

import apsw

opened = 0


class Counting(apsw.VFS):
    """The usual files, while those that keep pages for one statement are counted."""

    def __init__(self):
        super().__init__("counting", "")

    def xOpen(self, name, flags):
        global opened
        opened += bool(flags[0] & apsw.SQLITE_OPEN_SUBJOURNAL)
        return super().xOpen(name, flags)


vfs = Counting()
connection = apsw.Connection(sys.argv[1], vfs="counting")
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE strict (name TEXT NOT NULL UNIQUE, padding TEXT)")
connection.execute("CREATE TABLE free (name TEXT, padding TEXT)")
connection.execute("CREATE INDEX by_name ON free (name)")
numbers = random.Random(1)


def files(statement):
    """Insert 100 rows all over a large index, and return how many files that took."""
    rows = ", ".join(f"('{numbers.random()}', 'x')" for _ in range(100))
    before = opened
    connection.execute("BEGIN")
    connection.execute(statement.format(rows))
    connection.execute("COMMIT")
    return opened - before


for table in ("strict", "free"):
    for _ in range(200):
        files("INSERT OR FAIL INTO %s VALUES {}" % table)
print(
    apsw.sqlitelibversion(),
    f"plain={files('INSERT INTO strict VALUES {}')}",
    f"upsert={files('INSERT INTO strict VALUES {} ON CONFLICT (name) DO NOTHING')}",
    f"fail={files('INSERT OR FAIL INTO strict VALUES {}')}",
    f"free={files('INSERT INTO free VALUES {}')}",
)
PYTHON

# count VERSION: the files of that release.
count() {
    "$work/environment/bin/pip" install --quiet --no-deps "apsw==$1"
    "$work/environment/bin/python" "$work/count.py" "$work/$1.db" | tee "$work/count"
}

count 3.40.1.0
grep -qx '3.40.1 plain=1 upsert=1 fail=0 free=0' "$work/count"
count 3.54.1.0
grep -qx '3.54.1 plain=1 upsert=1 fail=0 free=0' "$work/count"
echo "as it was seen"
