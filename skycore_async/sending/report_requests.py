"""Sending reports that the provider is asked for, no more often than it lets.

Strategy: the doubts of a ledger say which periods are worth asking for; each is read in turn.

Rules:

* Only the times of what is in doubt are asked for, and of what shows that a report lists it.
* That the provider refuses for being asked too often is kept in the ledger, so that the next
  process waits, too.
* A report was made when it was asked for, by the provider's clock as well: this machine's may be
  ahead.
* A part of a report that was given ends the row of refusals before it: the pause does not double.
* How long a period may be is found out once, and not for each period: a look-up that is refused
  counts, too.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import anyio
import attrs

from ..errors import ConfigurationError, LookupTooSoon, Rejected, ReportError
from ..ledger.base import BaseLedger
from ..ledger.report_commands import ListReportRequests, RecordReportRequest
from ..ledger.report_evidence import AFTER, next_report_request
from ..ledger.report_values import ReportRequest, Settlement
from ..ledger.settlement import CLOCKS_APART
from ..runtime.logs import log
from .report import SendingReport
from .report_files import ReportFiles
from .settling import ReportSettling

WAIT: Final = 600.0  # seconds for which a report is waited for at most


# Of since, until, the longest `period` that is allowed, and the `files` to keep it in.
OpenReport = Callable[..., SendingReport]


async def settle(
    ledger: object,
    open_report: OpenReport,
    *,
    after: float = AFTER,
    trust_absence: bool = False,
    is_dry_run: bool = False,
    wait: float = WAIT,
    save: str | os.PathLike[str] | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> Settlement:
    """Ask for the reports that may end doubts, write what they prove, and return it.

    Where the provider refuses for being asked too often, it is waited for, `wait` seconds in
    all; what is left then stays in doubt.  Reports are kept in files that begin with `save`.

    Raises ConfigurationError where it is no ledger that can be held against reports, and for a
    word that is neither True nor False.
    """
    if not isinstance(ledger, BaseLedger):
        raise ConfigurationError(
            "ledger: doubts are settled in a MemoryLedger, SQLiteLedger or PostgresLedger, which"
            " the client has to have"
        )
    for name, word in (("trust_absence", trust_absence), ("is_dry_run", is_dry_run)):
        if not isinstance(word, bool):  # text would be a word for it, whatever it says
            raise ConfigurationError(f"{name}: True or False is needed, not {type(word).__name__}")
    settling = ReportSettling(
        ledger, after=after, trust_absence=trust_absence, is_dry_run=is_dry_run, clock=clock
    )
    files = None if save is None else ReportFiles(Path(save))
    if files is not None:
        open_report = functools.partial(open_report, files=files)
    asking = _Asking(ledger, open_report, settling, patience=wait, sleep=sleep)
    async with settling:
        for since, until in settling.periods:
            if not await asking.ask(since, until):
                break
        settlement = await settling.end()
    saved = () if files is None else tuple(files.saved)
    return attrs.evolve(settlement, saved=saved)


class _Asking:
    """Ask for reports, no more often than the provider lets, by what the ledger has of that."""

    def __init__(
        self,
        ledger: BaseLedger,
        open_report: OpenReport,
        settling: ReportSettling,
        *,
        patience: float,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._open_report = open_report
        self._settling = settling
        self._patience = patience
        self._sleep = sleep
        self._has_read = False
        self._made_at = math.inf  # when the report was that is read
        self._longest: timedelta | None = None  # period that the account allows, where it was told
        self._refused: list[ReportRequest] = []  # the last one of this settle, where it was

    async def ask(self, since: float, until: float) -> bool:
        """Read the report about a time; False where no other is to be asked for now.

        Raises Rejected where the account may have none at all.
        """
        period = datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(until, UTC)
        report = self._open_report(*period, period=self._longest)
        try:
            return await self._read_in_turns(report)
        finally:
            if report.period < report.until - report.since:
                self._longest = report.period

    async def _read_in_turns(self, report: SendingReport) -> bool:
        while await self._has_turn():
            asked_at, reached = self._settling.clock(), report.covered_until
            try:
                pause = await self._read(report, asked_at)
            except Rejected as error:
                if not self._has_read:
                    raise
                # What other reports told is no less true.
                self._settling.failed(str(error))
                self._cover(report)
                return False
            if pause is None or report.covered_until > reached:
                await self._note(ReportRequest(asked_at, refused=False, retry_after=0.0))
            if pause is None:
                return True
            # It may have come long after what was asked for first.
            await self._note(
                ReportRequest(self._settling.clock(), refused=True, retry_after=pause)
            )
        self._cover(report)
        return False

    async def _note(self, request: ReportRequest) -> None:
        await self._ledger.run(RecordReportRequest(request=request))
        self._refused = [request] if request.refused else []

    async def _has_turn(self) -> bool:
        requests = await self._ledger.run(ListReportRequests())
        now = self._settling.clock()
        # One by a clock that is ahead of this one stands before what was refused after it.
        next_at = max(
            next_report_request(requests, now=now), next_report_request(self._refused, now=now)
        )
        pause = next_at - now
        if pause > self._patience:
            self._settling.cut_short(next_at)
            return False
        if pause > 0:
            self._patience -= pause
            log.info("reports were asked for too often: waiting %.0f seconds", pause)
            await self._sleep(pause)
        return True

    async def _read(self, report: SendingReport, asked_at: float) -> float | None:
        """Read what is left of a report, and return None.

        Returns how long to wait where it was refused as asked for too often.
        """
        since, until = report.since.timestamp(), report.until.timestamp()
        try:
            async with report:
                if report.covered_until == report.since:
                    self._made_at = self._by_either_clock(asked_at, report.dated)
                await self._settling.read(
                    report,
                    since=since,
                    until=until,
                    made_at=self._made_at,
                    is_complete=lambda: report.complete,
                )
        except LookupTooSoon as error:
            return error.retry_after
        except ReportError as error:
            log.warning("a sending report proves only what it lists: %s", error)
            self._settling.failed(str(error))
            self._cover(report)
        finally:
            self._has_read |= report.is_begun
        return None

    def _by_either_clock(self, asked_at: float, dated: float | None) -> float:
        """Return when a report was made that was just asked for, and say where clocks differ."""
        if dated is None or (ahead := asked_at - dated) <= CLOCKS_APART:
            return asked_at
        self._settling.failed(
            f"this machine's clock is {ahead / 60:,.0f} minutes ahead of the provider's, by which"
            " reports look older than they are: set it",
            of_report=False,
        )
        return dated

    def _cover(self, report: SendingReport) -> None:
        """Take what was read of a report for complete up to where it was."""
        if report.covered_until > report.since:
            self._settling.covered(
                report.since.timestamp(), report.covered_until.timestamp(), made_at=self._made_at
            )
