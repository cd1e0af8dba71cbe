"""What `skycore settle` does: compare a ledger's doubts with a report, and print the result.

Rules:

* A ledger that does not exist is an error, and is not created.
* A message that a report lists was sent, even where the report turns out to be incomplete.
* Where a doubt is left, the exit code is that of a doubt, whatever else happened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import attrs

from ...client import SkycoreClient
from ...errors import ConfigurationError, LedgerError, Rejected, ReportError
from ...ledger.base import BaseLedger
from ...ledger.report_evidence import ReportPeriod
from ...ledger.report_values import Settlement
from ...runtime.secret import Secret
from ...sending.settling import ReportSettling
from ..ui.beside import with_news
from ..ui.ledger_target import LedgerFile, LedgerTarget, ledger_target
from ..ui.output import Exit, emit, fail, number_of, say
from ..ui.settlements import described, facts, needed_words, period_words, report_words
from .report_on_disk import ReportOnDisk


@attrs.frozen(kw_only=True)
class SettleOptions:
    """When absence from a report is proof, and whether anything is written."""

    after: float
    trust_absence: bool
    is_dry_run: bool


@attrs.frozen(kw_only=True)
class SettleEnd:
    """The result of settling.

    `would_prove` is a period for which the report at hand may have been asked, and with which it
    would prove more, and of how many messages.  `periods` are those that need another report.
    """

    settlement: Settlement
    would_prove: tuple[ReportPeriod, int] | None = None
    periods: tuple[tuple[float, float], ...] = ()

    @property
    def exit_code(self) -> Exit:
        """The exit code for the worst that happened."""
        table = (
            (bool(self.settlement.open), Exit.IN_DOUBT),
            (bool(self.settlement.problems), Exit.NOT_ALL_WELL),
        )
        return next((code for is_so, code in table if is_so), Exit.DONE)


def settle_by_request(
    named: Secret,
    options: SettleOptions,
    client: dict[str, Any],
    *,
    wait: float,
    save: Path | None,
    as_json: bool,
) -> Exit:
    """Settle by the reports that Skycore gives, print what came of it, and return the exit code.

    `client` has the arguments of the client; the key among them is a Secret.
    """

    async def ask(ledger: BaseLedger) -> SettleEnd:
        revealed = {**client, "api_key": client["api_key"].reveal()}
        with with_news():
            async with SkycoreClient(**revealed, ledger=ledger) as asking:
                settlement = await asking.settle(**attrs.asdict(options), wait=wait, save=save)
        return SettleEnd(settlement=settlement)

    return _settle(named, options, ask, as_json=as_json)


def settle_by_file(
    named: Secret, options: SettleOptions, report: ReportOnDisk, *, as_json: bool
) -> Exit:
    """Settle by a report that was downloaded, print what came of it, and return the exit code."""

    async def read(ledger: BaseLedger) -> SettleEnd:
        async with ReportSettling(ledger, **attrs.asdict(options)) as settling:
            try:
                await settling.read(
                    report.messages(),
                    since=_seconds(report.since),
                    until=_seconds(report.until),
                    made_at=_seconds(report.made_by),
                )
            except ReportError as error:
                settling.failed(str(error))
            settlement = await settling.end()
            more = None if settlement.problems else await settling.would_prove(report.most)
            return SettleEnd(settlement=settlement, would_prove=more, periods=settling.periods)

    return _settle(named, options, read, as_json=as_json)


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _settle(
    named: Secret,
    options: SettleOptions,
    step: Callable[[BaseLedger], Awaitable[SettleEnd]],
    *,
    as_json: bool,
) -> Exit:
    target = ledger_target(named)
    target.check()

    async def run() -> SettleEnd:
        async with target.to_write() as ledger:
            return await step(ledger)

    try:
        end = anyio.run(run)
    except Rejected as error:
        fail(
            f"Skycore refused the report with {error}. Nothing was changed; where the account"
            " may have none, download one and give it with --report",
            Exit.REFUSED,
        )
    except (ConfigurationError, LedgerError) as error:
        fail(str(error))
    if as_json:
        more = end.would_prove and period_words(end.would_prove[0])
        emit({**facts(end.settlement), "would_prove": more, "dry_run": options.is_dry_run})
    else:
        _print(end, target, options)
    return end.exit_code


def _print(end: SettleEnd, target: LedgerTarget, options: SettleOptions) -> None:
    settlement = end.settlement
    if not _doubts(settlement):
        say(f"{target.name}: nothing is in doubt, so no report is needed.")
    else:
        say(f"{target.name}: {number_of(_doubts(settlement), 'message')} in doubt")
        run = "the next run" if isinstance(target, LedgerFile) else "a worker or the next run"
        for line in described(settlement, is_dry_run=options.is_dry_run, run=run):
            say(line)
    lines = [*report_words(settlement, end.would_prove, target.argument)]
    if end.would_prove is None:
        lines += needed_words(settlement, end.periods)
    for line in lines:
        say(line if line.startswith(" ") else f"\n{line}")
    if options.is_dry_run:
        say("\nThis was a dry run: nothing was written.", err=True)


def _doubts(settlement: Settlement) -> int:
    return len(settlement.sent) + len(settlement.not_sent) + len(settlement.open)
