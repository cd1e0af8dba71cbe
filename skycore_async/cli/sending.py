"""A bulk send while it runs: rows in, outcomes counted, signals heard.

Strategy: one loop over `send_many` that counts in a `Tally`, and two tasks beside
it, one that hears signals and one that shows how far it is.

Rules:

* The first signal starts nothing more, and waits for what is in flight.  The
  second ends the process where it stands: the intents are on the disk, and what
  was in flight is in doubt when the ledger is opened again.
* What the ledger remembers is told apart from what is sent now.
* When nothing gets through any more, it stops by itself: what was not sent is
  sent when the same command is run again.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import anyio
import attrs
import click

from ..client import SkycoreClient
from ..errors import Rejected, SendingHalted
from ..ledger.base import Intent, MessageState, Submission
from ..ledger.sqlite import SQLiteLedger
from ..messages import SMS, Failed, Outcome
from .drafts import Drafter, Refused
from .output import Exit, console
from .progress import End, Tally, show_live, show_plain
from .recipients import Rejects, Row, Sheet

_STUCK: Final = 200  # messages not sent, one after another, that mean there is no way


@attrs.frozen(kw_only=True)
class Settings:
    """How to send: what the client takes, and how to tell of it."""

    client: dict[str, Any] = attrs.field(repr=False)
    in_flight: int = 50
    fast: bool = False
    resend_in_doubt: bool = False
    live: bool = False


class _Recalling(SQLiteLedger):
    """A ledger that notes which outcomes it gave from memory, until they are asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.recalled: set[str] = set()

    async def known(self, intent: Intent, *, resend_in_doubt: bool = False) -> Submission | None:
        return self._note(intent, await super().known(intent, resend_in_doubt=resend_in_doubt))

    async def begin(
        self, intent: Intent, *, resend_in_doubt: bool = False, ignore_opt_out: bool = False
    ) -> Submission | None:
        submission = await super().begin(
            intent, resend_in_doubt=resend_in_doubt, ignore_opt_out=ignore_opt_out
        )
        return self._note(intent, submission)

    def _note(self, intent: Intent, submission: Submission | None) -> Submission | None:
        if submission is not None:
            self.recalled.add(intent.key)
        return submission

    def has_recalled(self, key: str) -> bool:
        was_there = key in self.recalled
        self.recalled.discard(key)
        return was_there


async def held(path: Path) -> tuple[int, int]:
    """Give how many messages a ledger has, and how many of them are in doubt."""
    async with SQLiteLedger(path) as ledger:
        summary = await ledger.summary()
    return summary.total, summary.states.get(MessageState.IN_DOUBT, 0)


def _client(ledger: SQLiteLedger, settings: Settings) -> SkycoreClient:
    given = {**settings.client, "max_in_flight": settings.in_flight, "ledger": ledger}
    if settings.fast:
        from ..transports.aiohttp import AiohttpTransport

        given["transport"] = AiohttpTransport(max_in_flight=settings.in_flight)
    return SkycoreClient(**given)


class Run:
    """Send the rows of `sheet` that are messages, write the others to `rejects`, count in `tally`.

    Raises SheetError where the sheet cannot be read to its end, and LedgerError
    where the ledger cannot be opened.
    """

    def __init__(self, sheet: Sheet, drafter: Drafter, rejects: Rejects, tally: Tally) -> None:
        self._sheet = sheet
        self._drafter = drafter
        self._rejects = rejects
        self._tally = tally
        self._rows: dict[str, Row] = {}  # of the messages that are under way
        self._error: Exception | None = None
        self._signals = 0
        self._halted: str | None = None

    async def send(self, ledger: Path, settings: Settings) -> End:
        """Send until all is sent, or it is stopped."""
        show = show_live if settings.live else show_plain
        with closing(self._messages()) as messages:
            async with (
                _Recalling(ledger) as recalling,
                _client(recalling, settings) as client,
                anyio.create_task_group() as beside,
            ):
                word = settings.resend_in_doubt
                async with client.send_many(messages, resend_in_doubt=word) as self._outcomes:
                    beside.start_soon(self._hear)
                    beside.start_soon(show, self._tally)
                    await self._take_all(recalling)
                beside.cancel_scope.cancel()
        return self._end()

    def _messages(self) -> Generator[SMS, None, None]:
        for row in self._sheet.rows():
            judged = self._drafter.draft(row)
            if isinstance(judged, Refused):
                self._rejects.write(row, judged.reason)
            else:
                self._rows[judged.sms.key or ""] = row
                yield judged.sms

    async def _take_all(self, ledger: _Recalling) -> None:
        try:
            async for outcome in self._outcomes:
                self._take(outcome, ledger)
        except Exception as error:  # noqa: BLE001 - it is told once all is counted
            self._error = error

    def _take(self, outcome: Outcome, ledger: _Recalling) -> None:
        key = outcome.message.key or ""
        row = self._rows.pop(key)
        reason = self._tally.take(outcome, is_recalled=ledger.has_recalled(key))
        if reason is not None:
            self._rejects.write(row, reason)
        if self._tally.stuck >= _STUCK and isinstance(outcome, Failed) and not self._halted:
            self._halted = f"{_STUCK} messages in a row could not be sent: {outcome.error}"
            self._outcomes.stop()

    async def _hear(self) -> None:
        with (
            suppress(NotImplementedError),  # on Windows, where Ctrl-C ends the loop
            anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        ):
            async for _ in signals:
                self._signals += 1
                if self._signals > 1:
                    self._leave_now()
                self._outcomes.stop()
                click.echo("\nStopping: waiting for what is in flight.", err=True)

    def _leave_now(self) -> None:
        self._rejects.close()
        if sys.stderr.isatty():
            console(stderr=True).show_cursor()
        click.echo(
            f"\nLeft at once: of what was in flight, {len(self._rows):,} at most are in doubt. Run"
            " the same command to go on.",
            err=True,
        )
        # Every way that ends the loop in order waits for the exchanges in flight.
        os._exit(Exit.INTERRUPTED)

    def _end(self) -> End:
        error = self._error
        if error is not None and not isinstance(error, SendingHalted):
            raise error
        is_refused = error is not None and isinstance(error.__cause__, Rejected)
        return End(
            interrupted=self._signals > 0 and self._tally.left > 0,
            halted=self._halted if error is None else str(error),
            is_refused=is_refused,
        )
