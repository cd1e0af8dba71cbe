"""The rejects of a bulk send: rows to mend and to run again, in a file of their own.

Strategy: rows are written every few seconds, and what the file is after that is noted before, so
that a file which a killed run has left is known as one that nobody has touched.
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
from .rejects_before import RejectsBefore, new_digest

_EVERY: Final = 2.0  # seconds; less than that is lost of the file by who is killed


def is_replaceable(path: Path) -> bool:
    """Return whether rejects may be written to `path`: nothing is there, or rejects are."""
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

    The file is made, and one of that name replaced, when the first row comes.  Where one of
    the `earlier` files has the same rows for the same reasons, in whatever order, that one is
    `path` in the end, and no other is left.  Once all rows were looked at (`is_whole`), it takes
    the place of those that nobody has touched since they were written, as `before` knows, and
    that differ by rows alone which are rejects no more, or are new ones.  Of a run that was
    killed, a file may end with any row.
    """

    def __init__(
        self,
        path: Path,
        sheet: Sheet,
        earlier: Iterable[Path] = (),
        before: RejectsBefore | None = None,
    ) -> None:
        self.path = path
        self.is_whole = False
        self._earlier = earlier
        self._before = before
        self.count = 0
        self._width = len(sheet.header.names)
        self._delimiter = sheet.delimiter
        names = [*sheet.header.names]
        for name in (REASON, LINE):
            if name not in names:  # a file of rejects has them already
                names.append(name)
        self._names = names
        self._file: IO[bytes] | None = None
        self._text = io.StringIO(newline="")  # what is to be written yet
        self._writer = csv.writer(self._text, delimiter=self._delimiter)
        self._written = new_digest()
        self._written_at = -math.inf

    def write(self, row: Row, reason: str) -> None:
        """Add a row, with what is to be mended in it."""
        if self._file is None:
            self._file = open(  # noqa: SIM115 - Path.open takes no opener; closed in `close`
                self.path, "wb", opener=private
            )
            self._text.write("\ufeff")  # without it Excel takes a file for no UTF-8
            self._writer.writerow(self._names)
        cells = self._fitted(row.values)
        cells[self._names.index(REASON)] = no_formula(printable(reason))
        cells[self._names.index(LINE)] = str(row.line)
        self._writer.writerow(cells)
        self.count += 1
        if time.monotonic() - self._written_at >= _EVERY:
            self._flush(self._file)

    def _flush(self, file: IO[bytes]) -> None:
        """Write the rows that are to be written yet, and note what the file is by then."""
        rows = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        before = self._written.digest()
        self._written.update(rows)
        if self._before is not None:
            self._before.note_writing(self.path, before, self._written.digest())
        try:
            file.write(rows)
            file.flush()
        except OSError as error:
            error.filename = str(self.path)
            raise
        self._written_at = time.monotonic()

    def _fitted(self, values: Sequence[str]) -> list[str]:
        cells = [*values[: self._width]]
        if len(values) > self._width:  # nothing of it is lost, and no column moves
            cells[-1] = self._delimiter.join(values[self._width - 1 :])
        return cells + [""] * (len(self._names) - len(cells))

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is None or self._file.closed:
            return
        with self._file:
            self._flush(self._file)
        self._settle_down()
        if self._before is not None:
            self._before.note(self.path)

    def _settle_down(self) -> None:
        """Take the place of earlier files, or leave it to one that has the same rows."""
        for path in self._earlier:
            # Whoever has taken one of the two away meanwhile is told of the run all the same.
            with suppress(OSError):
                if _is_the_same(path, self.path):
                    self.path.unlink()
                    self.path = path
                    return
        if self._before is None or not self.is_whole:
            return
        for path in self._earlier:  # the name without a number is the last one
            with suppress(OSError, csv.Error):
                if self._before.is_as_written(path) and self._agrees(path):
                    self.path = self.path.replace(path)

    def _agrees(self, earlier: Path) -> bool:
        """Return whether an earlier file says of no line what this one does not say of it."""
        if (had := self._said_in(earlier)) is None or (has := self._said_in(self.path)) is None:
            return False
        return all(had[line] == has[line] for line in had.keys() & has.keys())

    def _said_in(self, path: Path) -> dict[str, bytes] | None:
        """Return a digest of each row by its line, of a file with these columns."""
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
