"""The result of settling, in lines for people and as values for programs.

Rule: no line tells the user to claim of a report what may be untrue: a wrong claim has messages
sent again, and billed twice.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ...ledger.report_evidence import OpenReason, ReportPeriod
from ...ledger.report_values import SavedReport, Settlement

# Doubts that another report than the one at hand may end.
_OF_OTHERS: Final = frozenset({OpenReason.NOT_COVERED, OpenReason.NO_REPORT, OpenReason.TOO_SOON})
_MOST: Final = 5  # periods that are shown


def facts(settlement: Settlement) -> dict[str, Any]:
    """Return the result as names and values, for programs."""
    times = _not_before(settlement)
    return {
        "sent": len(settlement.sent),
        "not_sent": len(settlement.not_sent),
        "in_doubt": len(settlement.open),
        "reasons": {reason.value: count for reason, count in _reasons(settlement)},
        "not_before": {reason.value: at for reason, at in times.items()},
        "problem": "; ".join(settlement.problems) or None,
        "saved": settlement.saved,
    }


def _reasons(settlement: Settlement) -> list[tuple[OpenReason, int]]:
    return Counter(doubt.reason for doubt in settlement.open).most_common()


def _not_before(settlement: Settlement) -> dict[OpenReason, datetime]:
    """Return when all doubts that are open for a reason can be ended, as far as it is time."""
    found: dict[OpenReason, datetime] = {}
    for doubt in settlement.open:
        if doubt.not_before is not None:
            known = found.get(doubt.reason, doubt.not_before)
            found[doubt.reason] = max(known, doubt.not_before)
    return found


def described(
    settlement: Settlement, *, is_dry_run: bool = False, run: str = "the next run"
) -> Iterator[str]:
    """Return the result in lines; `run` names the run that sends what was not sent."""
    sends = "would send" if is_dry_run else "sends"
    rows = (
        ("sent", len(settlement.sent), "the report lists them"),
        (
            "not sent",
            len(settlement.not_sent),
            f"it provably lacks them: {run} {sends} what was not refused",
        ),
        ("in doubt", len(settlement.open), "still" if settlement.open else ""),
    )
    for name, count, meaning in rows:
        would = "would be " if is_dry_run and name != "in doubt" else ""
        if count or name == "in doubt":
            yield f"  {would + name:<17}{count:>9,}  {meaning}".rstrip()
    times = _not_before(settlement)
    for reason, count in _reasons(settlement):
        yield f"  {'':<17}{count:>9,}  {reason.words}"
        if reason in times:
            yield f"  {'':<26}  settle again at {_time(times[reason])} or later"


def report_words(
    settlement: Settlement, would_prove: tuple[ReportPeriod, int] | None, ledger: str
) -> Iterator[str]:
    """Return lines about the reports themselves."""
    read = "What was read of it was sent; what" if settlement.sent else "What"
    for problem in settlement.problems:
        yield (
            f"{problem[:1].upper()}{problem[1:]}. {read} it does not list may have been sent all"
            " the same."
        )
    reasons = dict(_reasons(settlement))
    if OpenReason.NO_WITNESS_AFTER in reasons:
        send = shlex.join(["skycore", "send", "NUMBER", "TEXT", "--ledger", ledger])
        yield (
            "Where nothing more is sent with this ledger, one message to a number of your own is"
            f" enough, at its price: `{send}`, and then settle again."
        )
    if OpenReason.ASKED_TOO_OFTEN in reasons:
        yield (
            "A time that takes several look-ups is asked for from its beginning each time. If this"
            " comes again, let one command wait for all of them, as with `--wait 7200`."
        )
    if not settlement.sent and OpenReason.WITNESS_MISSING in reasons:
        yield (
            "See that the report, or the API key, is of the account that these messages were sent"
            " with."
        )
    for saved in settlement.saved:
        yield from _saved_words(saved, ledger)
    if would_prove is not None:
        period, count = would_prove
        yield (
            f"A report shows only the time from its first message to its last, with five minutes"
            f" less at each end, as clocks differ. If you asked for this one for all of the time"
            f" from {_time(_utc(period.since))} to {_time(_utc(period.until, up=True))}, and"
            f" downloaded it at {_time(_utc(period.made_at, up=True))} or later, then these say"
            f" so, and it proves {count:,} more not sent:"
        )
        yield f"  {_options(period)}"
        yield (
            "Do not say so unless you know it: what was sent would be sent again, and billed"
            " twice."
        )


def needed_words(settlement: Settlement, periods: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Return lines about the times for which other reports have to be downloaded."""
    if not periods or _OF_OTHERS.isdisjoint(dict(_reasons(settlement))):
        return
    yield "To end them, download a report of all of this time, once it is over:"
    for since, until in periods[:_MOST]:
        yield f"  from {_time(_utc(since))} to {_time(_utc(until))}"
    if len(periods) > _MOST:
        yield f"  and {len(periods) - _MOST:,} more, of which it tells once these are read"


def period_words(period: ReportPeriod) -> dict[str, datetime]:
    """Return the period that a report needs, for programs."""
    return {
        "since": _utc(period.since),
        "until": _utc(period.until, up=True),
        "made": _utc(period.made_at, up=True),
    }


def _saved_words(saved: SavedReport, ledger: str) -> Iterator[str]:
    if not saved.is_complete:
        yield f"Saved as {saved.path}, not complete: it broke off."
        return
    yield f"Saved as {saved.path}, complete. To read it again:"
    command = shlex.join(["skycore", "settle", ledger, "--report", str(saved.path)])
    period = ReportPeriod(
        since=saved.since.timestamp(),
        until=saved.until.timestamp(),
        made_at=saved.made_at.timestamp(),
    )
    yield f"  {command} {_options(period, up=False)}"


def _options(period: ReportPeriod, *, up: bool = True) -> str:
    since, until = _utc(period.since), _utc(period.until, up=up)
    made = _utc(period.made_at, up=up)
    return f"--since {_iso(since)} --until {_iso(until)} --made {_iso(made)}"


def _utc(seconds: float, *, up: bool = False) -> datetime:
    whole = int(seconds // 1)
    return datetime.fromtimestamp(whole + (up and whole != seconds), UTC)


def _iso(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
