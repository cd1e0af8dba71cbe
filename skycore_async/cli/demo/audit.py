"""The audit of `skycore demo`: the simulator's bill against the ledger.  No I/O.

Rules:

* The bill is the truth.  Outside a simulation nobody has it in time.
* A message in doubt is neither lost nor wrong, but none may be left in doubt at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import attrs

from ...ledger.model import NOTHING_SENT, Delivery, MessageState

if TYPE_CHECKING:
    from rich.console import Console

_S: Final = MessageState
_WIDTH: Final = 25  # of the longest name in the audit


@attrs.define(kw_only=True)
class DoubtCounts:
    """How many messages were in doubt, before the postbacks and after them.

    `found_sent` and `found_not_sent` are those of which the sending report proved it.
    """

    before: int = 0
    after_postbacks: int = 0
    found_sent: int = 0
    found_not_sent: int = 0


@attrs.frozen(kw_only=True)
class DemoAudit:
    """What became of the messages, each of which went to a number of its own.

    `tried_again` were asked for more than once.  `duplicates` is how often one
    was billed again, `lost` are those without an outcome, or said to be taken
    and not billed.  `denied` were billed, and are said to be refused
    or not sent.  `in_doubt_before` had no answer, of which some were in doubt
    `after_postbacks`, and `after_report`; that showed others to be sent, or not.
    """

    messages: int
    billed: int
    refused: int
    not_sent: int
    tried_again: int
    duplicates: int
    lost: int
    denied: int
    in_doubt_before: int
    in_doubt_after_postbacks: int
    in_doubt_after_report: int
    found_sent: int
    found_not_sent: int

    @property
    def is_well(self) -> bool:
        """Whether nothing was billed twice, lost, recorded wrongly, or left in doubt."""
        return not (self.duplicates or self.lost or self.denied or self.in_doubt_after_report)


def judge(
    wanted: Iterable[str],
    known: Mapping[str, Delivery],
    *,
    billed: Mapping[str, int],
    asked: Mapping[str, int],
    in_doubt: DoubtCounts,
) -> DemoAudit:
    """Hold a ledger's deliveries against the bill.

    All go by the recipient's number: what was `wanted`, what the ledger has
    (`known`), how often each was `billed`, and how often it was `asked` for.
    """
    numbers = tuple(wanted)
    states = [(known[to].state if to in known else None, billed.get(to, 0)) for to in numbers]
    left = sum(state is _S.IN_DOUBT for state, _ in states)
    not_taken = [times for state, times in states if state in NOTHING_SENT]
    return DemoAudit(
        messages=len(numbers),
        billed=sum(billed.values()),
        refused=sum(state is _S.REJECTED for state, _ in states),
        not_sent=sum(state is _S.NOT_SENT for state, _ in states),
        tried_again=sum(times > 1 for times in asked.values()),
        duplicates=sum(times - 1 for times in billed.values() if times),
        lost=sum(_is_lost(state, times) for state, times in states),
        denied=sum(times > 0 for times in not_taken),
        in_doubt_before=in_doubt.before,
        in_doubt_after_postbacks=in_doubt.after_postbacks,
        in_doubt_after_report=left,
        found_sent=in_doubt.found_sent,
        found_not_sent=in_doubt.found_not_sent,
    )


def _is_lost(state: MessageState | None, times: int) -> bool:
    if state is None or state is _S.SENDING:
        return True
    return state not in NOTHING_SENT | {_S.IN_DOUBT} and not times


def show_audit(out: Console, audit: DemoAudit) -> None:
    """Print the audit, and what the sending report ended."""
    out.print("\n[bold]What Skycore's bill says to that:[/]\n")
    for name, count, meaning, is_wrong in _lines(audit):
        colour = "red" if is_wrong and count else "default"
        line = f"  {name:<{_WIDTH}} [{colour}]{count:>9,}[/]  {meaning}"
        out.print(line, soft_wrap=True)  # as it is: no word is cut where there is little room
    if audit.found_not_sent:
        out.print(
            f"\n{audit.found_not_sent:,} messages never reached Skycore: no postback can tell."
            " Its own report of what it sent proves that it does not have them, which made it safe"
            " to send them again: as `skycore settle` does, and the same bulk after it."
        )


def _lines(audit: DemoAudit) -> Iterator[tuple[str, int, str, bool]]:
    """Return each line as its name, its number, what it means, and whether it must be 0."""
    by_postbacks = audit.in_doubt_before - audit.in_doubt_after_postbacks
    by_report = f"it shows {audit.found_sent:,} sent, {audit.found_not_sent:,} not sent"
    yield "billed", audit.billed, f"of {audit.messages:,} messages", False
    yield "duplicates", audit.duplicates, "billed more than once", True
    yield "lost", audit.lost, "without an outcome, or never billed", True
    yield "denied", audit.denied, "billed, and recorded as refused or not sent", True
    yield "in doubt before settling", audit.in_doubt_before, "their answers were lost", False
    yield (
        "in doubt after postbacks",
        audit.in_doubt_after_postbacks,
        f"they settled {by_postbacks:,}",
        False,
    )
    yield "in doubt after the report", audit.in_doubt_after_report, by_report, True
    yield "tried again", audit.tried_again, "throttled, or proven not to be taken", False
