"""What the reading of a file found, kept until it is sent: a temporary table in SQLite.

Strategy: a row is read, judged and resolved once, when the file is checked.  Sending
takes it from here, so that what goes out is what was counted and shown, whatever
becomes of the file meanwhile.  A private database in a temporary file takes as much
memory as its cache, and is gone with its connection, also where the process is killed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final, Self

import attrs

from ...messages import SMS
from .recipients import Row
from .rows import JudgedRow, MessageRow, RejectedRow, RejectionKind, number_stands

_TAGS: Final = "tags"
_FIELDS: Final = (*(field.name for field in attrs.fields(SMS) if field.name != _TAGS), _TAGS)
_texts_of: Final = attrgetter(*_FIELDS[:-1])
_COLUMNS: Final = ("line", "cells", "kind", "reason", "otherwise", "written", *_FIELDS)
_SETTINGS: Final = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA cache_size = -1024",  # in KiB: rows are written and read in order
    "CREATE TABLE rows (" + ", ".join(f'"{name}"' for name in _COLUMNS) + ")",
    'CREATE INDEX others ON rows ("to") WHERE kind IS NOT NULL AND "to" IS NOT NULL',
    "BEGIN",
)
_INSERT: Final = f"INSERT INTO rows VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_SELECT: Final = "SELECT * FROM rows ORDER BY rowid"
_BY_LINE: Final = "CREATE INDEX IF NOT EXISTS by_line ON rows (line)"
_ON_LINE: Final = "SELECT * FROM rows WHERE line = ?"
_OTHERS: Final = 'SELECT * FROM rows WHERE kind = ? AND "to" = ? ORDER BY rowid'
_BY_NUMBER: Final = 'CREATE INDEX IF NOT EXISTS by_number ON rows ("to")'
# The row that is sent to a number besides one in doubt, or one in doubt that stands before it.
_STANDS: Final = (
    'SELECT line FROM rows WHERE "to" = ? AND (kind IS NULL OR kind = ? AND line < ?)'
    " ORDER BY rowid LIMIT 1"
)
_TOGETHER: Final = 500  # rows that are written in one step


class KeptRows:
    """Judged rows, in the order in which they were added."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        try:
            for statement in _SETTINGS:
                self._connection.execute(statement)
        except sqlite3.Error:  # nobody else has it to close
            self._connection.close()
            raise
        self._unwritten: list[tuple[Any, ...]] = []
        self._has_others = False
        self._has_doubts = False

    def add(self, judged: JudgedRow) -> None:
        """Keep a row."""
        row = judged.row
        place = (row.line, json.dumps(row.values))
        if isinstance(judged, RejectedRow):
            values = tuple(judged.key if name == "key" else None for name in _FIELDS)
            if judged.message is not None:
                values = _values(judged.message)
                self._has_others |= judged.kind is RejectionKind.DUPLICATE
                self._has_doubts |= judged.kind is RejectionKind.IN_DOUBT
            said = (judged.kind, judged.reason, judged.otherwise)
            self._unwritten.append((*place, *said, None, *values))
        else:
            told = (None, None, None, judged.written)
            self._unwritten.append((*place, *told, *_values(judged.message)))
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
        for line, cells, kind, reason, otherwise, written, *values in rows:
            row = Row(line=line, values=json.loads(cells))
            if kind is None:
                message = _message(values)
                others = self._others(message.to) if self._has_others else ()
                yield MessageRow(row=row, message=message, written=written, others=others)
            else:
                key = values[_FIELDS.index("key")]
                own = None if values[0] is None else _message(values)
                rejected = RejectedRow(
                    row=row,
                    kind=RejectionKind(kind),
                    reason=reason,
                    key=key,
                    message=own,
                    otherwise=otherwise,
                )
                yield self._alone(rejected) if kind == RejectionKind.IN_DOUBT else rejected

    def _alone(self, row: RejectedRow) -> RejectedRow:
        """Return a row in doubt, which is no message to send where another has its number."""
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
        return tuple(
            MessageRow(row=Row(line=line, values=json.loads(cells)), message=_message(values))
            for line, cells, _, _, _, _, *values in found
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()


def _message(values: Sequence[Any]) -> SMS:
    fields = dict(zip(_FIELDS, values, strict=True))
    return SMS(**{**fields, _TAGS: json.loads(fields[_TAGS])})


def _values(message: SMS) -> tuple[str | None, ...]:
    return (*_texts_of(message), json.dumps(message.tags))
