"""The rejects of a bulk send: rows to mend and to run again, in a file of their own."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

from ...runtime.private_files import private
from ..ui.output import printable
from ..ui.spreadsheet_cells import no_formula
from .recipients import LINE, REASON, Row, Sheet, SheetError
from .rejects_before import RejectsBefore


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


def _has_all_of_the_other(one: Path, other: Path) -> bool:
    """Return whether one of two files has all lines of the other."""
    has, has_other = _each_line_of(one), _each_line_of(other)
    return has <= has_other or has >= has_other


def _each_line_of(path: Path) -> set[bytes]:
    with path.open("rb") as file:
        return {blake2b(line, digest_size=16).digest() for line in file}


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
    that differ by rows alone which are rejects no more, or are new ones.
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
        self._file: Any = None
        self._writer: Any = None

    def write(self, row: Row, reason: str) -> None:
        """Add a row, with what is to be mended in it."""
        if self._writer is None:
            # Excel takes a file for UTF-8 only where it begins with the mark.
            self._file = open(  # noqa: SIM115 - Path.open takes no opener; closed in `close`
                self.path, "w", encoding="utf-8-sig", newline="", opener=private
            )
            self._writer = csv.writer(self._file, delimiter=self._delimiter)
            self._writer.writerow(self._names)
        cells = self._fitted(row.values)
        cells[self._names.index(REASON)] = no_formula(printable(reason))
        cells[self._names.index(LINE)] = str(row.line)
        self._writer.writerow(cells)
        self.count += 1

    def _fitted(self, values: Sequence[str]) -> list[str]:
        cells = [*values[: self._width]]
        if len(values) > self._width:  # nothing of it is lost, and no column moves
            cells[-1] = self._delimiter.join(values[self._width - 1 :])
        return cells + [""] * (len(self._names) - len(cells))

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is None or self._file.closed:
            return
        self._file.close()
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
        for path in reversed([*self._earlier]):
            with suppress(OSError):
                if self._before.is_as_written(path) and _has_all_of_the_other(path, self.path):
                    self.path = self.path.replace(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
