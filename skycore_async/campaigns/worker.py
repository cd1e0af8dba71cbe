"""A worker: takes chunks, sends their messages, and records what is left.  Runs on asyncio.

Strategy: a worker has two slots, each with a chunk, so that messages are in flight while one
chunk ends and the next begins.  Beside them it runs the queue's periodic job, the sweep, which
one worker does in each period: it puts the chunks that are due soon into the queue.  Each chunk
is a `send_many` over a view of the one client, whose ledger begins messages only while this
worker has the chunk and its campaign runs.

Rules:

* The fence in the ledger decides.  What the worker itself knows, a lost lease or a request to
  stop, only saves vain tries.
* A refusal of the account, the request, a sender or a campaign reference halts the campaign, with
  the reason.  So do many messages in a row in doubt, counted over all workers: see `outage`.
* Messages that could not be sent are due again after a pause; a worker that gets nothing through
  at all waits longer each time.
* Messages outside of their hours are not begun; they are due again when the first may be sent.
* The worker waits for a lost database; the ledger writes the outcomes of the meantime once it is
  back.  A database that refuses this worker ends it, with `error`.
* `stop` starts no more messages, waits for those in flight, and gives the chunks back.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Concatenate, Final, ParamSpec, TypeVar

import anyio
import attrs

from ..client import SkycoreClient
from ..errors import ConfigurationError, LedgerError, SendingHalted
from ..ledger.commands import Fence
from ..ledger.postgres.fenced_ledger import FencedLedger
from ..ledger.postgres.ledger import PostgresLedger
from ..messages import Outcome
from ..postgres.schema import Connection
from ..runtime.event_loop import now
from ..runtime.logs import log
from ..sending.bulk import BulkSend
from ..sending.hours import Clock, utc_now
from .announced_waits import AnnouncedWaits, waits
from .campaigns import halt, halted, report_doubts
from .chunks import Chunk, are_left, due, finish, renew, take
from .counters import ChunkWork, WorkerCounters
from .hours import WaitingMessages
from .outage import DoubtStreak
from .queue import ChunkQueue, Ticket
from .retrying_connection import RetryingConnection

P = ParamSpec("P")
T = TypeVar("T")

_SLOTS: Final = 2
_BEATS: Final = 3  # renewals in a lease
_MOST: Final = 1000  # chunks in the queue after a sweep, enough for many machines until the next
_DOUBLINGS: Final = 30  # of a pause, which may go on for days, and is a number of seconds
_AHEAD: Final = 2  # sweeps, so that what is due before the next one is in the queue


@attrs.frozen(kw_only=True)
class WorkerTiming:
    """A worker's times, in seconds.

    A worker has a chunk for `lease`; every `sweep` one of the workers puts the chunks due soon
    into the queue, and each worker looks there every `poll` for a chunk whose time has come.
    Messages not sent are due again after `retry`; a worker that gets nothing through waits up to
    `longest`.  An idle worker finds out every `look` what campaigns wait for.
    """

    lease: float = 30.0
    sweep: float = 2.0
    poll: float = 0.25
    retry: float = 5.0
    longest: float = 60.0
    look: float = 5.0

    def pause_after(self, misses: int) -> float:
        """Return how long to wait once nothing got through so many times in a row."""
        return min(self.longest, self.retry * 2.0 ** min(misses - 1, _DOUBLINGS))


class Worker:
    """Send the campaigns of a database, together with any number of other workers.

    `client` records in `ledger`, and its limits say how many messages are in flight.  With
    `drain` the worker ends when no running campaign has anything left.  `announce` is called
    with news for the operator, a line at a time.  `error` is what ended the worker if the
    database refused it.
    """

    def __init__(
        self,
        *,
        connection: RetryingConnection,
        queue: ChunkQueue,
        ledger: PostgresLedger,
        client: SkycoreClient,
        timing: WorkerTiming | None = None,
        drain: bool = False,
        announce: Callable[[str], None] = lambda _: None,
        clock: Clock = utc_now,
    ) -> None:
        self.counters = WorkerCounters()
        self.error: ConfigurationError | None = None
        self._connection = connection
        self._queue = queue
        self._ledger = ledger
        self._client = client
        self._timing = timing or WorkerTiming()
        self._drain = drain
        self._announce = announce
        self._clock = clock
        slots = min(_SLOTS, client.max_in_flight)
        self._shares = [(client.max_in_flight + n) // slots for n in range(slots)]
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._stopping = anyio.Event()
        self._ended = anyio.Event()  # of all slots
        self._at_work: set[BulkSend] = set()
        self._misses = 0
        self._streaks: dict[str, DoubtStreak] = {}  # by campaign
        self._announced_halts: set[str] = set()
        self._announced_waits, self._next_look = AnnouncedWaits(), 0.0
        self._without_zone: set[str] = set()  # campaigns
        self._campaigns: set[str] = set()  # that it worked on

    @property
    def unwritten(self) -> int:
        """How many outcomes are not in the database yet, or not at all after the ledger closed."""
        return len(self._ledger._unwritten)  # noqa: SLF001 - kept from users

    async def run(self) -> None:
        """Work until stopped or refused, or until nothing is left."""
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._tend)
            async with anyio.create_task_group() as slots:
                for share in self._shares:
                    slots.start_soon(self._work, share)
            self._ended.set()
        if self.error is None:
            await self._see_what_is_halted()

    async def _see_what_is_halted(self) -> None:
        """Note which of the campaigns that it worked on were halted by other workers."""
        with suppress(LedgerError):
            for name, found in (await self._run(halted, self._campaigns)).items():
                self.counters.halted.setdefault(name, found.reason or "")
                self.counters.is_outage = self.counters.is_outage or found.is_outage

    def stop(self) -> None:
        """Start no more messages; `run` ends when those in flight have ended."""
        self._stopping.set()
        self._connection.stop_retrying()
        for bulk in self._at_work:
            bulk.stop()

    async def _run(
        self, step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a step over the database, and end the worker if the database refuses it."""
        try:
            return await self._connection.run(step, *args, **kwargs)
        except ConfigurationError as error:
            self._refused(error)
            raise LedgerError(str(error)) from error

    def _refused(self, error: ConfigurationError) -> None:
        self.error = self.error or error
        self.stop()

    # The queue.

    async def _tend(self) -> None:
        # Ended instead of cancelled: cancelling a query costs a connection and a warning.
        while not self._ended.is_set():
            with self._tolerant():
                await self._queue.tend(self._timing.sweep)
            with anyio.move_on_after(self._timing.sweep):
                await self._ended.wait()

    async def _work(self, share: int) -> None:
        """Do one ticket of the queue at a time until the worker ends."""
        while not self._stopping.is_set():
            ticket: Ticket | None = None
            with self._tolerant():
                ticket = await self._queue.fetch()
            if ticket is None:
                is_last = self._drain and not await self._are_left()
                with self._tolerant():
                    await self._say_what_is_waited_for(at_once=is_last)
                if is_last:
                    return
                await self._rest(self._timing.poll)
                continue
            # The next sweep finds chunks that are not done, and this one when its lease has ended.
            with self._tolerant():
                await self._do(ticket, share)

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Log a failure of the queue or database and go on; end the worker if they refuse it."""
        try:
            yield
        except ConfigurationError as error:
            self._refused(error)
        except LedgerError as error:
            log.warning("%s", error)

    async def _do(self, ticket: Ticket, share: int) -> None:
        if ticket.chunk is None:
            ahead = _AHEAD * self._timing.sweep
            await self._queue.offer(await self._run(due, _MOST, within=ahead))
        else:
            await self._look_at(ticket.chunk, share)

    async def _are_left(self) -> bool:
        if self.unwritten:
            return True  # a late outcome may make its chunk due again
        try:
            return await self._run(are_left)
        except LedgerError:
            return True

    async def _say_what_is_waited_for(self, *, at_once: bool) -> None:
        if now() < self._next_look and not at_once:
            return
        self._next_look = now() + self._timing.look
        for line in self._announced_waits.new(await self._run(waits, told=self._announced_halts)):
            self._announce(line)

    async def _rest(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._stopping.wait()

    # A chunk.

    async def _look_at(self, id_: int, share: int) -> None:
        chunk = await self._run(take, id_, worker=self._name, lease=self._timing.lease)
        if chunk is None:
            return
        self._campaigns.add(chunk.campaign)
        self._announced_halts.discard(chunk.campaign)  # it runs: a halt from here on is new
        async with self._sending(chunk, share) as work:
            try:
                async for outcome in work.bulk:
                    work.record(outcome)
                    await self._count_doubts(work, outcome)
            except SendingHalted as error:
                work.error = error
        await self._close(work)

    @asynccontextmanager
    async def _sending(self, chunk: Chunk, share: int) -> AsyncIterator[ChunkWork]:
        fence = Fence(chunk=chunk.id, epoch=chunk.epoch)
        fenced = FencedLedger(self._ledger, fence, doubts_to_resend=chunk.doubts_to_resend)
        view = self._client._over(fenced, max_in_flight=share)  # noqa: SLF001 - kept from users
        waiting = WaitingMessages(chunk.hours, self._clock)
        sending = view.send_many(waiting.ready(chunk.messages()))
        if not chunk.hours.is_whole_day:
            sending._begin_where(waiting.check)  # noqa: SLF001 - kept from users
        async with sending as bulk:
            work = ChunkWork(chunk, bulk, waiting, self.counters)
            self._at_work.add(bulk)
            if self._stopping.is_set():
                bulk.stop()
            try:
                async with anyio.create_task_group() as beside:
                    beside.start_soon(self._keep, work)
                    yield work
                    beside.cancel_scope.cancel()
            finally:
                self._at_work.discard(bulk)

    async def _keep(self, work: ChunkWork) -> None:
        """Renew the lease of a chunk while it is worked on."""
        while True:
            await anyio.sleep(self._timing.lease / _BEATS)
            try:
                kept = await self._run(renew, work.chunk, lease=self._timing.lease)
            except LedgerError:
                continue
            if not kept:
                work.is_lost = True
                work.bulk.stop()
                return

    async def _count_doubts(self, work: ChunkWork, outcome: Outcome) -> None:
        """Tell the campaign how many of its messages in a row are in doubt."""
        streak = self._streaks.setdefault(work.chunk.campaign, DoubtStreak())
        streak.add(outcome)
        if streak.is_due:
            await self._report_doubts(work, streak)

    async def _report_doubts(self, work: ChunkWork, streak: DoubtStreak) -> None:
        campaign = work.chunk.campaign
        try:
            found = await self._run(report_doubts, campaign, streak.report())
        except LedgerError as error:
            log.warning("%s", error)
            return
        if found is not None and found.state != "running":
            self._streaks.pop(campaign, None)  # the count starts anew after a resume
            work.bulk.stop()
            self.counters.is_outage = self.counters.is_outage or found.is_outage
            if found.state == "halted":
                self._halted(campaign, found.reason or "", is_new=found.is_halted_now)

    def _halted(self, campaign: str, reason: str, *, is_new: bool) -> None:
        self.counters.halted[campaign] = reason
        if campaign in self._announced_halts and not is_new:
            return  # announced by the other slot
        self._announced_halts.add(campaign)
        self._announce(f"campaign {campaign} is halted: {reason}")

    async def _close(self, work: ChunkWork) -> None:
        """Finish a chunk: record what is left of it, and halt its campaign if need be."""
        chunk = work.chunk
        if work.is_refused:
            reason = str(work.error)
            is_new = await self._run(halt, chunk.campaign, reason)
            self._halted(chunk.campaign, reason, is_new=is_new)
        streak = self._streaks.get(chunk.campaign)
        if streak is not None and streak.has_report:
            await self._report_doubts(work, streak)
        self._say_who_has_no_zone(work)
        is_given_back = work.error is not None or self._stopping.is_set()
        pause = 0.0 if is_given_back else work.pause(self._timing.retry)
        left = await self._run(
            finish, chunk, left_out=work.left_out, pause=pause, put_off=work.put_off
        )
        if not left and not work.is_lost and work.error is None:
            self.counters.chunks += 1
        self._misses = self._misses + 1 if work.stuck.in_a_row and not work.got_through else 0
        if self._misses and not is_given_back:
            self._announce("nothing gets through: waiting")
            await self._rest(self._timing.pause_after(self._misses))

    def _say_who_has_no_zone(self, work: ChunkWork) -> None:
        campaign, count = work.chunk.campaign, work.waiting.without_zone()
        if count and campaign not in self._without_zone:
            self._without_zone.add(campaign)
            self._announce(
                f"campaign {campaign}: numbers have no time zone that is known here, {count:,} in"
                " a chunk, and are not sent to: load it again and name one that counts for these,"
                f" as --between {work.chunk.hours.between} --tz America/New_York"
            )
