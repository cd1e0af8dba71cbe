"""A bulk send while it runs: rows in, outcomes counted, signals heard.

Strategy: one loop over `send_many` that counts in a `Tally`, and two tasks beside
it, one that hears signals and one that shows how far it is.  What the ledger
remembers is asked for many rows at a time, and goes past `send_many`: a run that
goes on skips what is done as fast as the file can be read.

Rules:

* The first signal starts nothing more, and waits for what is in flight.  The
  second ends the process where it stands: the intents are on the disk, and what
  was in flight is in doubt when the ledger is opened again.
* What the ledger remembers is told apart from what is sent now.  A row that it
  does not remember, or remembers otherwise, is `send_many`'s to judge.
* When nothing gets through any more, it stops by itself: what was not sent is
  sent when the same command is run again.  An address that answers everything
  with what is no answer would otherwise bring the whole file into doubt.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import anyio
import attrs
import click

from ...client import SkycoreClient
from ...codes import Verdict
from ...errors import LedgerError, SendingHalted, SkycoreError
from ...ledger.model import MessageState, SendIntent, Submission
from ...ledger.rules import content_of, outcome_of
from ...ledger.sqlite.ledger import SQLiteLedger
from ...messages import SMS, Failed, Outcome
from ..ui.output import console
from ..ui.signals import STOPPING, Signals
from .progress import End, Tally, show_live, show_plain
from .recipients import Rejects, Row, Sheet
from .rows import MessageRow, RejectedRow, RowReader

_AT_A_TIME: Final = 500  # rows that the ledger is asked for in one step


@attrs.frozen(kw_only=True)
class SendOptions:
    """How to send: what the client takes, and how to tell of it."""

    client: dict[str, Any] = attrs.field(repr=False)
    in_flight: int = 50
    fast: bool = False
    resend_in_doubt: bool = False
    live: bool = False


async def _known(
    ledger: SQLiteLedger, drafts: Sequence[MessageRow], *, resend_in_doubt: bool
) -> dict[str, Submission]:
    """Return what came of drafts before, by their keys; those to be judged are not in it."""
    intents = [_intent(draft) for draft in drafts]
    try:
        return await ledger.lookup_many(intents, resend_in_doubt=resend_in_doubt)
    except LedgerError:
        return {}  # each message is looked up by itself then, and fails by itself


def _intent(draft: MessageRow) -> SendIntent:
    message = draft.resolved
    return SendIntent(
        key=draft.sms.key or "",
        content=content_of(message),
        to=message.to,
        from_=message.from_,
        started_at=0.0,  # it is asked for and not begun
    )


async def held(path: Path) -> tuple[int, int]:
    """Return how many messages a ledger has, and how many of them are in doubt."""
    async with SQLiteLedger(path) as ledger:
        summary = await ledger.summary()
    return summary.total, summary.states.get(MessageState.IN_DOUBT, 0)


def _client(ledger: SQLiteLedger, settings: SendOptions) -> SkycoreClient:
    given = {**settings.client, "max_in_flight": settings.in_flight, "ledger": ledger}
    if settings.fast:
        from ...transports.aiohttp import AiohttpTransport

        given["transport"] = AiohttpTransport()
    return SkycoreClient(**given)


class Run:
    """Send the rows of `sheet` that are messages, write the others to `rejects`, count in `tally`.

    Raises SheetError where the sheet cannot be read to its end, and LedgerError
    where the ledger cannot be opened.
    """

    def __init__(self, sheet: Sheet, drafter: RowReader, rejects: Rejects, tally: Tally) -> None:
        self._sheet = sheet
        self._drafter = drafter
        self._rejects = rejects
        self._tally = tally
        self._rows: dict[str, Row] = {}  # of the messages that are under way
        self._error: Exception | None = None
        self._signals = Signals()
        self._halted: str | None = None

    async def send(self, ledger: Path, settings: SendOptions) -> End:
        """Send until all is sent, or it is stopped."""
        show = show_live if settings.live else show_plain
        word = settings.resend_in_doubt
        async with (
            SQLiteLedger(ledger) as opened,
            _client(opened, settings) as client,
            anyio.create_task_group() as beside,
        ):
            messages = self._messages(opened, resend_in_doubt=word)
            async with client.send_many(messages, resend_in_doubt=word) as self._outcomes:
                stop = functools.partial(self._stop, is_shown=settings.live)
                beside.start_soon(
                    functools.partial(self._signals.hear, stop=stop, leave=self._say_what_is_left)
                )
                beside.start_soon(show, self._tally)
                await self._take_all()
            beside.cancel_scope.cancel()
        return self._end()

    async def _messages(
        self, ledger: SQLiteLedger, *, resend_in_doubt: bool
    ) -> AsyncGenerator[SMS, None]:
        with closing(self._drafts()) as drafts:
            while some := list(itertools.islice(drafts, _AT_A_TIME)):
                known = await _known(ledger, some, resend_in_doubt=resend_in_doubt)
                for draft in some:
                    key = draft.sms.key or ""
                    if submission := known.get(key):
                        outcome = outcome_of(draft.sms, draft.resolved.to, submission)
                        self._count(draft.row, outcome)
                    else:
                        self._rows[key] = draft.row
                        yield draft.sms

    def _drafts(self) -> Generator[MessageRow, None, None]:
        for row in self._sheet.rows():
            judged = self._drafter.draft(row)
            if isinstance(judged, RejectedRow):
                self._rejects.write(row, judged.reason)
            else:
                yield judged

    async def _take_all(self) -> None:
        try:
            async for outcome in self._outcomes:
                self._take(outcome)
        except Exception as error:  # noqa: BLE001 - it is told once all is counted
            self._error = error

    def _take(self, outcome: Outcome) -> None:
        self._count(self._rows.pop(outcome.message.key or ""), outcome)
        stuck = self._tally.stuck
        if stuck.is_stuck and isinstance(outcome, Failed) and not self._halted:
            self._halted = (
                f"of {stuck.limit} messages in a row none got through for certain: {outcome.error}"
            )
            self._outcomes.stop()

    def _count(self, row: Row, outcome: Outcome) -> None:
        reason = self._tally.take(outcome)
        if reason is not None:
            self._rejects.write(row, reason)

    def _stop(self, *, is_shown: bool) -> None:
        self._outcomes.stop()
        self._tally.is_stopping = True
        if not is_shown:  # the live picture says it, and would paint over any other line
            click.echo(f"\n{STOPPING}", err=True)

    def _say_what_is_left(self) -> None:
        self._rejects.close()
        if sys.stderr.isatty():
            console(stderr=True).show_cursor()
        click.echo(
            f"\nLeft at once: of what was in flight, {len(self._rows):,} at most are in doubt. Run"
            " the same command to go on.",
            err=True,
        )

    def _end(self) -> End:
        error = self._error
        if error is not None and not isinstance(error, SendingHalted):
            raise error
        cause = None if error is None else error.__cause__
        is_refused = isinstance(cause, SkycoreError) and cause.verdict is Verdict.ACCOUNT_REFUSED
        return End(
            interrupted=self._signals.count > 0 and self._tally.left > 0,
            halted=self._halted if error is None else str(error),
            is_refused=is_refused,
        )
