"""The texts of the first rows, sent to one's own number, to be looked at before the whole.

Rules:

* They are messages like others, which cost money: it is shown what they are, and asked.
* No ledger knows of them: they can be sent again and again, and change nothing of the campaign.
* To a number that is on the list of who may not be sent to, none goes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import attrs

from ...client import SkycoreClient
from ...errors import ConfigurationError, InvalidMessage
from ...ledger.sqlite.opt_out_list import OptOutCheck
from ...messages import SMS, Accepted, Outcome, masked
from ...protocol.numbers import number
from ...protocol.segments import segments
from ...runtime.secret import Secret
from ...sending.outcomes import meaning_of
from ..ui.confirm import confirm
from ..ui.numbers import number_reader_of
from ..ui.output import Exit, emit, fail, number_of, print_outcome, say
from .options import BulkOptions
from .recipients import Sheet
from .rows import MessageRow, RowReader


def first_messages(sheet: Sheet, reader: RowReader, count: int) -> list[MessageRow]:
    """Return the first rows that are messages, or fail where none is."""
    judged: Iterator[Any] = map(reader.read, sheet.rows())
    rows = (row for row in judged if isinstance(row, MessageRow))
    return list(itertools.islice(rows, count)) or fail(
        "nothing was sent: no row has a message to send"
    )


def send_sample(
    rows: Sequence[MessageRow], options: BulkOptions, api_key: Secret, is_opted_out: OptOutCheck
) -> Exit:
    """Send the texts of rows to the number that was given for it, once that is confirmed."""
    try:
        to = number(options.sample_to or "", number_reader_of(options.country))
    except InvalidMessage as error:
        fail(f"--to: {error}")
    if is_opted_out(to, {}):
        fail("nothing was sent: --to names a number that has opted out", Exit.NOT_SENT)
    cost = 0
    for row in rows:
        count = segments(row.message.text).count
        cost += count
        lines = f"line {row.row.line}: {row.message.text!r} ({number_of(count, 'segment')})"
        say(lines, err=options.as_json)
    what = f"{number_of(len(rows), 'message')} of {number_of(cost, 'segment')} to {masked(to)}"
    if not options.yes:
        confirm(f"Send {what}?", otherwise="nothing was sent")
    messages = [attrs.evolve(row.message, to=to, key=None) for row in rows]
    try:
        outcomes = anyio.run(_send, options, api_key, messages)
    except ConfigurationError as error:
        fail(str(error))
    return _account(outcomes, as_json=options.as_json)


async def _send(options: BulkOptions, api_key: Secret, messages: list[SMS]) -> list[Outcome]:
    client = SkycoreClient(
        api_key=api_key.reveal(),
        base_url=options.base_url,
        rate=options.rate,
        transport=options.transport,
    )
    async with client, client.send_many(messages) as outcomes:
        return [outcome async for outcome in outcomes]


def _account(outcomes: Sequence[Outcome], *, as_json: bool) -> Exit:
    accepted = sum(isinstance(outcome, Accepted) for outcome in outcomes)
    errors = [outcome.error for outcome in outcomes if not isinstance(outcome, Accepted)]
    doubts = sum(meaning_of(error).in_doubt for error in errors)

    def show() -> None:
        if as_json:
            said = [str(error) for error in errors]
            emit({"sample": True, "accepted": accepted, "errors": said})
            return
        say(f"{'accepted':<13} {accepted:,}")
        for error in errors:
            say(f"{'failed':<13} {error}")

    is_printed = print_outcome(show, known=f"of the sample, {accepted:,} were accepted")
    say(
        "That was the sample, which no ledger knows of: the same command without --sample and"
        " --to sends the whole.",
        err=True,
    )
    if doubts:
        return Exit.IN_DOUBT
    return Exit.NOT_ALL_WELL if errors or not is_printed else Exit.DONE
