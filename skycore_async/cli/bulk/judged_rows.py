"""The judged rows of a file, kept in a temporary SQLite table until they are sent.

Strategy: a row is read, judged and resolved once, when the file is checked.  The run takes it from
here, so that it sends what was counted and shown, whatever becomes of the file meanwhile.  A
private database in a temporary file takes no more memory than its cache, and is gone with its
connection, also where the process is killed.

Only what is searched for has a column of its own.  The rest is one value of `marshal`, which is
fast, and safe because only the process that wrote it reads it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from marshal import dumps, loads
from operator import attrgetter
from typing import Any, Final, Self

import attrs

from ...messages import SMS
from .recipients import Row
from .rows import JudgedRow, MessageRow, RejectedRow, RejectionKind, number_stands

_FIELDS: Final = tuple(field.name for field in attrs.fields(SMS))
_fields_of: Final = attrgetter(*_FIELDS)
_SETTINGS: Final = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA cache_size = -1024",  # in KiB: rows are written and read in order
    'CREATE TABLE rows (line, kind, "to", content)',
    'CREATE INDEX others ON rows ("to") WHERE kind IS NOT NULL AND "to" IS NOT NULL',
    "BEGIN",
)
_INSERT: Final = "INSERT INTO rows VALUES (?, ?, ?, ?)"
_SELECT: Final = "SELECT * FROM rows ORDER BY rowid"
_BY_LINE: Final = "CREATE INDEX IF NOT EXISTS by_line ON rows (line)"
_ON_LINE: Final = "SELECT * FROM rows WHERE line = ?"
_OTHERS: Final = 'SELECT * FROM rows WHERE kind = ? AND "to" = ? ORDER BY rowid'
_BY_NUMBER: Final = 'CREATE INDEX IF NOT EXISTS by_number ON rows ("to")'
# The first row that takes the number of a row in doubt: a message, or an earlier row in doubt.
_STANDS: Final = (
    'SELECT line FROM rows WHERE "to" = ? AND (kind IS NULL OR kind = ? AND line < ?)'
    " ORDER BY rowid LIMIT 1"
)
_TOGETHER: Final = 500  # rows that are written in one step


class JudgedRows:
    """Judged rows, in the order in which they were added."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        try:
            for statement in _SETTINGS:
                self._connection.execute(statement)
        except sqlite3.Error:  # nobody else could close it
            self._connection.close()
            raise
        self._unwritten: list[tuple[Any, ...]] = []
        self._has_others = False
        self._has_doubts = False

    def add(self, judged: JudgedRow) -> None:
        """Add a row."""
        row, message, kind = judged.row, judged.message, None
        if isinstance(judged, RejectedRow):
            kind = judged.kind
            said: tuple[Any, ...] = (judged.reason, judged.key, judged.otherwise)
            if message is not None:
                self._has_others |= kind is RejectionKind.DUPLICATE
                self._has_doubts |= kind is RejectionKind.IN_DOUBT
        else:
            said = (judged.written, judged.looks_american)
        to, fields = (None, None) if message is None else (message.to, _fields_of(message))
        content: tuple[Any, ...] = (row.values, fields, said)
        self._unwritten.append((row.line, kind, to, dumps(content)))
        if len(self._unwritten) == _TOGETHER:
            self._write()

    def _write(self) -> None:
        self._connection.executemany(_INSERT, self._unwritten)
        self._unwritten.clear()

    def __iter__(self) -> Iterator[JudgedRow]:
        self._write()
        if self._has_doubts:
            self._connection.execute(_BY_NUMBER)
        yield from self._judged(self._connection.execute(_SELECT))

    def on_lines(self, lines: Sequence[int]) -> list[JudgedRow]:
        """Return the rows on these lines."""
        if not lines:
            return []
        self._connection.execute(_BY_LINE)
        found = (self._connection.execute(_ON_LINE, (line,)).fetchone() for line in lines)
        return list(self._judged(found))

    def _judged(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[JudgedRow]:
        for line, kind, to, content in rows:
            values, fields, said = loads(content)  # noqa: S302 - written by this process
            row = Row(line, values)
            if kind is None:
                others = self._others(to) if self._has_others else ()
                message = _message(fields)
                written, looks_american = said
                yield MessageRow(
                    row=row,
                    message=message,
                    written=written,
                    looks_american=looks_american,
                    others=others,
                )
            else:
                reason, key, otherwise = said
                rejected = RejectedRow(
                    row=row,
                    kind=RejectionKind(kind),
                    reason=reason,
                    key=key,
                    message=None if fields is None else _message(fields),
                    otherwise=otherwise,
                )
                yield self._alone(rejected) if kind == RejectionKind.IN_DOUBT else rejected

    def _alone(self, row: RejectedRow) -> RejectedRow:
        """Return a row in doubt; without its message where another row has its number."""
        if row.message is None:
            return row
        asked = (row.message.to, RejectionKind.IN_DOUBT, row.row.line)
        stands = self._connection.execute(_STANDS, asked).fetchone()
        if stands is None:
            return row
        return attrs.evolve(row, message=None, otherwise=number_stands(row.message.to, *stands))

    def _others(self, to: str) -> tuple[MessageRow, ...]:
        asked = (RejectionKind.DUPLICATE, to)
        found = self._connection.execute(_OTHERS, asked).fetchall()
        contents = ((line, *loads(content)) for line, _, _, content in found)  # noqa: S302 - as above
        return tuple(
            MessageRow(row=Row(line, values), message=_message(fields))
            for line, values, fields, _ in contents
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()


def _message(fields: Sequence[Any]) -> SMS:
    return SMS(**dict(zip(_FIELDS, fields, strict=True)))
