#!/usr/bin/env bash
# SQLite 3.35 to 3.40: a subquery in RETURNING reads its table from end to end.
#
# A column of the changed row, compared with an indexed column of another table inside
# RETURNING, has lost its declared type there, so that the index is not used, although
# both columns are TEXT. The same subquery in a SELECT uses it. The result is right; only
# the time grows with the table. A CAST to the column's own type brings the index back.
#
# Who ships an old SQLite meets it: Python's sqlite3 uses whatever the system has, and
# Debian 12 has 3.40.
#
# Seen: apsw 3.40.1.0 (SQLite 3.40.1) prints SCAN, apsw 3.41.2.0 (SQLite 3.41.2) SEARCH.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"

cat >"$work/plan.py" <<'PYTHON'
import apsw

connection = apsw.Connection(":memory:")
cursor = connection.cursor()
cursor.execute("CREATE TABLE message (id INTEGER PRIMARY KEY, number TEXT, ticket TEXT)")
cursor.execute("CREATE TABLE ticket (name TEXT PRIMARY KEY) WITHOUT ROWID")
found = "EXISTS (SELECT 1 FROM ticket WHERE ticket.name = {})"
statements = {
    "select": "SELECT " + found.format("message.ticket") + " FROM message WHERE id = 1",
    "returning": "UPDATE message SET ticket = 'A' WHERE id = 1 RETURNING "
    + found.format("message.ticket"),
    "cast": "UPDATE message SET ticket = 'A' WHERE id = 1 RETURNING "
    + found.format("CAST(message.ticket AS TEXT)"),
}
plans = {}
for name, statement in statements.items():
    *_, (_, _, _, step) = cursor.execute("EXPLAIN QUERY PLAN " + statement)
    plans[name] = step.split()[0]
print(apsw.sqlitelibversion(), *(f"{name}={plan}" for name, plan in plans.items()))
PYTHON

# plan VERSION: the plans of that release.
plan() {
    "$work/environment/bin/pip" install --quiet --no-deps "apsw==$1"
    "$work/environment/bin/python" "$work/plan.py" | tee "$work/plan"
}

plan 3.40.1.0
grep -qx '3.40.1 select=SEARCH returning=SCAN cast=SEARCH' "$work/plan"
plan 3.41.2.0
grep -qx '3.41.2 select=SEARCH returning=SEARCH cast=SEARCH' "$work/plan"
echo "as it was seen"
