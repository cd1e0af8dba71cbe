#!/usr/bin/env bash
# SQLite 3.54.1 (and 3.40.1): a write-ahead log beside an empty main file is deleted by looking.
#
# A new database in WAL mode can have all of its tables in the log, as nothing moves them to
# the main file until there are 1,000 pages.  Where the main file is then found empty or
# missing, as after a copy that took the files one by one or a restore that broke off, the log
# still has every committed row.  The first read deletes it, without an error: the database is
# empty, and what could have been mended by hand is gone.  With a main file of one page, even
# an old one, the log is read and the rows are there.
#
# Seen: apsw 3.40.1.0 and 3.54.1.0 on Python 3.11, for an empty main file and a missing one.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"

cat >"$work/look.py" <<'PYTHON'
import shutil
import sys
from pathlib import Path

import apsw

folder = Path(sys.argv[1])
folder.mkdir()
source = folder / "source.db"
connection = apsw.Connection(str(source))
connection.execute("PRAGMA journal_mode = WAL")
first_page = source.read_bytes()
connection.execute("CREATE TABLE message (text TEXT)")
connection.execute("INSERT INTO message VALUES ('billed')")

for case, main in (("first page", first_page), ("empty", b""), ("missing", None)):
    copy = folder / f"{case}.db"
    log = Path(f"{copy}-wal")
    shutil.copy(f"{source}-wal", log)
    if main is not None:
        copy.write_bytes(main)
    before = log.stat().st_size
    looking = apsw.Connection(str(copy))
    tables = [name for (name,) in looking.execute("SELECT name FROM sqlite_schema")]
    left = log.exists() and log.stat().st_size == before
    print(f"{apsw.sqlitelibversion()} {case}: tables {tables}, log {'kept' if left else 'gone'}")
    looking.close()
PYTHON

for version in 3.40.1.0 3.54.1.0; do
    "$work/environment/bin/pip" install --quiet --no-deps "apsw==$version"
    "$work/environment/bin/python" "$work/look.py" "$work/$version" | tee "$work/seen"
    number=${version%.0}
    diff "$work/seen" - <<EXPECTED
$number first page: tables ['message'], log kept
$number empty: tables [], log gone
$number missing: tables [], log gone
EXPECTED
done
echo "as it was seen"
