"""Request sending reports from the provider, as often as it allows.

Strategy: the doubts of a ledger tell which periods are worth requesting; each is read in turn.

Rules:

* Only the times of doubts and of their witnesses are requested.
* If the provider refuses a request as too often, that is kept in the ledger, so that the next
  process waits, too.
* A report was made when it was requested, by the provider's clock as well: this machine's clock
  may be ahead.
* Once a part of a report was granted, earlier refusals no longer double the pause.
* The longest period that the account allows is found once, not for each period: a refused look-up
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

WAIT: Final = 600.0  # seconds: the longest wait for the provider to allow a report


# Takes since, until, the longest `period` that is allowed, and the `files` to keep reports in.
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
    """Request the reports that may end doubts, write what they prove, and return it.

    If the provider refuses a request as too often, wait for it, `wait` seconds in all; what is
    left then stays in doubt.  Reports are kept in files with names that begin with `save`.

    Raises ConfigurationError if `ledger` is not one of this package, and if a flag is neither True
    nor False.
    """
    if not isinstance(ledger, BaseLedger):
        raise ConfigurationError(
            "ledger: doubts are settled in a MemoryLedger, SQLiteLedger or PostgresLedger, which"
            " the client has to have"
        )
    for name, flag in (("trust_absence", trust_absence), ("is_dry_run", is_dry_run)):
        if not isinstance(flag, bool):  # any text, even "false", would count as True
            raise ConfigurationError(f"{name}: True or False is needed, not {type(flag).__name__}")
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
    """Request reports, no more often than the provider allows by the ledger's record."""

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
        self._made_at = math.inf  # when the report that is being read was made
        self._longest: timedelta | None = None  # period that the account allows, if that is known
        self._refused: list[ReportRequest] = []  # the last request made here, if it was refused

    async def ask(self, since: float, until: float) -> bool:
        """Read the report of a period; return False if no other is to be requested now.

        Raises Rejected if the account may have no reports at all.
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
                # What other reports told is still true.
                self._settling.failed(str(error))
                self._cover(report)
                return False
            if pause is None or report.covered_until > reached:
                await self._note(ReportRequest(asked_at, refused=False, retry_after=0.0))
            if pause is None:
                return True
            # The refusal may have come long after the first request.
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
        # A request by a clock ahead of this one sorts before what was refused after it.
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
        """Read what is left of a report.

        Returns the seconds to wait if it was refused as requested too often, else None.
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
        """Return when a report was made that was just requested; note if the clocks differ."""
        if dated is None or (ahead := asked_at - dated) <= CLOCKS_APART:
            return asked_at
        self._settling.failed(
            f"this machine's clock is {ahead / 60:,.0f} minutes ahead of the provider's, by which"
            " reports look older than they are: set it",
            of_report=False,
        )
        return dated

    def _cover(self, report: SendingReport) -> None:
        """Note that a report is complete up to where it was read."""
        if report.covered_until > report.since:
            self._settling.covered(
                report.since.timestamp(), report.covered_until.timestamp(), made_at=self._made_at
            )
