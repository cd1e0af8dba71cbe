"""Keep sending reports in files, as they are downloaded.

Rules:

* A file is readable by its owner alone, and no existing file is overwritten: a report in several
  parts takes several names.
* The time of the file is when the report was requested: what was sent later is not in it.
* A report that broke off is kept as far as it came, and marked as incomplete.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs

from ..ledger.report_values import SavedReport
from ..runtime.private_files import private


class ReportFiles:
    """The files with names that begin with `path`; `saved` has those that were written.

    Raises OSError if a file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.saved: list[SavedReport] = []

    async def open(self, since: datetime, until: datetime, *, made_at: datetime) -> KeptReport:
        """Return a new file for a report of this period."""
        path, file = await anyio.to_thread.run_sync(self._opened)
        report = SavedReport(
            path=path, since=since, until=until, made_at=made_at, is_complete=False
        )
        return KeptReport(file, report, self.saved)

    def _opened(self) -> tuple[Path, Any]:
        number = len(self.saved) + 1
        while True:
            stem = self._path.stem if number == 1 else f"{self._path.stem}-{number}"
            path = self._path.with_stem(stem)
            try:
                # Closed by `KeptReport.aclose`; Path.open takes no opener.
                return path, open(path, "xb", opener=private)
            except FileExistsError:
                if number == 1:
                    raise
                number += 1


class KeptReport:
    """A file that a report is written to: `write` its parts, and `aclose` it in any case."""

    def __init__(self, file: Any, report: SavedReport, saved: list[SavedReport]) -> None:
        self._file = file
        self._report = report
        self._saved = saved

    async def write(self, data: bytes) -> None:
        """Write the next part."""
        await anyio.to_thread.run_sync(self._file.write, data)

    async def aclose(self, *, is_complete: bool = False) -> None:
        """Close the file; do nothing if it is closed."""
        if self._file.closed:
            return
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close)
        self._saved.append(attrs.evolve(self._report, is_complete=is_complete))

    def _close(self) -> None:
        self._file.close()
        at = self._report.made_at.timestamp()
        os.utime(self._report.path, (at, at))
