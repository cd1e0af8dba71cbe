"""The rejects of a bulk send: rows to mend and to run again, in a file of their own.

Strategy: rows are written every few seconds.  Before each writing, the digest that the file will
have is noted, so that a file which a killed run left is known as one that nobody has edited.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import IO, Final, Self

from ...runtime.private_files import private
from ..ui.output import printable
from ..ui.spreadsheet_cells import no_formula
from .recipients import LINE, REASON, Row, Sheet, SheetError
from .written_rejects import WrittenRejects, new_digest

_EVERY: Final = 2.0  # seconds between writings; a killed run loses no more than these


def is_replaceable(path: Path) -> bool:
    """Return whether rejects may be written to `path`: it is free, or has rejects in it."""
    if not path.is_file() or not path.stat().st_size:
        return True
    try:
        with path.open("rb") as file:
            return {REASON, LINE} <= {*Sheet(file, str(path)).header.names}
    except SheetError:
        return False


def _is_the_same(one: Path, other: Path) -> bool:
    """Return whether two files have the same lines, whatever their order."""
    has_one_size = one.stat().st_size == other.stat().st_size
    return has_one_size and _lines_of(one) == _lines_of(other)


def _digest_of(row: Sequence[str]) -> bytes:
    return blake2b(repr(row).encode(), digest_size=16).digest()


def _lines_of(path: Path) -> int:
    """Return a digest of the lines of a file, whatever their order."""
    with path.open("rb") as file:
        return sum(int.from_bytes(blake2b(line, digest_size=16).digest()) for line in file)


class Rejects:
    """Rows to mend and to run again, in a file of the same shape with a reason and a line.

    The file is made, or one of that name replaced, with the first row.  When it is closed:

    * Where one of the `earlier` files has the same rows with the same reasons, in any order, the
      new file is removed, and `path` is the earlier one.
    * Where all rows of the run were looked at (`is_whole`), the new file replaces those earlier
      ones that nobody has edited since they were written, as `written` knows, and that say nothing
      else of a row which is in both.

    The file of a killed run may end after any row.
    """

    def __init__(
        self,
        path: Path,
        sheet: Sheet,
        earlier: Iterable[Path] = (),
        written: WrittenRejects | None = None,
    ) -> None:
        self.path = path
        self.is_whole = False
        self._earlier = earlier
        self._written_files = written
        self.count = 0
        self._width = len(sheet.header.names)
        self._delimiter = sheet.delimiter
        names = [*sheet.header.names]
        for name in (REASON, LINE):
            if name not in names:  # a file of rejects that is run again has them already
                names.append(name)
        self._names = names
        self._file: IO[bytes] | None = None
        self._text = io.StringIO(newline="")  # the rows that are not written yet
        self._writer = csv.writer(self._text, delimiter=self._delimiter)
        self._digest = new_digest()
        self._written_at = -math.inf

    def write(self, row: Row, reason: str) -> None:
        """Add a row, with the reason why it needs mending."""
        if self._file is None:
            self._file = open(  # noqa: SIM115 - Path.open takes no opener; closed in `close`
                self.path, "wb", opener=private
            )
            self._text.write("\ufeff")  # without this mark Excel does not read the file as UTF-8
            self._writer.writerow(self._names)
        cells = self._fitted(row.values)
        cells[self._names.index(REASON)] = no_formula(printable(reason))
        cells[self._names.index(LINE)] = str(row.line)
        self._writer.writerow(cells)
        self.count += 1
        if time.monotonic() - self._written_at >= _EVERY:
            self._flush(self._file)

    def _flush(self, file: IO[bytes]) -> None:
        """Write the rows that are not written yet; note the file's digests before and after."""
        rows = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        had = self._digest.digest()
        self._digest.update(rows)
        if self._written_files is not None:
            self._written_files.note_writing(self.path, had, self._digest.digest())
        try:
            file.write(rows)
            file.flush()
        except OSError as error:
            error.filename = str(self.path)
            raise
        self._written_at = time.monotonic()

    def _fitted(self, values: Sequence[str]) -> list[str]:
        cells = [*values[: self._width]]
        if len(values) > self._width:  # keep surplus values, and move no column
            cells[-1] = self._delimiter.join(values[self._width - 1 :])
        return cells + [""] * (len(self._names) - len(cells))

    def close(self) -> None:
        """Write the last rows and close the file; drop the new file, or earlier ones, as above."""
        if self._file is None or self._file.closed:
            return
        with self._file:
            self._flush(self._file)
        self._tidy_up()
        if self._written_files is not None:
            self._written_files.note(self.path)

    def _tidy_up(self) -> None:
        """Keep one file where an earlier one has the same rows, or is replaced by this one."""
        for path in self._earlier:
            # One of the two files may be removed meanwhile: the run still tells its result.
            with suppress(OSError):
                if _is_the_same(path, self.path):
                    self.path.unlink()
                    self.path = path
                    return
        if self._written_files is None or not self.is_whole:
            return
        for path in self._earlier:  # the name without a number comes last, and stays
            with suppress(OSError, csv.Error):
                if self._written_files.is_as_written(path) and self._agrees(path):
                    self.path = self.path.replace(path)

    def _agrees(self, earlier: Path) -> bool:
        """Return whether an earlier file has the same row for every line that is in both."""
        if (had := self._rows_in(earlier)) is None or (has := self._rows_in(self.path)) is None:
            return False
        return all(had[line] == has[line] for line in had.keys() & has.keys())

    def _rows_in(self, path: Path) -> dict[str, bytes] | None:
        """Return a digest of each row by its line; None where the file has other columns."""
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=self._delimiter)
            if next(rows, None) != self._names:
                return None
            at = self._names.index(LINE)
            return {row[at]: _digest_of(row) for row in rows}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
