"""Workers that are killed and stopped while they drain a campaign: how reliable and how fast.

Several `skycore worker` processes send a campaign to the simulator.  At random
moments one is killed (SIGKILL) and another begun, or one is stopped (SIGSTOP) for
longer than its lease and woken; in the middle PostgreSQL goes down as in a crash.
Then the postbacks are recorded, some of which are lost and some late, and the state of each
message in the ledger is compared with the bill.  The provider's report ends the remaining doubts,
and workers send the messages that it proved not sent.

The speed is measured over a transport that answers at once:
`python -m benchmarks.cluster DSN` is such a worker.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import anyio
import attrs
import psycopg

from skycore_async import SMS, MessageState, Notification, Request, Response, SkycoreClient
from skycore_async.campaigns import queue
from skycore_async.campaigns.campaigns import load
from skycore_async.campaigns.progress import progress
from skycore_async.campaigns.retrying_connection import RetryingConnection
from skycore_async.campaigns.worker import Worker
from skycore_async.ledger.postgres.ledger import PostgresLedger
from skycore_async.postgres.connection import Database
from skycore_async.receiving.receiver import PostbackReceiver
from skycore_async.simulator import API_KEY, SHORT_CODE, Simulator
from skycore_async.simulator.asgi_thread import ServerThread

from . import postgres
from .harness import Figure, at_least_absolute, at_most_absolute
from .reliability import LATE, LOST, Fates, after_a_report

ROOT: Final = Path(__file__).parents[1]
IN_FLIGHT: Final = 50
LEASE: Final = 2.0  # seconds
WORKERS: Final = 4
COUNT: Final = 100_000
KILLS: Final = 12
STOPS: Final = 8
FAST_COUNT: Final = 40_000
FAST_IN_FLIGHT: Final = 200

_WITHIN: Final = 1800.0  # seconds for all of it


@attrs.frozen(kw_only=True)
class Verdict:
    """What became of the messages; for the fields see `reliability.Verdict`.

    `left` is how many had no outcome when no worker had anything to do any more.
    """

    messages: int
    faults: int
    duplicates: int
    lost: int
    left: int
    doubt: int
    unsettled: int
    mistaken: int
    proven_unsent: int
    left_in_doubt: int
    denied: int
    not_billed_once: int
    seconds: float


def messages(count: int) -> Iterator[SMS]:
    """Make messages to different numbers, each with a key."""
    return (
        SMS(to=f"1555{n:07}", text=f"Hello number {n}", from_=SHORT_CODE, key=f"recipient-{n}")
        for n in range(count)
    )


class _Program:
    """A worker in a process of its own."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own modules
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "SKYCORE_API_KEY": API_KEY, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def send(self, what: signal.Signals) -> None:
        os.kill(self._process.pid, what)

    def wait(self) -> int:
        return self._process.wait(_WITHIN)


class _Crew:
    """Workers, one of whom something befalls from time to time."""

    def __init__(self, dsn: str, url: str, *, count: int, in_flight: int, seed: int) -> None:
        self._arguments = ("--drain", "--lease", f"{LEASE}", "--in-flight", f"{in_flight}")
        self._command = ("-m", "skycore_async.cli", "worker", dsn, *self._arguments)
        self._url = url
        self._chance = random.Random(seed)
        self._asleep: dict[_Program, float] = {}
        self.at_work = [self._begun() for _ in range(count)]

    def _begun(self) -> _Program:
        return _Program(self._command, SKYCORE_BASE_URL=self._url)

    def kill(self) -> None:
        """Kill one, and begin another."""
        victim = self._chance.randrange(len(self.at_work))
        self._asleep.pop(self.at_work[victim], None)
        self.at_work[victim].kill()
        self.at_work[victim] = self._begun()

    def stop(self) -> None:
        """Stop one for longer than its lease."""
        victim = self._chance.choice(self.at_work)
        victim.send(signal.SIGSTOP)
        self._asleep[victim] = time.monotonic() + LEASE * self._chance.uniform(1.2, 2.5)

    def wake(self, *, all_of_them: bool = False) -> None:
        """Wake those who slept long enough."""
        for sleeper, until in tuple(self._asleep.items()):
            if all_of_them or time.monotonic() >= until:
                sleeper.send(signal.SIGCONT)
                del self._asleep[sleeper]

    def wait(self) -> None:
        """Wait until nobody has anything to do any more."""
        while self._asleep:
            self.wake()
            time.sleep(0.01)
        for worker in self.at_work:
            worker.wait()

    def end(self) -> None:
        """End those that are left."""
        for worker in self.at_work:
            worker.kill()


def verdict(
    server: postgres.Server,
    *,
    count: int,
    workers: int = WORKERS,
    kills: int = KILLS,
    stops: int = STOPS,
    restarts: int = 1,
    in_flight: int = IN_FLIGHT,
    seed: int = 1,
) -> Verdict:
    """Send `count` messages through faults of all kinds, and judge the ledger."""
    dsn, came, began = server.dsn(), list[Notification](), time.monotonic()
    with psycopg.connect(dsn, autocommit=True) as connection:
        queue.migrate(connection)
        load(connection, "campaign", messages(count), size=min(500, count // 20))
    receiver = ServerThread(PostbackReceiver(on_notification=came.append))
    with receiver, ExitStack() as stack:
        skycore = stack.enter_context(
            Simulator(
                postback_url=f"{receiver.url}/postback", bundle_postbacks=True, behaviours={}
            )
        )
        crew = _Crew(dsn, skycore.url, count=workers, in_flight=in_flight, seed=seed)
        stack.callback(crew.end)
        faults = [crew.kill] * kills + [crew.stop] * stops + [server.restart] * restarts
        _inject_faults(skycore, crew, faults, count=count, chance=random.Random(seed))
        crew.wait()
        skycore.wait_for_postbacks(_WITHIN)
        chance = random.Random(seed)
        fates = [(each, chance.random()) for each in came]
        judged = anyio.run(_judged, dsn, count, skycore, fates)
        again = _Crew(dsn, skycore.url, count=workers, in_flight=in_flight, seed=seed)
        stack.callback(again.end)
        again.wait()
        judged |= anyio.run(_ended, dsn, count, skycore)
    return Verdict(**judged, faults=len(faults), seconds=time.monotonic() - began)


def _inject_faults(
    skycore: Simulator, crew: _Crew, faults: list[Any], *, count: int, chance: random.Random
) -> None:
    """Let faults happen, at random moments and in random order."""
    chance.shuffle(faults)
    moments = sorted(chance.sample(range(1, count * 9 // 10), len(faults)))
    for moment, fault in zip(moments, faults, strict=True):
        while skycore.billed < moment:
            crew.wake()
            time.sleep(0.002)
        fault()


async def _judged(dsn: str, count: int, skycore: Simulator, fates: Fates) -> dict[str, int]:
    """Record the postbacks that come, settle by a report, and judge what that found."""
    billed = Counter(message.to for message in skycore.messages)
    come = [each for each, fate in fates if fate >= LOST + LATE]
    late = [each for each, fate in fates if LOST <= fate < LOST + LATE]
    with psycopg.connect(dsn, autocommit=True) as connection:
        (found,) = progress(connection)
    async with (
        PostgresLedger(dsn) as ledger,
        SkycoreClient(
            api_key=API_KEY, from_=SHORT_CODE, base_url=skycore.url, ledger=ledger
        ) as client,
    ):
        before = {d.to async for d in ledger.deliveries(MessageState.IN_DOUBT)}
        for first in range(0, len(come), 500):
            await ledger.record(*come[first : first + 500])
        after = {d.to async for d in ledger.deliveries(MessageState.IN_DOUBT)}
        known = {d.to async for d in ledger.deliveries()}
        # The last message of all may be in doubt: that the report lists its time, another shows.
        await client.send_sms(to="15559999999", text="Done", key="witness")
        settlement = await client.settle(after=0)
        for first in range(0, len(late), 500):
            await ledger.record(*late[first : first + 500])
    wanted = {message.to for message in messages(count)}
    return {
        "messages": count,
        "duplicates": sum(times - 1 for times in billed.values()),
        "lost": sum(to not in known or (to not in billed and to not in before) for to in wanted),
        "left": found.to_send + found.waiting + found.held,
        "doubt": len(before),
        "unsettled": len(after),
        "mistaken": len((before - after) - billed.keys()),
        "proven_unsent": len(settlement.not_sent),
    }


async def _ended(dsn: str, count: int, skycore: Simulator) -> dict[str, int]:
    """Judge what there is after workers have sent what was left."""
    async with PostgresLedger(dsn) as ledger:
        states = {d.to: d.state async for d in ledger.deliveries()}
    billed = Counter(message.to for message in skycore.messages)
    nothing_sent = {MessageState.NOT_SENT, MessageState.REJECTED}
    return {
        "left_in_doubt": sum(state is MessageState.IN_DOUBT for state in states.values()),
        "denied": sum(state in nothing_sent for state in states.values()),
        "not_billed_once": sum(billed[message.to] != 1 for message in messages(count)),
    }


# How fast.


class _AcceptingTransport:
    """A transport that takes every message, and answers at once."""

    async def send(self, request: Request, *, timeout: float) -> Response:
        to = parse_qs(request.body.decode())["xml"][0].partition("<TO>")[2].partition("<")[0]
        body = (
            f"<RESPONSE><STATUS>Success</STATUS><TRACKINGID>T_{to}</TRACKINGID>"
            f"<TO>{to}</TO></RESPONSE>"
        )
        return Response(status=200, headers={}, body=body.encode())

    async def aclose(self) -> None:
        pass


async def _drain(dsn: str) -> None:
    database = Database(dsn)
    connection = RetryingConnection(database)
    async with (
        PostgresLedger(dsn) as ledger,
        queue.Procrastinate(database) as chunks,
        SkycoreClient(
            api_key=API_KEY,
            ledger=ledger,
            transport=_AcceptingTransport(),
            max_in_flight=FAST_IN_FLIGHT,
        ) as client,
    ):
        worker = Worker(
            connection=connection, queue=chunks, ledger=ledger, client=client, drain=True
        )
        await worker.run()
    await connection.aclose()


def rate(server: postgres.Server, *, workers: int, count: int = FAST_COUNT) -> float:
    """Return how many journalled messages a second so many workers send together."""
    dsn, name = server.dsn(), f"fast-{workers}"
    renamed = (attrs.evolve(sms, key=f"{name}-{sms.key}") for sms in messages(count))
    with psycopg.connect(dsn, autocommit=True) as connection:
        queue.migrate(connection)
        load(connection, name, renamed)
        connection.execute("ANALYZE")
        crew = [_Program(("-m", "benchmarks.cluster", dsn)) for _ in range(workers)]
        assert all(worker.wait() == 0 for worker in crew), "a worker failed"
        # From the first intent to the last outcome, without the start of processes.
        (took,) = connection.execute(
            "SELECT max(ended_at) - min(started_at) FROM skycore.messages WHERE key LIKE %s",
            (f"{name}-%",),
        ).fetchone() or (0,)
    return float(count / took)


def measure() -> Iterator[Figure]:
    """Judge a large campaign, and measure how fast workers are."""
    with postgres.running() as server:
        found = verdict(server, count=COUNT)
    where = f"{found.messages:,} messages, {WORKERS} workers, {found.faults} faults"
    yield at_most_absolute(0, f"{where}: sent twice", found.duplicates, "messages")
    yield at_most_absolute(0, f"{where}: lost", found.lost, "messages")
    yield at_most_absolute(0, f"{where}: left over", found.left, "messages")
    bound = (KILLS + STOPS + WORKERS) * IN_FLIGHT
    yield at_most_absolute(bound, f"{where}: in doubt before postbacks", found.doubt, "messages")
    yield at_most_absolute(
        found.doubt, f"{where}: in doubt after postbacks", found.unsettled, "messages"
    )
    yield at_most_absolute(0, f"{where}: settled wrongly", found.mistaken, "messages")
    yield from after_a_report(found, where)
    with postgres.running() as server:
        alone, together = rate(server, workers=1), rate(server, workers=WORKERS)
    yield at_least_absolute(0, "journalled sends, 1 worker", alone, "messages/s")
    yield at_least_absolute(
        6000, f"journalled sends, {WORKERS} workers together", together, "messages/s"
    )


if __name__ == "__main__":
    anyio.run(_drain, sys.argv[1])
