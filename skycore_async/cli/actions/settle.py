"""What `skycore settle` does: hold a ledger's doubts against a report, and say what came of it.

Rules:

* A ledger that does not exist is an error, and is not created.
* What a report lists counts, also where it turns out not to be all of one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import anyio
import attrs

from ...client import SkycoreClient
from ...errors import ConfigurationError, LedgerError, Rejected, ReportError
from ...ledger.base import BaseLedger
from ...ledger.report_evidence import OpenReason
from ...ledger.report_values import Settlement
from ...messages import ReportedMessage
from ...protocol.report_reader import ReportReader
from ...runtime.logs import log
from ...runtime.secret import Secret
from ...sending.settling import ReportSettling
from ...transports.download import Unpacked
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.output import Exit, emit, fail, number_of, say

_AT_A_TIME: Final = 64 * 1024


@attrs.frozen(kw_only=True)
class SettleOptions:
    """When the lack of a message is proof, and whether anything is written."""

    after: float
    trust_absence: bool
    is_dry_run: bool


@attrs.frozen
class ReportOnDisk:
    """A report that was downloaded by hand, and what is said of its period."""

    path: Path
    since: datetime | None = attrs.field(default=None, kw_only=True)
    until: datetime | None = attrs.field(default=None, kw_only=True)

    @property
    def made_by(self) -> datetime | None:
        """When it was made at the latest: before its file was, whatever its end is said to be."""
        written = datetime.fromtimestamp(self.path.stat().st_mtime, UTC)
        return self.until and min(self.until, written, datetime.now(UTC))

    async def messages(self) -> AsyncIterator[ReportedMessage]:
        """Read it, compressed or not; ReportError at the end where it is not all of a report."""
        unpacked, reader = Unpacked(), ReportReader()
        with self.path.open("rb") as file:
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


@attrs.frozen(kw_only=True)
class Told:
    """What came of it, and what was wrong with the report."""

    settlement: Settlement
    problem: str | None = None

    @property
    def exit_code(self) -> Exit:
        """The exit code for the worst that there is."""
        if self.settlement.open:
            return Exit.IN_DOUBT
        return Exit.NOT_ALL_WELL if self.problem else Exit.DONE


def settle_by_request(
    named: Secret, options: SettleOptions, client: dict[str, Any], *, wait: float, as_json: bool
) -> Exit:
    """Settle by the reports that Skycore gives, print what came of it, and return the exit code.

    `client` is what the client takes; the key in it is a Secret.
    """

    async def ask(ledger: BaseLedger) -> Told:
        revealed = {**client, "api_key": client["api_key"].reveal()}
        async with SkycoreClient(**revealed, ledger=ledger) as asking:
            return Told(settlement=await asking.settle(**attrs.asdict(options), wait=wait))

    level = log.logger.level
    log.setLevel(logging.WARNING)  # what is wrong with a report is said there
    try:
        return _settle(named, options, ask, as_json=as_json)
    finally:
        log.setLevel(level)


def settle_by_file(
    named: Secret, options: SettleOptions, report: ReportOnDisk, *, as_json: bool
) -> Exit:
    """Settle by a report that was downloaded, print what came of it, and return the exit code."""

    async def read(ledger: BaseLedger) -> Told:
        problem = None
        async with ReportSettling(ledger, **attrs.asdict(options)) as settling:
            try:
                await settling.read(
                    report.messages(),
                    since=_seconds(report.since),
                    until=_seconds(report.until),
                    made_at=_seconds(report.made_by),
                )
            except ReportError as error:
                problem = str(error)
            return Told(settlement=await settling.end(), problem=problem)

    return _settle(named, options, read, as_json=as_json)


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _settle(
    named: Secret,
    options: SettleOptions,
    step: Callable[[BaseLedger], Awaitable[Told]],
    *,
    as_json: bool,
) -> Exit:
    target = ledger_target(named)
    target.check()

    async def run() -> Told:
        async with target.to_write() as ledger:
            return await step(ledger)

    try:
        told = anyio.run(run)
    except Rejected as error:
        fail(f"Skycore refused the report with {error}", Exit.REFUSED)
    except (ConfigurationError, LedgerError) as error:
        fail(str(error))
    if as_json:
        emit({**facts(told.settlement), "problem": told.problem, "dry_run": options.is_dry_run})
    else:
        _print(told, target, options)
    return told.exit_code


def facts(settlement: Settlement) -> dict[str, Any]:
    """Return what came of it as names and values, for programs."""
    return {
        "sent": len(settlement.sent),
        "not_sent": len(settlement.not_sent),
        "in_doubt": len(settlement.open),
        "reasons": {reason.value: count for reason, count in _reasons(settlement)},
    }


def _reasons(settlement: Settlement) -> list[tuple[OpenReason, int]]:
    return Counter(doubt.reason for doubt in settlement.open).most_common()


def described(settlement: Settlement) -> Iterator[str]:
    """Say what came of it, in lines for people."""
    rows = (
        ("sent", len(settlement.sent), "the report lists them"),
        ("not sent", len(settlement.not_sent), "it provably lacks them: the next run sends them"),
        ("in doubt", len(settlement.open), "still" if settlement.open else ""),
    )
    for name, count, meaning in rows:
        if count or name == "in doubt":
            yield f"  {name:<14}{count:>12,}  {meaning}".rstrip()
    for reason, count in _reasons(settlement):
        yield f"  {'':<14}{count:>12,}  {reason.words}"


def _print(told: Told, target: LedgerTarget, options: SettleOptions) -> None:
    settlement = told.settlement
    doubts = len(settlement.sent) + len(settlement.not_sent) + len(settlement.open)
    if not doubts:
        say(f"{target.name}: nothing is in doubt, so no report is needed.")
        return
    say(f"{target.name}: {number_of(doubts, 'message')} in doubt")
    for line in described(settlement):
        say(line)
    if told.problem is not None:
        say(f"\n{told.problem[:1].upper()}{told.problem[1:]}; so it proves what it lists alone.")
    if options.is_dry_run:
        say("\nThis was a dry run: nothing was written.", err=True)
