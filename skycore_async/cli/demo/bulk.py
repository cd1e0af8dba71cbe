"""The main part of `skycore demo`: thousands of messages into faults, and the end of the doubts.

Strategy: a ledger belongs to one event loop.  So opening it, sending, settling and reading the
result all run in one loop, that of the server which takes in the postbacks.  The main thread only
waits, until all is done or Ctrl-C is pressed.

Rules:

* Each message goes to a number of its own, so that the bill tells how often it was taken.
* "In doubt before settling" counts the messages whose outcome was a doubt, although postbacks
  settle many of them before the last message is sent.
* Postbacks settle first.  The sending report ends the doubts that are left; as in the provider's
  documentation, it is not well-formed XML.  Then the same messages are sent once more, which sends
  only those that the report proved not sent.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread
import attrs

from ...client import SkycoreClient
from ...errors import SkycoreError
from ...ledger.model import Delivery, MessageState, Summary
from ...ledger.sqlite.ledger import SQLiteLedger
from ...messages import SMS, Failed
from ...notifications import Notification
from ...receiving.receiver import PostbackReceiver
from ...runtime.extras import missing
from ...simulator import (
    ACCEPTED_AND_DELIVERED,
    API_KEY,
    BY_LAST_DIGITS,
    SHORT_CODE,
    ReportForm,
    Reports,
    Simulator,
)
from ...simulator.asgi_thread import ServerThread
from ..bulk.live import show_live
from ..bulk.progress import BulkCounters
from ..report.data import ReportData
from ..report.reading import read_report
from .audit import DemoAudit, DoubtCounts, judge

try:
    from starlette.applications import Starlette
    from starlette.routing import Mount
except ImportError as error:
    raise missing("server", error) from error

T = TypeVar("T")

# What the last four digits of a number ask the simulator for; see its table.
_FAILED: Final = ("1001", "1002", "1003", "1009")
_ODD_POSTBACKS: Final = ("1004", "1005", "1006", "1007", "1008", "1010")
_REFUSED: Final = ("0110", "0114", "0628", "0715")
_LOST_AND_TAKEN: Final = ("2002", "2006", "2009", "2010", "2012", "2013", "2015", "2016", "2017")
_LOST_AND_NOT_TAKEN: Final = ("2001", "2005", "2008", "2011")
FAULTS: Final = (*_FAILED, *_ODD_POSTBACKS, *_REFUSED, *_LOST_AND_TAKEN, *_LOST_AND_NOT_TAKEN)

_EVERY: Final = 5  # messages, of which one is sent into a fault
_ORDINARY: Final = "4888"  # ends a number at which all goes well
_THROTTLES: Final = 2  # of the last digits' 2007, on the way
_PATIENCE: Final = 20.0  # seconds for all postbacks to arrive; they take about one
_LOOK_EVERY: Final = 0.25  # seconds
_GRACE: Final = 5.0  # seconds to end in order when interrupted


def messages(count: int) -> Iterator[SMS]:
    """Make messages to different numbers, each with a key."""
    for n in range(count):
        fault = FAULTS[n // _EVERY % len(FAULTS)] if n % _EVERY == 0 else _ORDINARY
        yield SMS(to=f"1555{n:05}{fault}", text=f"Hello number {n}", key=f"demo:{n}")


@attrs.frozen(kw_only=True)
class Settled:
    """What came of the messages: the audit, and what a report says."""

    audit: DemoAudit
    report: ReportData
    summary: Summary


def send_and_settle(path: Path, count: int, *, live: bool) -> Settled:
    """Send over the ledger at `path`, wait for the postbacks, and judge; `live` shows it.

    Raises LedgerError where the ledger cannot be opened, and SendingHalted where
    it cannot be written any more.
    """
    ledger, progress = SQLiteLedger(path), _DemoProgress(total=count)
    served = _Served(PostbackReceiver(ledger=ledger, on_notification=progress.count_postback))
    with (
        ServerThread(served.app) as server,
        Simulator(
            postback_url=f"{server.url}/postback",
            bundle_postbacks=True,
            reports=Reports(form=ReportForm(well_formed=False), mixed=True),
        ) as skycore,
    ):
        return served.run(_DemoBulk(ledger, skycore, progress, live=live).run)


class _Served:
    """A receiver in an application, with work of ours in the event loop that serves it."""

    def __init__(self, receiver: PostbackReceiver) -> None:
        self.app = Starlette(routes=[Mount("/", receiver)], lifespan=self._lifespan)
        self._loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        yield

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run work to its end, and return its result; an interruption cancels it first."""
        assert self._loop is not None, "it is served"  # noqa: S101 - for the type checkers
        ended = threading.Event()

        async def run() -> T:
            try:
                return await work()
            finally:
                ended.set()

        running = asyncio.run_coroutine_threadsafe(run(), self._loop)
        try:
            return running.result()
        except KeyboardInterrupt:
            running.cancel()
            ended.wait(_GRACE)
            raise


@attrs.define(kw_only=True)
class _DemoProgress(BulkCounters):
    """The progress, with the postbacks that came and the doubts that they settled."""

    postbacks: int = 0
    settled: int = 0

    def count_postback(self, _: Notification) -> None:
        """Count a notification."""
        self.postbacks += 1

    def parts(self) -> Iterator[str]:
        """Say how far it is."""
        yield from super().parts()
        yield f"postbacks {self.postbacks:,}"
        if self.settled:
            yield f"settled {self.settled:,}"


class _DemoBulk:
    """The work in the one event loop."""

    def __init__(
        self, ledger: SQLiteLedger, skycore: Simulator, progress: _DemoProgress, *, live: bool
    ) -> None:
        self._ledger = ledger
        self._skycore = skycore
        self._progress = progress
        self._live = live
        self._in_doubt = DoubtCounts()

    async def run(self) -> Settled:
        """Send, wait for the postbacks, read the report, send the rest, and judge."""
        async with self._ledger:
            await self._send_and_settle()
            return await self._judged()

    async def _send_and_settle(self) -> None:
        error: SkycoreError | None = None
        async with anyio.create_task_group() as beside:
            if self._live:
                beside.start_soon(self._watch)
                beside.start_soon(show_live, self._progress)
            try:
                await self._send()
                await self._wait_for_postbacks()
                await self._read_report()
            except SkycoreError as failed:
                error = failed  # raised here, it would come in a group
            beside.cancel_scope.cancel()
        if error is not None:
            raise error

    async def _wait_for_postbacks(self) -> None:
        with suppress(TimeoutError):  # what is missing then shows in the audit
            await anyio.to_thread.run_sync(
                self._skycore.wait_for_postbacks, _PATIENCE, abandon_on_cancel=True
            )
        await self._look()

    async def _read_report(self) -> None:
        """Settle the doubts that are left, and send the same messages once more."""
        self._in_doubt.after_postbacks = await self._count_in_doubt()
        async with self._client() as client:
            # The provider here lists at once what it took.
            settlement = await client.settle(after=0)
            self._in_doubt.found_sent = len(settlement.sent)
            self._in_doubt.found_not_sent = len(settlement.not_sent)
            self._skycore.script(*[ACCEPTED_AND_DELIVERED] * len(settlement.not_sent))
            async with client.send_many(messages(self._progress.total)) as outcomes:
                async for _ in outcomes:
                    pass
        await self._wait_for_postbacks()

    def _client(self) -> SkycoreClient:
        return SkycoreClient(
            api_key=API_KEY, from_=SHORT_CODE, base_url=self._skycore.url, ledger=self._ledger
        )

    async def _send(self) -> None:
        *others, last = messages(self._progress.total)
        async with self._client() as client:
            await self._send_part(client, others)
            # Begun when all others have ended: the report lists it, and so that time.
            await self._send_part(client, [last])

    async def _send_part(self, client: SkycoreClient, part: Sequence[SMS]) -> None:
        throttled_at = self._progress.total // 3
        async with client.send_many(part) as outcomes:
            async for outcome in outcomes:
                self._progress.take(outcome)
                if isinstance(outcome, Failed) and outcome.error.may_have_been_sent:
                    self._in_doubt.before += 1
                if self._progress.done == throttled_at:
                    self._skycore.script(*[BY_LAST_DIGITS["2007"]] * _THROTTLES)

    async def _watch(self) -> None:
        while True:
            await self._look()
            await anyio.sleep(_LOOK_EVERY)

    async def _look(self) -> None:
        found, left = self._progress.in_doubt, await self._count_in_doubt()
        # A doubt is in the ledger before it is counted, and a count that shrinks would alarm.
        self._progress.settled = max(self._progress.settled, found - left)

    async def _count_in_doubt(self) -> int:
        return (await self._ledger.summary()).states.get(MessageState.IN_DOUBT, 0)

    async def _judged(self) -> Settled:
        known: dict[str, Delivery] = {}
        async for delivery in self._ledger.deliveries():
            known[delivery.to] = delivery
        received = self._skycore.messages
        audit = judge(
            (message.to for message in messages(self._progress.total)),
            known,
            billed=Counter(message.to for message in received if message.taken),
            asked=Counter(message.to for message in received),
            in_doubt=self._in_doubt,
        )
        summary = await self._ledger.summary()
        report = await read_report(self._ledger, title=self._ledger.path.name)
        return Settled(audit=audit, report=report, summary=summary)
