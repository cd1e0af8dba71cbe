"""Tables for other programs, written row by row: CSV, lines of JSON, and Parquet.

Rule: at most a few thousand rows are in memory, and the library for a format is loaded only when
that format is written.
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from importlib import import_module
from typing import IO, Any, Final

from ...runtime.extras import missing
from .output import plain
from .spreadsheet_cells import no_formula
from .times import iso_time

_TOGETHER: Final = 5000  # rows of a group in a Parquet file
_LIST: Final = ";"  # between the words of a cell in CSV

Columns = Mapping[str, type]  # by their names: str, int, datetime, or tuple for words
Row = Mapping[str, Any]


class TableWriter(ABC):
    """Write rows to `file`, each with a value or None for every column."""

    def __init__(self, file: IO[bytes], columns: Columns) -> None:
        self.file = file
        self.columns = columns

    @abstractmethod
    def write(self, row: Row) -> None:
        """Write a row."""

    def end(self) -> None:  # noqa: B027 - most tables end with their last row
        """Write the end of the table."""


class CSVWriter(TableWriter):
    """CSV in UTF-8, with the names of columns in the first line, and no formulas."""

    def __init__(self, file: IO[bytes], columns: Columns) -> None:
        super().__init__(file, columns)
        self._text = io.StringIO(newline="")
        self._writer: Any = csv.writer(self._text)
        self._give(list(columns))

    def write(self, row: Row) -> None:
        """Write a row."""
        self._give([_cell(row[name]) for name in self.columns])

    def _give(self, cells: list[Any]) -> None:
        self._writer.writerow(cells)
        self.file.write(self._text.getvalue().encode("utf-8", "replace"))
        self._text.seek(0)
        self._text.truncate()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return no_formula(str(value))
    if isinstance(value, tuple):
        return no_formula(_LIST.join(value))
    return iso_time(value) if isinstance(value, datetime) else value


class JSONLinesWriter(TableWriter):
    """A line of JSON for each row, in ASCII."""

    def write(self, row: Row) -> None:
        """Write a row."""
        self.file.write(json.dumps(plain(row)).encode() + b"\n")


class ParquetWriter(TableWriter):
    """A Parquet file, with times in microseconds of UTC and lists of words."""

    def __init__(self, file: IO[bytes], columns: Columns) -> None:
        super().__init__(file, columns)
        try:
            pyarrow: Any = import_module("pyarrow")
            parquet: Any = import_module("pyarrow.parquet")
        except ImportError as error:
            raise missing("parquet", error) from error
        self._arrow = pyarrow
        types = {
            str: pyarrow.string(),
            int: pyarrow.int64(),
            datetime: pyarrow.timestamp("us", tz="UTC"),
            tuple: pyarrow.list_(pyarrow.string()),
        }
        self._schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self._writer = parquet.ParquetWriter(file, self._schema)
        self._rows: list[Row] = []

    def write(self, row: Row) -> None:
        """Add a row; write the rows as soon as there are enough for a group."""
        self._rows.append(row)
        if len(self._rows) == _TOGETHER:
            self._give()

    def end(self) -> None:
        """Write the remaining rows and the end of the file."""
        if self._rows:
            self._give()
        self._writer.close()

    def _give(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._rows, self._schema))
        self._rows.clear()


def is_table(begins: bytes, columns: Columns) -> bool:
    """Return whether a file with this beginning is a table of these columns, in any format."""
    header, first = ",".join(columns), next(iter(columns))
    return begins.startswith((f"{header}\r\n".encode(), f'{{"{first}": '.encode(), b"PAR1"))


WRITERS: Final[Mapping[str, type[TableWriter]]] = {
    "csv": CSVWriter,
    "jsonl": JSONLinesWriter,
    "parquet": ParquetWriter,
}
