"""`skycore status`: what a ledger knows, of all its messages or of one.

Rules:

* A ledger that does not exist is an error, and is not created.  One that another
  process has open is read all the same.
* A number is masked wherever it stands, also in a key and in Skycore's ERRORINFO,
  unless --show-numbers is given.
* A list is printed as it is read: a ledger may have a million messages.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ..ui.dsn import ENVIRONMENT
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.output import Exit, console, emit, fail, json_option, number_of, plain

if TYPE_CHECKING:
    from ...ledger.model import Delivery, Ledger, Summary
    from ...notifications import Notification

T = TypeVar("T")

# What `MessageState` has; the ledger is not loaded for the help.
STATES: Final = (
    "sending",
    "not_sent",
    "rejected",
    "in_doubt",
    "accepted",
    "sent",
    "delivered",
    "failed",
)


@click.command()
@click.argument("file", metavar="FILE|DSN", envvar=ENVIRONMENT)
@click.option("--key", metavar="KEY", help="Show all of the message with this key.")
@click.option("--tracking-id", metavar="ID", help="Show all of the message with this tracking id.")
@click.option(
    "--state",
    type=click.Choice(STATES),
    metavar="STATE",
    help=f"List the messages in this state: {', '.join(STATES)}.",
)
@click.option("--show-numbers", is_flag=True, help="Do not mask phone numbers.")
@json_option
def status(
    *,
    file: str,
    key: str | None,
    tracking_id: str | None,
    state: str | None,
    show_numbers: bool,
    as_json: bool,
) -> None:
    """Show what became of messages, from a ledger.

    FILE is a ledger, as --ledger names it elsewhere, also while a `bulk` or a
    `listen` is using it, or DSN a PostgreSQL database that workers share, for
    which SKYCORE_DSN stands in.  Without an option, counts the messages; of a
    database, it also shows how far campaigns are.  Numbers are masked but for
    their last four digits, unless --show-numbers is given.  With --json, --state
    prints a line of JSON for each message.

    \b
    Examples:
      skycore status promo.db
      skycore status promo.db --state in_doubt --json
      skycore status promo.db --key order-17
      skycore status postgresql://me@db/sms

    Exit codes: 0 done, 1 no such message, 2 wrong usage, or the ledger cannot
    be opened.
    """  # noqa: D301 - \b is click's mark for lines that it does not wrap
    if sum(name is not None for name in (key, tracking_id, state)) > 1:
        raise click.UsageError("Give one of --key, --tracking-id and --state.")
    target = ledger_target(file)
    show = _Shown(show_numbers=show_numbers, as_json=as_json)
    if state is not None:
        _ask(target, lambda ledger: _list(ledger, state, show))
    elif key is None and tracking_id is None:
        show.summary(_ask(target, lambda ledger: ledger.summary()), target)
    else:
        delivery = _ask(target, lambda ledger: ledger.delivery(tracking_id, key=key))
        if delivery is None:
            named = f"key {key!r}" if tracking_id is None else f"tracking id {tracking_id!r}"
            fail(f"{target.name} has no message with the {named}", Exit.NOT_ALL_WELL)
        show.story(delivery)


def _ask(target: LedgerTarget, question: Callable[[Ledger], Awaitable[T]]) -> T:
    import anyio

    from ...errors import LedgerError

    async def ask() -> T:
        async with target.to_read() as ledger:
            return await question(ledger)

    try:
        return anyio.run(ask)
    except LedgerError as error:
        fail(str(error))


async def _list(ledger: Ledger, state: str, show: _Shown) -> None:
    from ...ledger.model import MessageState

    async for delivery in ledger.deliveries(MessageState(state)):
        show.line(delivery)


class _Shown:
    """How answers are shown: to people or programs, with numbers or without."""

    def __init__(self, *, show_numbers: bool, as_json: bool) -> None:
        self._show_numbers = show_numbers
        self._as_json = as_json

    def summary(self, summary: Summary, target: LedgerTarget) -> None:
        """Show the counts, and how far campaigns are where there can be any."""
        campaigns = target.campaigns()
        further = {} if campaigns is None else {"campaigns": campaigns}
        if self._as_json:
            states = {state: summary.states.get(_state(state), 0) for state in STATES}
            emit({"total": summary.total, **plain(summary), "states": states, **further})
            return
        if campaigns is not None:
            from ..ui.campaigns import show_campaigns

            show_campaigns(campaigns)
            click.echo()
        click.echo(f"{target.name}: {number_of(summary.total, 'message')}")
        for heading, rows in tables_of(summary).items():
            if rows:
                click.echo(f"\n{heading}")
            for name, count, meaning in rows:
                click.echo(f"  {name:<14}{count:>12,}  {meaning}".rstrip())
        if summary.states.get(_state("in_doubt")):
            click.echo("\nWhat may have been sent is never sent again by itself. To list it:")
            command = ["skycore", "status", target.argument, "--state", "in_doubt"]
            click.echo(f"  {shlex.join(command)}")

    def line(self, delivery: Delivery) -> None:
        """Show one message of many."""
        facts = self._facts(delivery)
        if self._as_json:
            emit({**facts, "events": len(delivery.events)})
            return
        why = " ".join(filter(None, (facts["reason"], facts["code"], facts["info"])))
        line = f"{facts['to']:<15}  {facts['tracking_id'] or '-':<24}  {facts['key']}  {why}"
        click.echo(_printable(line).rstrip())

    def story(self, delivery: Delivery) -> None:
        """Show all of one message."""
        from ..ui.notifications import NotificationRow, row_of
        from ..ui.tables import show_table, time_of

        facts = self._facts(delivery)
        if self._as_json:
            emit({**facts, "events": [self._event(event) for event in delivery.events]})
            return
        for name, value in {**facts, "began": time_of(delivery.began)}.items():
            if value is not None:
                click.echo(f"{name.replace('_', ' '):<13}{_printable(str(value))}")
        if not delivery.events:
            click.echo("\nNo notification came for it.")
            return
        click.echo()
        # The message's own number and tracking id stand above.
        columns = [
            name for name in NotificationRow.headings() if name not in {"number", "tracking id"}
        ]
        rows = [
            dict(zip(NotificationRow.headings(), row_of(e).cells(), strict=True))
            for e in delivery.events
        ]
        show_table(console(), columns, [[row[name] for name in columns] for row in rows])

    def _facts(self, delivery: Delivery) -> dict[str, Any]:
        from ...ledger.model import ENDED_MEANWHILE

        facts = plain(delivery)
        del facts["events"]
        if delivery.state == "in_doubt":
            facts["info"] = facts["info"] or ENDED_MEANWHILE
        if self._show_numbers:
            return dict(facts)
        hidden = _mask(delivery.to)
        masked_in = {"key", "to", "info"}
        return {
            name: value.replace(delivery.to, hidden) if name in masked_in and value else value
            for name, value in facts.items()
        }

    def _event(self, event: Notification) -> dict[str, Any]:
        from ..ui.notifications import row_of
        from .listen import masked_facts

        if self._show_numbers:
            return {"kind": row_of(event).kind, **plain(event)}
        return masked_facts(event)


def tables_of(summary: Summary) -> Mapping[str, list[tuple[str, int, str]]]:
    """Return the counts as tables: a name, how many, and what the name means."""
    from ...codes import API_ERRORS

    meanings = {code: error.meaning for code, error in API_ERRORS.items()}
    states = [(state, summary.states.get(_state(state), 0), "") for state in STATES]
    most_first = sorted(summary.codes.items(), key=lambda pair: (-pair[1], pair[0]))
    reasons = sorted(summary.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
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
        "besides": [row for row in others if row[1]],
    }


def _state(name: str) -> Any:
    from ...ledger.model import MessageState

    return MessageState(name)


def _mask(number: str) -> str:
    from ...messages import masked

    return masked(number)


def _printable(text: str) -> str:
    from ..ui.tables import printable

    return printable(text)
