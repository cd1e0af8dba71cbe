"""What `skycore status` does: ask a ledger, and print what it knows.

Rules:

* A ledger that does not exist is an error, and is not created.  A ledger that another process has
  open can be read.
* A number is masked wherever it stands, also in a key and in Skycore's ERRORINFO,
  unless --show-numbers is given.
* A list is printed while it is read: a ledger may have a million messages.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import anyio

from ...codes import API_ERRORS
from ...errors import LedgerError
from ...ledger.base import BaseLedger
from ...ledger.list_commands import ListLines
from ...ledger.list_rows import MessageLine
from ...ledger.model import (
    BY_POSTBACK,
    BY_REPORT,
    ENDED_MEANWHILE,
    Delivery,
    MessageState,
    Summary,
)
from ...ledger.paging import pages_of
from ...messages import masked
from ...notifications import Notification
from ...runtime.secret import Secret
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.masking import mask_in
from ..ui.notifications import NotificationRow, masked_facts, masked_row, row_of
from ..ui.output import Exit, emit, fail, number_of, plain, printable, say, say_lines
from ..ui.tables import console, show_table
from ..ui.times import iso_time, time_of

T = TypeVar("T")

_PROVEN: Final = "proven not sent: Skycore's own report of what it sent lacks it"
# The names of a row's fields in JSON.
NAMES: Final = [{"from_": "from", "started_at": "began"}.get(n, n) for n in MessageLine._fields]
_JSON_ROW: Final = "{" + ", ".join(f"{json.dumps(name)}: %s" for name in NAMES) + "}"
_json_of_text: Final = json.JSONEncoder().encode


def show_status(
    named: Secret,
    *,
    key: str | None = None,
    tracking_id: str | None = None,
    state: str | None = None,
    show_numbers: bool = False,
    as_json: bool = False,
) -> None:
    """Print the counts of the ledger `named`, or the messages of a state, or one message."""
    target = ledger_target(named)
    printer = _Printer(show_numbers=show_numbers, as_json=as_json)

    if state is not None:
        _ask(target, lambda ledger: _list(ledger, MessageState(state), printer))
    elif key is None and tracking_id is None:
        printer.summary(_ask(target, lambda ledger: ledger.summary()), target)
    else:
        delivery = _ask(target, lambda ledger: ledger.delivery(tracking_id, key=key))
        if delivery is None:
            name = f"key {key!r}" if tracking_id is None else f"tracking id {tracking_id!r}"
            fail(f"{target.name} has no message with the {name}", Exit.NOT_ALL_WELL)
        printer.message(delivery)


def show_summary(summary: Summary, target: LedgerTarget) -> None:
    """Print the counts of a ledger, which were read before."""
    _Printer(show_numbers=False, as_json=False).summary(summary, target)


def _ask(target: LedgerTarget, question: Callable[[BaseLedger], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with target.to_read() as ledger:
            return await question(ledger)

    try:
        return anyio.run(ask)
    except LedgerError as error:
        fail(str(error))


async def _list(ledger: BaseLedger, state: MessageState, printer: _Printer) -> None:
    is_any = False
    async for page in pages_of(ledger, lambda after: ListLines(state=state, after=after)):
        if page.rows:
            is_any = True
            printer.lines(page.rows)
    if not is_any:
        say(f"No message is {state.replace('_', ' ')}.", err=True)


class _Printer:
    """Prints for people or programs, with or without phone numbers."""

    def __init__(self, *, show_numbers: bool, as_json: bool) -> None:
        self._show_numbers = show_numbers
        self._as_json = as_json

    def summary(self, summary: Summary, target: LedgerTarget) -> None:
        """Print the counts, and the progress of campaigns where the ledger can have any."""
        campaigns = target.campaigns()
        if self._as_json:
            states = {state: summary.states.get(state, 0) for state in MessageState}
            further = {} if campaigns is None else {"campaigns": campaigns}
            emit({"total": summary.total, **plain(summary), "states": states, **further})
            return
        if campaigns is not None:
            from ..ui.campaigns import show_campaigns  # noqa: PLC0415 - the extra `postgres`

            show_campaigns(campaigns)
            say()
        say(f"{target.name}: {number_of(summary.total, 'message')}")
        for heading, rows in _tables_of(summary).items():
            if rows:
                say(f"\n{heading}")
            for name, count, meaning in rows:
                say(f"  {name:<14}{count:>12,}  {meaning}".rstrip())
        if summary.states.get(MessageState.IN_DOUBT):
            say("\nWhat may have been sent is never sent again by itself. To list or end it:")
            say(f"  {shlex.join(['skycore', 'status', target.argument, '--state', 'in_doubt'])}")
            say(f"  {shlex.join(['skycore', 'settle', target.argument])}")

    def lines(self, rows: Sequence[MessageLine]) -> None:
        """Print several messages at once, which takes half the time of one by one."""
        line = json_line_of if self._as_json else _line_of
        say_lines(line(self._facts_of(row)) for row in rows)

    def message(self, delivery: Delivery) -> None:
        """Print everything about one message."""
        facts = self._facts(delivery)
        if self._as_json:
            emit({**facts, "events": [self._event(event) for event in delivery.events]})
            return
        shown = {**facts, "began": time_of(delivery.began), "tags": ", ".join(delivery.tags)}
        for name, value in shown.items():
            if value is not None and value != "":
                say(f"{name.replace('_', ' '):<13}{printable(str(value))}")
        if delivery.events:
            say()
            self._show_events(delivery.events)
        else:
            say("\nNo notification came for it.")

    def _show_events(self, events: tuple[Notification, ...]) -> None:
        headings, row = NotificationRow.headings(), row_of if self._show_numbers else masked_row
        rows = [dict(zip(headings, row(event).cells(), strict=True)) for event in events]
        # The message's own number and tracking id are printed above.
        columns = [name for name in headings if name not in {"number", "tracking id"}]
        show_table(console(), columns, [[row[name] for name in columns] for row in rows])

    def _facts_of(self, row: MessageLine) -> dict[str, Any]:
        facts = dict(zip(NAMES, row, strict=True))
        facts["began"] = iso_time(datetime.fromtimestamp(row.started_at, UTC))
        return self._shown(facts)

    def _facts(self, delivery: Delivery) -> dict[str, Any]:
        facts: dict[str, Any] = plain(delivery)
        del facts["events"]
        return self._shown(facts)

    def _shown(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Complete the facts of a message in place, and mask its number."""
        if facts["state"] == MessageState.IN_DOUBT:
            facts["info"] = facts["info"] or ENDED_MEANWHILE
        if facts["state"] == MessageState.NOT_SENT and facts["settled_by"] == BY_REPORT:
            facts["info"] = facts["info"] or _PROVEN
        if not self._show_numbers:
            number = facts["to"]
            facts["key"] = mask_in(facts["key"], number)
            facts["info"] = facts["info"] and mask_in(facts["info"], number)
            facts["to"] = masked(number)
        return facts

    def _event(self, event: Notification) -> dict[str, Any]:
        if self._show_numbers:
            return {"kind": row_of(event).kind, **plain(event)}
        return masked_facts(event)


def json_line_of(facts: Mapping[str, Any]) -> str:
    """Return a row as `json.dumps` would, in a third of its time."""
    return _JSON_ROW % tuple(
        [
            _json_of_text(value) if type(value) is str else "null" if value is None else str(value)
            for value in facts.values()
        ]
    )


def _line_of(facts: Mapping[str, Any]) -> str:
    why = " ".join(filter(None, (facts["reason"], facts["code"], facts["info"])))
    line = f"{facts['to']:<15}  {facts['tracking_id'] or '-':<24}  {facts['key']}  {why}"
    return printable(line).rstrip()


def _not_sent_words(summary: Summary) -> str:
    since = f"; {summary.sent_since:,} of them went out since" if summary.sent_since else ""
    return f"which it proved not sent{since}"


def _tables_of(summary: Summary) -> Mapping[str, list[tuple[str, int, str]]]:
    """Return the counts as rows of tables: a name, a count, and what the name means."""
    meanings = {code: error.meaning for code, error in API_ERRORS.items()}
    states = [(state.value, summary.states.get(state, 0), "") for state in MessageState]
    most_first = sorted(summary.codes.items(), key=lambda pair: (-pair[1], pair[0]))
    reasons = sorted(summary.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    by_report = summary.settled.get(BY_REPORT, 0)
    ended = [
        (BY_POSTBACK, summary.settled.get(BY_POSTBACK, 0), "which told that they had been sent"),
        ("report: sent", by_report - summary.proven_not_sent, "which Skycore's own report lists"),
        ("report: not", summary.proven_not_sent, _not_sent_words(summary)),
    ]
    others = [
        ("unplaced", summary.unplaced, "notifications of messages it does not know"),
        ("opted out", summary.opted_out, "numbers that may not be sent to"),
    ]
    return {
        "state": [row for row in states if row[1]],
        "refused, by code": [
            (code or "no code", count, meanings.get(code, "")) for code, count in most_first
        ],
        "failed, by reason": [(str(reason), count, "") for reason, count in reasons],
        "in doubt before, and ended by": [row for row in ended if row[1]],
        "besides": [row for row in others if row[1]],
    }
