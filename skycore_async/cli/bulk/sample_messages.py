"""A sample of a bulk send: the texts of the first rows, sent to the user's own number.

Rules:

* The messages of a sample cost money like others: they are shown, and the user is asked.
* No ledger knows of them: a sample can be sent again and again, and changes nothing of the
  campaign.
* No sample goes to a number that has opted out, by the list or by the campaign's ledger.
* Where the account is refused, the user is still told what was accepted before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs

from ...client import SkycoreClient
from ...errors import ConfigurationError, InvalidMessage, LedgerError, SendingHalted
from ...ledger.opt_outs import OptOut
from ...ledger.sqlite.opt_out_list import OptOutCheck
from ...ledger.sqlite.read_only import looked_at
from ...messages import SMS, Accepted, Outcome, masked
from ...protocol.numbers import number
from ...protocol.segments import segments
from ...runtime.error_notes import cure_for
from ...runtime.secret import Secret
from ...sending.outcomes import meaning_of
from ..ui.confirm import confirm
from ..ui.numbers import number_reader_of
from ..ui.output import Exit, emit, fail, number_of, print_outcome, say
from .estimate import over_the_bound
from .lookup import entries_for
from .options import BulkOptions
from .recipients import Sheet
from .rows import MessageRow, RowReader


def first_messages(sheet: Sheet, reader: RowReader, count: int) -> list[MessageRow]:
    """Return the first `count` rows that are messages; fail where none is."""
    judged: Iterator[Any] = map(reader.read, sheet.rows())
    rows = (row for row in judged if isinstance(row, MessageRow))
    return list(itertools.islice(rows, count)) or fail(
        "nothing was sent: no row has a message to send"
    )


def send_sample(
    rows: Sequence[MessageRow], options: BulkOptions, api_key: Secret, is_opted_out: OptOutCheck
) -> Exit:
    """Send the texts of rows to the number of --to after a yes; return the exit code."""
    try:
        to = number(options.sample_to or "", number_reader_of(options.country))
    except InvalidMessage as error:
        fail(f"--to: {error}")
    if is_opted_out(to, _entries_for(to, options.known_ledger)):
        fail("nothing was sent: --to names a number that has opted out", Exit.NOT_SENT)
    cost = 0
    for row in rows:
        count = segments(row.message.text).count
        cost += count
        lines = f"line {row.row.line}: {row.message.text!r} ({number_of(count, 'segment')})"
        say(lines, err=options.as_json)
    if options.max_segments is not None and cost > options.max_segments:
        fail(over_the_bound(cost, options.max_segments))
    what = f"{number_of(len(rows), 'message')} of {number_of(cost, 'segment')} to {masked(to)}"
    if not options.yes:
        confirm(f"Send {what}?", otherwise="nothing was sent")
    messages = [attrs.evolve(row.message, to=to, key=None) for row in rows]
    try:
        outcomes, halted = anyio.run(_send, options, api_key, messages)
    except ConfigurationError as error:
        fail(str(error))
    return _account(outcomes, halted, of=len(messages), as_json=options.as_json)


def _entries_for(to: str, ledger: Path | None) -> Mapping[str, OptOut]:
    """Return what a number said to the ledger of the campaign, where there is one already."""

    async def ask(path: Path) -> Mapping[str, OptOut]:
        async with looked_at(path) as opened:
            return await entries_for(opened, [to])

    try:
        return {} if ledger is None else anyio.run(ask, ledger)
    except LedgerError as error:
        fail(f"nothing was sent: {error}")


async def _send(
    options: BulkOptions, api_key: Secret, messages: list[SMS]
) -> tuple[list[Outcome], SendingHalted | None]:
    """Return the outcomes, and the error that stopped the sending before the last, if any."""
    client = SkycoreClient(
        api_key=api_key.reveal(),
        base_url=options.base_url,
        rate=options.rate,
        transport=options.transport,
    )
    taken: list[Outcome] = []
    async with client, client.send_many(messages) as outcomes:
        try:
            async for outcome in outcomes:
                taken.append(outcome)  # noqa: PERF401 - kept where the sending halts
        except SendingHalted as error:
            return taken, error
    return taken, None


def _account(
    outcomes: Sequence[Outcome], halted: SendingHalted | None, *, of: int, as_json: bool
) -> Exit:
    accepted = sum(isinstance(outcome, Accepted) for outcome in outcomes)
    errors = [outcome.error for outcome in outcomes if not isinstance(outcome, Accepted)]
    doubts = sum(meaning_of(error).in_doubt for error in errors)
    not_begun = of - len(outcomes)  # messages that have no outcome at all

    def show() -> None:
        if as_json:
            said = [str(error) for error in errors]
            emit({"sample": True, "accepted": accepted, "errors": said, "not_begun": not_begun})
            return
        say(f"{'accepted':<13} {accepted:,}")
        for error in errors:
            say(f"{'failed':<13} {error}")
        if not_begun:
            say(f"{'not begun':<13} {not_begun:,}")

    is_printed = print_outcome(show, known=f"of the sample, {accepted:,} were accepted")
    if halted is None:
        words = (
            "That was the sample, which no ledger knows of: the same command without --sample and"
            " --to sends the whole."
        )
    else:
        words = f"Stopped: {halted}. {cure_for(type(halted.__cause__)) or ''}"
    say(words.rstrip(), err=True)
    if doubts:
        return Exit.IN_DOUBT
    if halted is not None:
        return Exit.REFUSED
    return Exit.NOT_ALL_WELL if errors or not is_printed else Exit.DONE
