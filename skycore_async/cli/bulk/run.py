"""A bulk send while it runs: rows in, outcomes counted, signals heard.

Strategy: one loop takes outcomes and counts them in a `BulkCounters`.  Two tasks run beside the
loop: one hears signals, and one shows the progress.  Rows are looked up in the ledger many at a
time, and a row with a recorded outcome is not sent; so a run that goes on skips what is done as
fast as the ledger can be read.  Where recipients have hours there are several loops: each sends
the messages that may begin, and the run waits between them until somebody's hours begin.

Rules:

* After the first signal nothing more is started, and the run waits for the messages in flight.
  The second signal ends the process at once: the intents are on the disk, and the messages in
  flight are in doubt when the ledger is opened again.
* Outcomes that the ledger had before are counted apart from those of this run.
* When nothing gets through any more, the run stops by itself, and the same command sends the rest.
  Otherwise an address that gives no clear answer would bring the whole file into doubt.
* A recipient's hours are checked when the row is read, and again when the message is about to
  begin, which may be later.
"""

from __future__ import annotations

import functools
import itertools
import math
import sqlite3
import sys
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio

from ...client import SkycoreClient
from ...codes import Verdict
from ...errors import LedgerError, Rejected, SendingHalted
from ...ledger.model import SendIntent
from ...ledger.opt_outs import may_be_sent_to
from ...ledger.sqlite.ledger import SQLiteLedger
from ...ledger.sqlite.opt_out_sharing import Telling
from ...messages import Failed, Outcome
from ...runtime.error_notes import cure_for
from ...sending.prepare import ResolvedMessage
from ..ui.beside import Beside
from ..ui.marks import IN_DOUBT
from ..ui.opt_out_list import sharing
from ..ui.output import announce, say
from ..ui.signals import STOPPING, Signals
from ..ui.times import time_of
from .awaited_receipts import count_awaited, wait_for_receipts
from .confirmed_ledger import confirmed, note_regularly
from .judged_rows import JudgedRows
from .lookup import entries_for, outcomes, reconsider_doubts
from .preflight import AT_A_TIME, reject
from .progress import BulkCounters, End, how_to_go_on, show_plain, why_stopped
from .recipients import Row
from .rejects import Rejects
from .rows import JudgedRow, MessageRow, RejectedRow
from .send_options import SendOptions
from .settle_first import settle_first
from .waiting import PutOff, running, wait_until

if TYPE_CHECKING:
    from .listening import Listening

_STOPS: Final = (LedgerError, OSError, sqlite3.Error)  # a run ends with these
_NO_ZONE: Final = "the time zone of its number is not known: name one that counts then with --tz"


def _display(*, is_live: bool) -> Callable[[BulkCounters], Coroutine[Any, Any, None]]:
    """Return the task that shows the progress."""
    if not is_live:
        return show_plain
    from .live import show_live  # noqa: PLC0415 - what draws takes memory

    return show_live


def _receiving(
    ledger: SQLiteLedger, telling: Telling | None, listening: Listening | None, *, name: str
) -> AbstractAsyncContextManager[None]:
    if listening is None:
        return nullcontext()
    return listening.receiving(ledger, telling, name=name)


class Run:
    """Send the rows that are messages, write the others to `rejects`, count in `counters`.

    `revived` is how many of the messages in `counters.total` a file of rejects calls in doubt: the
    ledger knew them as not sent when the file was checked, and may know better by now.
    `before_each` is called before each message.
    Raises LedgerError where the ledger cannot be opened.
    """

    def __init__(
        self,
        rows: JudgedRows,
        rejects: Rejects,
        counters: BulkCounters,
        *,
        revived: int = 0,
        before_each: Callable[[], object] = lambda: None,
    ) -> None:
        self._before_each = before_each
        self._rows = rows
        self._rejects = rejects
        self._counters = counters
        self._rest: Iterator[JudgedRow] | None = None  # the rows that were not looked up yet
        self._left = math.inf  # messages that this run may still send
        self._put_off = PutOff()
        self._under_way: dict[str, tuple[Row, int]] = {}  # by key; the line is where it was read
        self._error: Exception | None = None
        self._signals = Signals()
        self._halted: str | None = None
        self._revived = revived
        self._is_interrupted = False
        self._resends_once = False
        self._break_off: Callable[[], None] = lambda: None  # ends what the run waits for now
        self._end_waiting: Callable[[], None] | None = None

    async def send(self, path: Path, options: SendOptions) -> End:
        """Send until all is sent, or the run is stopped; return how it ended."""
        show = functools.partial(_display(is_live=options.live), self._counters)
        self._put_off = PutOff(options.hours, options.clock)
        self._left = math.inf if options.limit is None else options.limit
        self._resends_once = options.resends_once
        with Beside(announce) as lines:
            async with (
                self._signals.heard(
                    first=functools.partial(self._stop, lines.give, is_shown=options.live),
                    second=functools.partial(
                        self._say_what_is_left, resend_in_doubt=options.resend_in_doubt
                    ),
                ),
                SQLiteLedger(path) as ledger,
                confirmed(ledger, options.known, options.note_last_turn, name=str(path)),
                sharing(ledger, options.opt_outs, name=options.ledger_name) as telling,
                _receiving(ledger, telling, options.listening, name=str(path)),
                options.client_over(ledger, self._counters.throttle) as client,
                anyio.create_task_group() as beside,
            ):
                if options.start is not None and options.start > options.clock():
                    words = f"waiting for the start, {time_of(options.start)}"
                    async with running(show):
                        await self._wait_for(options.start, words, options)
                if options.settle and not self._is_interrupted:
                    with anyio.CancelScope() as settling:
                        self._break_off = settling.cancel
                        await settle_first(client)
                beside.start_soon(show)
                beside.start_soon(note_regularly, ledger, options.note_last_turn)
                if options.listening is not None:
                    beside.start_soon(count_awaited, ledger, self._counters)
                await self._send_all(client, ledger, options)
                if options.listening is not None:
                    await self._wait_for_receipts(ledger, options.listening.seconds)
                beside.cancel_scope.cancel()
        return self._end()

    async def _send_all(
        self, client: SkycoreClient, ledger: SQLiteLedger, options: SendOptions
    ) -> None:
        """Send the messages that may begin, wait for the hours of the others, and so on."""
        resend = options.resend_in_doubt
        while not self._has_ended:
            messages = self._new_messages(ledger, resend_in_doubt=resend)
            outcomes = client._send_resolved(  # noqa: SLF001 - kept from users
                messages, resend_in_doubt=resend
            )
            if not options.hours.is_whole_day:
                outcomes._begin_where(self._put_off.check)  # noqa: SLF001 - kept from users
            async with outcomes as self._outcomes:
                self._break_off = outcomes.stop
                self._counters.in_flight = self._in_flight
                await self._take_all()
            opening = self._put_off.opening()
            if opening is None:
                break
            await self._wait_for(opening.at, opening.words, options)

    @property
    def _has_ended(self) -> bool:
        """Whether the run is stopped, and nothing more is to be sent."""
        return bool(self._is_interrupted or self._halted or self._error)

    async def _wait_for(self, time: datetime, words: str, options: SendOptions) -> None:
        """Wait until a time, or until the run is interrupted."""
        with anyio.CancelScope() as waiting:
            self._break_off = waiting.cancel
            if self._has_ended:
                return
            self._counters.waiting = words
            await wait_until(time, options.clock)
        self._counters.waiting = None

    async def _wait_for_receipts(self, ledger: SQLiteLedger, seconds: float) -> None:
        """Wait for the receipts of what was sent; not at all where the run was stopped."""
        if self._has_ended:
            seconds = 0

        def keep_end(end: Callable[[], None]) -> None:
            self._end_waiting = end

        await wait_for_receipts(ledger, self._counters, seconds=seconds, give_end=keep_end)

    async def _new_messages(
        self, ledger: SQLiteLedger, *, resend_in_doubt: bool
    ) -> AsyncGenerator[ResolvedMessage, None]:
        """Yield the messages that are to be sent, and count the recorded outcomes of the others.

        Rows that were put off come first, as soon as their hours have begun.
        """
        if self._rest is None:
            self._rest = iter(self._rows)
        while True:
            waited = self._rows.on_lines(self._put_off.take_open(AT_A_TIME))
            self._counters.put_off = self._put_off.count
            batch = waited or list(itertools.islice(self._rest, AT_A_TIME))
            if not batch:
                break
            current = await reconsider_doubts(ledger, batch)
            rejected = [row for row in current if isinstance(row, RejectedRow)]
            await self._reject(ledger, rejected)
            messages = [row for row in current if isinstance(row, MessageRow)]
            if waited:  # they were counted as messages when they were put off
                self._counters.total -= len(rejected)
            else:
                self._revive(len(messages) - sum(isinstance(row, MessageRow) for row in batch))
            found = await outcomes(
                ledger, messages, resend_in_doubt=resend_in_doubt, resends_once=self._resends_once
            )
            opted_out = await self._opted_out(ledger, messages)
            for message, (row, outcome) in zip(messages, found, strict=True):
                if not isinstance(outcome, SendIntent):
                    self._count(row.row, outcome)
                elif not waited and not self._left:
                    self._counters.held_back += 1
                else:
                    self._left -= not waited and row.message.to not in opted_out
                    line = message.row.line
                    if self._put_off.may_begin(row.message.to):
                        self._before_each()
                        self._under_way[outcome.key] = (row.row, line)
                        yield ResolvedMessage(message=row.message, content=outcome.content)
                    else:
                        self._put_off_row(line, row.message.to)
        self._counters.total -= max(0, self._revived)  # which are in doubt again, or were sent
        self._revived = 0

    async def _opted_out(
        self, ledger: SQLiteLedger, rows: Sequence[MessageRow]
    ) -> Collection[str]:
        """Return the numbers that have opted out, where the run has a limit.

        Nothing is sent to them, so they do not count for the limit.
        """
        if self._left == math.inf:
            return ()
        numbers = [row.message.to for row in rows]
        entries = await entries_for(ledger, numbers)
        return {number for number in numbers if not may_be_sent_to(number, entries)}

    def _in_flight(self) -> int:
        return self._outcomes._begun  # noqa: SLF001 - kept from users

    def _put_off_row(self, line: int, to: str) -> None:
        """Put a row off until its recipient's hours; where these are unknown, it is not sent."""
        if not self._put_off.add(line, to):
            self._counters.not_sent_now += 1
            self._counters.why_not_sent = _NO_ZONE
        self._counters.put_off = self._put_off.count

    def _revive(self, count: int) -> None:
        """Count messages that the ledger knows as not sent, and a file of rejects as in doubt."""
        self._counters.total += max(0, count - max(0, self._revived))
        self._revived -= count

    async def _reject(self, ledger: SQLiteLedger, rows: Sequence[RejectedRow]) -> None:
        """Write rows to the rejects, and count those that are in doubt."""
        reasons = await reject(ledger, rows, self._rejects)
        self._counters.left_in_doubt += sum(reason.startswith(IN_DOUBT) for reason in reasons)

    async def _take_all(self) -> None:
        try:
            async for outcome in self._outcomes:
                self._take(outcome)
        except Exception as error:  # noqa: BLE001 - raised at the end, once all is counted
            self._error = self._error or error

    def _take(self, outcome: Outcome) -> None:
        row, line = self._under_way.pop(outcome.message.key or "")
        if outcome.verdict is Verdict.PUT_OFF:  # its hours ended while it waited to begin
            self._put_off_row(line, outcome.message.to)
            return
        self._count(row, outcome)
        stuck = self._counters.stuck
        if stuck.is_stuck and isinstance(outcome, Failed) and not self._halted:
            self._halted = (
                f"of {stuck.limit} messages in a row none got through for certain: {outcome.error}"
            )
            self._outcomes.stop()

    def _count(self, row: Row, outcome: Outcome) -> None:
        reason = self._counters.take(outcome)
        if reason is not None and self._error is None:
            try:
                self._rejects.write(row, reason)
            except OSError as error:
                self._error = error  # raised at the end, once what is in flight is counted
                self._outcomes.stop()

    def _stop(self, announce_beside: Callable[[str], None], *, is_shown: bool) -> None:
        if self._end_waiting is not None:
            self._end_waiting()
            return
        self._is_interrupted = True
        self._counters.is_stopping = True
        self._break_off()
        if not is_shown:  # the live picture says it, and would paint over any other line
            announce_beside(f"\n{STOPPING}")

    def _say_what_is_left(self, *, resend_in_doubt: bool) -> None:
        self._rejects.close()
        if sys.stderr.isatty():
            from .live import show_cursor  # noqa: PLC0415 - only where there is a terminal

            show_cursor()
        say(
            f"\nLeft at once: of what was in flight, {len(self._under_way):,} at most are in"
            f" doubt. {how_to_go_on(resend_in_doubt=resend_in_doubt)}",
            err=True,
        )

    def _end(self) -> End:
        error = self._error
        # An error of the ledger or of a file is an end like others; any other is a fault.
        if error is not None and not isinstance(error, (SendingHalted, *_STOPS)):
            raise error
        cause = None if error is None else error.__cause__
        return End(
            interrupted=self._is_interrupted and self._counters.left > 0,
            halted=self._halted if error is None else why_stopped(error),
            cure=cure_for(type(cause)),
            is_refused=isinstance(cause, Rejected),
        )
