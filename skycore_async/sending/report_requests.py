"""Sending reports that the provider is asked for, no more often than it lets.

Strategy: the doubts of a ledger say which periods are worth asking for; each is read in turn.

Rules:

* Only periods in which something is in doubt are asked for.
* That the provider refuses for being asked too often is kept in the ledger, so that the next
  process waits, too.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Final, Protocol

import anyio

from ..errors import SkycoreError
from ..ledger.base import BaseLedger
from ..ledger.report_commands import ListLookUps, RecordLookUp
from ..ledger.report_evidence import AFTER, next_look_up
from ..ledger.report_values import Settlement
from ..messages import ReportedMessage
from .settling import ReportSettling

WAIT: Final = 600.0  # seconds for which a report is waited for at most
_TOO_OFTEN: Final = "E510"


class ReadableReport(Protocol):
    """A report that is being read; `complete` is known after its end."""

    @property
    def complete(self) -> bool:
        """Whether it was read to its end."""
        ...

    def __aiter__(self) -> AsyncIterator[ReportedMessage]:
        """Return what it lists."""
        ...


OpenReport = Callable[[datetime, datetime], AbstractAsyncContextManager[ReadableReport]]


async def settle(
    ledger: BaseLedger,
    open_report: OpenReport,
    *,
    after: float = AFTER,
    trust_absence: bool = False,
    is_dry_run: bool = False,
    wait: float = WAIT,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> Settlement:
    """Ask for the reports that may end doubts, write what they prove, and return it.

    Where the provider refuses for being asked too often, it is waited for, `wait` seconds in
    all; what is left then stays in doubt.
    """
    settling = ReportSettling(
        ledger, after=after, trust_absence=trust_absence, is_dry_run=is_dry_run, clock=clock
    )
    asking = _Asking(ledger, open_report, settling, patience=wait, sleep=sleep)
    async with settling:
        for since, until in settling.periods:
            if not await asking.ask(since, until):
                settling.cut_short()
                break
        return await settling.end()


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

    async def ask(self, since: float, until: float) -> bool:
        """Read the report about a time; False where it cannot be had within the patience."""
        while await self._has_turn():
            asked_at = self._settling.clock()
            is_read = await self._read(since, until, asked_at)
            await self._ledger.run(RecordLookUp(asked_at=asked_at, refused=not is_read))
            if is_read:
                return True
        return False

    async def _has_turn(self) -> bool:
        pause = next_look_up(await self._ledger.run(ListLookUps())) - self._settling.clock()
        if pause > self._patience:
            return False
        if pause > 0:
            self._patience -= pause
            await self._sleep(pause)
        return True

    async def _read(self, since: float, until: float, asked_at: float) -> bool:
        """Read a report; False where it was refused as asked for too often."""
        period = datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(until, UTC)
        try:
            async with self._open_report(*period) as report:
                await self._settling.read(
                    report,
                    since=since,
                    until=until,
                    made_at=asked_at,
                    is_complete=lambda: report.complete,
                )
        except SkycoreError as error:
            if getattr(error, "code", None) != _TOO_OFTEN:
                raise
            return False
        return True
