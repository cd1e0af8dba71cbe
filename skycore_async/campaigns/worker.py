"""A worker: takes chunks, sends their messages, and says what is left of them.  On asyncio.

Strategy: a worker has two slots, each with a chunk, so that something is in flight
between one chunk and the next; beside them it tends the queue.  Each chunk is a
`send_many` over a view of the one client, whose ledger begins messages only while
this worker has the chunk and its campaign runs.

Rules:

* The fence in the ledger decides.  What the worker knows by itself, a lease that
  was lost or a request to stop, only spares it trying.
* A refusal of the whole account halts the campaign, with the reason.  So do many
  messages in a row in doubt, counted over all workers: see `outage`.
* What could not be sent goes back, to be due again after a pause;
  a worker that gets nothing through at all waits longer each time.
* A database that is lost is waited for.  What was in flight is in the ledger's slots.
* `stop` starts nothing more, waits for what is in flight, and gives chunks back.
"""

from __future__ import annotations

import logging
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import attrs

from ..client import SkycoreClient
from ..codes import Verdict
from ..errors import LedgerError, SendingHalted, SkycoreError
from ..ledger.commands import Fence
from ..ledger.postgres.ledger import FencedLedger, PostgresLedger
from ..messages import Accepted, Outcome
from ..sending.bulk import BulkSend
from ..sending.outcomes import StuckCounter, meaning_of
from .campaigns import halt, report_doubts
from .chunks import Chunk, are_left, due, finish, renew, take
from .engine import Engine, EngineError, Ticket
from .outage import DoubtStreak
from .session import DatabaseSession

_log: Final = logging.getLogger("skycore_async")

_SLOTS: Final = 2
_BEATS: Final = 3  # renewals in a lease
_AHEAD: Final = 200  # chunks that are put into the queue at once
_STUCK: Final = 100  # messages in a row that do not get through, and mean that none would


@attrs.frozen(kw_only=True)
class WorkerTiming:
    """How long things take, in seconds.

    A chunk is its worker's for `lease`; every `sweep` what is due is put into the
    queue, which is looked at every `poll`.  What was not sent is due again after
    `retry`; a worker that gets nothing through waits up to `longest`.
    """

    lease: float = 30.0
    sweep: float = 2.0
    poll: float = 0.25
    retry: float = 5.0
    longest: float = 60.0


@attrs.define(kw_only=True)
class WorkerTally:
    """What a worker did: messages by what came of them, chunks done, campaigns halted."""

    accepted: int = 0
    in_doubt: int = 0
    not_sent: int = 0
    refused: Counter[str] = attrs.field(factory=Counter)
    chunks: int = 0
    halted: dict[str, str] = attrs.field(factory=dict)


@attrs.define
class _Work:
    """What is known of a chunk while its messages are sent."""

    chunk: Chunk
    bulk: BulkSend
    left_out: dict[str, str] = attrs.field(factory=dict)
    stuck: StuckCounter = attrs.field(factory=lambda: StuckCounter(_STUCK))
    got_through: bool = False
    is_lost: bool = False
    error: Exception | None = None

    def record(self, outcome: Outcome, tally: WorkerTally) -> None:
        """Take an outcome into account."""
        meaning = meaning_of(outcome)
        self.got_through = self.got_through or bool(meaning.gets_through)
        self.stuck.add(outcome)
        if self.stuck.is_stuck:
            self.bulk.stop()
        if isinstance(outcome, Accepted):
            tally.accepted += 1
            return
        error = outcome.error
        if error.verdict is Verdict.REFUSED_HERE:
            self.left_out[outcome.message.key or ""] = type(error).__name__
            tally.refused[type(error).__name__] += 1
        elif meaning.in_doubt:
            tally.in_doubt += 1
        elif meaning.is_final or error.verdict is Verdict.ACCOUNT_REFUSED:
            tally.refused[getattr(error, "code", None) or "no code"] += 1
        else:
            tally.not_sent += 1


class Worker:
    """Drain the campaigns of a database, with as many others as there are.

    `client` keeps `ledger`, and has as many messages in flight as it was made for.  With
    `drain` it ends when no running campaign has anything left.  `tell` is given what people
    should know, in lines.
    """

    def __init__(
        self,
        *,
        session: DatabaseSession,
        engine: Engine,
        ledger: PostgresLedger,
        client: SkycoreClient,
        timing: WorkerTiming | None = None,
        drain: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.tally = WorkerTally()
        self._session = session
        self._engine = engine
        self._ledger = ledger
        self._client = client
        self._timing = timing or WorkerTiming()
        self._drain = drain
        self._tell = tell
        slots = min(_SLOTS, client.max_in_flight)
        self._shares = [(client.max_in_flight + n) // slots for n in range(slots)]
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._stopping = anyio.Event()
        self._at_work: set[BulkSend] = set()
        self._misses = 0
        self._streaks: dict[str, DoubtStreak] = {}  # by campaign

    async def run(self) -> None:
        """Work until stopped, or until nothing is left."""
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._tend)
            async with anyio.create_task_group() as slots:
                for share in self._shares:
                    slots.start_soon(self._work, share)
            beside.cancel_scope.cancel()

    def stop(self) -> None:
        """Start nothing more; `run` ends when what is in flight has ended."""
        self._stopping.set()
        self._session.stop_retrying()
        for bulk in self._at_work:
            bulk.stop()

    # The queue.

    async def _tend(self) -> None:
        while True:
            try:
                await self._engine.tend()
                await self._engine.offer(await self._session.run(due, _AHEAD))
            except (EngineError, LedgerError) as error:
                _log.warning("%s", error)
            await anyio.sleep(self._timing.sweep * random.uniform(0.5, 1))

    async def _next(self) -> Ticket | None:
        try:
            return await self._engine.fetch()
        except EngineError as error:
            _log.warning("%s", error)
            return None

    async def _work(self, share: int) -> None:
        """Do what one slot does."""
        while not self._stopping.is_set():
            ticket = await self._next()
            if ticket is None:
                if self._drain and not await self._are_left():
                    return
                await self._rest(self._timing.poll)
                continue
            try:
                await self._look_at(ticket, share)
            except LedgerError as error:
                # The lease runs out by itself.
                _log.warning("%s", error)
            try:
                await self._engine.release(ticket)
            except EngineError as error:
                _log.info("%s", error)

    async def _are_left(self) -> bool:
        try:
            return await self._session.run(are_left)
        except LedgerError:
            return True

    async def _rest(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._stopping.wait()

    # A chunk.

    async def _look_at(self, ticket: Ticket, share: int) -> None:
        lease = self._timing.lease
        chunk = await self._session.run(take, ticket.chunk, holder=self._name, lease=lease)
        if chunk is None:
            return
        async with self._sending(chunk, share) as work:
            try:
                async for outcome in work.bulk:
                    work.record(outcome, self.tally)
                    await self._count_doubts(work, outcome)
            except SendingHalted as error:
                work.error = error.__cause__ if isinstance(error.__cause__, Exception) else error
        await self._close(work)

    @asynccontextmanager
    async def _sending(self, chunk: Chunk, share: int) -> AsyncIterator[_Work]:
        fenced = FencedLedger(self._ledger, Fence(chunk=chunk.id, epoch=chunk.epoch))
        view = self._client._over(fenced, max_in_flight=share)  # noqa: SLF001 - no caller's
        async with view.send_many(chunk.messages()) as bulk:
            work = _Work(chunk, bulk)
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

    async def _keep(self, work: _Work) -> None:
        """Renew the lease of a chunk while it is worked on."""
        while True:
            await anyio.sleep(self._timing.lease / _BEATS)
            try:
                kept = await self._session.run(renew, work.chunk, lease=self._timing.lease)
            except LedgerError:
                continue
            if not kept:
                work.is_lost = True
                work.bulk.stop()
                return

    async def _count_doubts(self, work: _Work, outcome: Outcome) -> None:
        """Tell the campaign how many of its messages in a row are in doubt."""
        streak = self._streaks.setdefault(work.chunk.campaign, DoubtStreak())
        streak.add(outcome)
        if streak.is_due:
            await self._report_doubts(work, streak)

    async def _report_doubts(self, work: _Work, streak: DoubtStreak) -> None:
        campaign = work.chunk.campaign
        try:
            found = await self._session.run(report_doubts, campaign, streak.report())
        except LedgerError as error:
            _log.warning("%s", error)
            return
        if found is not None and found.state != "running":
            self._streaks.pop(campaign, None)  # what comes after a resume counts anew
            work.bulk.stop()
            if found.state == "halted" and campaign not in self.tally.halted:
                self._halted(campaign, found.reason or "")

    def _halted(self, campaign: str, reason: str, *, said: str = "") -> None:
        self.tally.halted[campaign] = reason
        self._tell(f"campaign {campaign} is halted: {said}{reason}")

    async def _close(self, work: _Work) -> None:
        """Say what is left of a chunk, and what that means for the campaign and the worker."""
        chunk = work.chunk
        if _is_account_refused(work.error):
            reason = str(work.error)
            await self._session.run(halt, chunk.campaign, reason)
            self._halted(chunk.campaign, reason, said="the account was refused: ")
        streak = self._streaks.get(chunk.campaign)
        if streak is not None and streak.has_news:
            await self._report_doubts(work, streak)
        is_given_back = work.error is not None or self._stopping.is_set()
        pause = 0.0 if is_given_back else self._timing.retry
        left = await self._session.run(finish, chunk, left_out=work.left_out, pause=pause)
        if not left and not work.is_lost and work.error is None:
            self.tally.chunks += 1
        self._misses = self._misses + 1 if work.stuck.in_a_row and not work.got_through else 0
        if self._misses and not is_given_back:
            self._tell("nothing gets through: waiting")
            await self._rest(
                min(self._timing.longest, self._timing.retry * 2 ** (self._misses - 1))
            )


def _is_account_refused(error: Exception | None) -> bool:
    return isinstance(error, SkycoreError) and error.verdict is Verdict.ACCOUNT_REFUSED
