"""Sending reports as they are downloaded, kept in files.

Rules:

* A file is its owner's alone, and none that is there is written over: a report that comes in
  several parts takes several names.
* It has the time at which the report was asked for: what was sent later is not in it.
* One that broke off is kept as far as it came, and said to be incomplete.
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
    """The files that begin with `path`; `saved` are those that were written.

    Raises OSError where a file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.saved: list[SavedReport] = []

    async def open(self, since: datetime, until: datetime, *, made_at: datetime) -> KeptReport:
        """Return a new file for a report that is about this time."""
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
    """A report on its way into a file: `write` what comes, and `aclose` it in any case."""

    def __init__(self, file: Any, report: SavedReport, saved: list[SavedReport]) -> None:
        self._file = file
        self._report = report
        self._saved = saved

    async def write(self, data: bytes) -> None:
        """Write what comes next."""
        await anyio.to_thread.run_sync(self._file.write, data)

    async def aclose(self, *, is_complete: bool = False) -> None:
        """Close the file; again does nothing."""
        if self._file.closed:
            return
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close)
        self._saved.append(attrs.evolve(self._report, is_complete=is_complete))

    def _close(self) -> None:
        self._file.close()
        at = self._report.made_at.timestamp()
        os.utime(self._report.path, (at, at))
