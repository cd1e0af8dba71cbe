"""A sending report that was downloaded by hand, and what the user says about it.

Rule: when the report was made is what the user says, or what the report itself shows.  The time
of the file is that of its last copy, so it can only show that a report is older than the user
says.
"""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

import attrs

from ...errors import ReportError
from ...ledger.report_evidence import ReportPeriod
from ...messages import ReportedMessage
from ...protocol.report_reader import ReportReader
from ...transports.download import Unpacked

STANDARD_INPUT: Final = Path("-")
_AT_A_TIME: Final = 64 * 1024


@attrs.frozen
class ReportOnDisk:
    """A report in a file or on standard input, asked for `since` to `until`, made at `made`."""

    path: Path
    since: datetime | None = attrs.field(default=None, kw_only=True)
    until: datetime | None = attrs.field(default=None, kw_only=True)
    made: datetime | None = attrs.field(default=None, kw_only=True)

    @property
    def made_by(self) -> datetime | None:
        """When the report was made, as the user says; None where the user does not say."""
        return None if self.made is None else min(self.made, self._written())

    @property
    def most(self) -> ReportPeriod:
        """The longest period, and the latest time of making, that the user leaves open."""
        made = self.made_by or self._written()
        return ReportPeriod(
            since=-math.inf if self.since is None else self.since.timestamp(),
            until=math.inf if self.until is None else self.until.timestamp(),
            made_at=made.timestamp(),
        )

    def _written(self) -> datetime:
        """Return the latest time at which the report can have been made: that of the file."""
        now = datetime.now(UTC)
        if self.path == STANDARD_INPUT:
            return now
        return min(now, datetime.fromtimestamp(self.path.stat().st_mtime, UTC))

    async def messages(self) -> AsyncIterator[ReportedMessage]:
        """Yield the messages of the report, compressed or not.

        Raises ReportError at the end where the report is not complete.
        """
        unpacked, reader = Unpacked(), ReportReader()
        with _opened(self.path) as file:
            while chunk := file.read(_AT_A_TIME):
                unpacked.add(chunk)
                while piece := unpacked.take():
                    for message in reader.feed(piece):
                        yield message
        for message in reader.finish():
            yield message
        unpacked.end()
        if reader.problem is not None:
            raise ReportError(f"the report is not complete: {reader.problem}")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer
    else:
        with path.open("rb") as file:
            yield file
