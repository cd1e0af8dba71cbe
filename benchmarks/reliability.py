"""A bulk send that is killed again and again, and the simulator's bill as the oracle.

A process of its own sends to the simulator and keeps an SQLiteLedger; it is
killed (SIGKILL) at random moments and begun again, until it ends by itself.
Then the postbacks are recorded as the provider's repetitions would bring them, some of
which are lost and some late, and the state of each message in the ledger is compared with
the bill.  Then the provider's report ends the remaining doubts, and one more run sends the
messages that it proved not sent.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import attrs

from skycore_async import MessageState, Notification, SkycoreClient, SQLiteLedger
from skycore_async.receiving.receiver import PostbackReceiver
from skycore_async.simulator import API_KEY, Simulator
from skycore_async.simulator.asgi_thread import ServerThread
from tests.support.other_process import started

from .harness import Figure, at_most_absolute
from .reliability_sender import IN_FLIGHT, messages, send

COUNT: Final = 20_000
KILLS: Final = 20

LOST: Final = 0.10  # of the postbacks
LATE: Final = 0.05
_POSTBACKS_WITHIN: Final = 120.0  # seconds for the simulator to post all of them


# The postbacks that came, each with where it stands among those that get lost or come late.
Fates = list[tuple[Notification, float]]


@attrs.frozen(kw_only=True)
class Verdict:
    """What became of the messages.

    `duplicates` are messages billed more than once, `lost` those that were not
    billed and are not in doubt, `most_doubt` is the most that one kill left in
    doubt, `doubt` how many were in doubt before the postbacks came, and
    `unsettled` those that still are; `mistaken` were settled and never billed.

    A report proves `proven_unsent` not sent.  Then one more run leaves `left_in_doubt` in
    doubt, `denied` neither accepted nor in doubt, and `not_billed_once` not billed once.
    """

    messages: int
    kills: int
    duplicates: int
    lost: int
    most_doubt: int
    doubt: int
    unsettled: int
    mistaken: int

    # After the report, and one more run.
    proven_unsent: int
    left_in_doubt: int
    denied: int
    not_billed_once: int


def verdict(
    *, backend: str, count: int, kills: int, seed: int, rate: float | None = None
) -> Verdict:
    """Send `count` messages through `kills` kills on an event loop, and judge the ledger.

    They go out at `rate` a second; as fast as they can where that is None.
    """
    came: list[Notification] = []
    receiver = ServerThread(PostbackReceiver(on_notification=came.append))
    with tempfile.TemporaryDirectory() as folder, receiver:
        path = str(Path(folder) / "killed.db")
        with Simulator(
            postback_url=f"{receiver.url}/postback", bundle_postbacks=True, behaviours={}
        ) as skycore:
            sender = partial(_Sender, skycore.url, path, count, rate, backend=backend)
            doubts = _killed(skycore, sender, path, count=count, kills=kills, seed=seed)
            sender().check()
            skycore.wait_for_postbacks(_POSTBACKS_WITHIN)
            chance = random.Random(seed)
            fates = [(each, chance.random()) for each in came]
            found = anyio.run(_judged, path, count, skycore, doubts, fates)
            sender().check()
            return anyio.run(_ended, path, found, count, skycore)


def _killed(
    skycore: Simulator,
    begin: Callable[[], _Sender],
    path: str,
    *,
    count: int,
    kills: int,
    seed: int,
) -> list[int]:
    """Kill the sender at random moments, and give how many it left in doubt each time."""
    chance = random.Random(seed)
    doubts: list[int] = []
    # Some are accepted before the first, and begin after the last: of what nothing came before,
    # or after, a report proves nothing absent.
    last = min(count * 9 // 10, count - 5 * IN_FLIGHT)
    for moment in sorted(chance.sample(range(2 * IN_FLIGHT, last), kills)):
        sender = begin()
        while skycore.billed < moment and sender.is_running():
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
        sender.kill()
        doubts.append(anyio.run(_in_doubt, path))
    return doubts


class _Sender:
    """The sender, in a process of its own."""

    def __init__(self, *arguments: object, backend: str) -> None:
        self._process = started(send, *arguments, backend=backend)

    def is_running(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def check(self) -> None:
        self._process.join()
        assert self._process.exitcode == 0, "the sender failed"


async def _in_doubt(path: str) -> int:
    async with SQLiteLedger(path) as ledger:
        return (await ledger.summary()).states.get(MessageState.IN_DOUBT, 0)


async def _judged(
    path: str, count: int, skycore: Simulator, doubts: list[int], fates: Fates
) -> Verdict:
    """Record the postbacks that come, settle by a report, and judge what that found."""
    billed = Counter(message.to for message in skycore.messages)
    async with (
        SQLiteLedger(path) as ledger,
        SkycoreClient(api_key=API_KEY, base_url=skycore.url, ledger=ledger) as client,
    ):
        before = {d.to async for d in ledger.deliveries(MessageState.IN_DOUBT)}
        await ledger.record(*(each for each, fate in fates if fate >= LOST + LATE))
        after = {d.to async for d in ledger.deliveries(MessageState.IN_DOUBT)}
        known = {d.to: d async for d in ledger.deliveries()}
        settlement = await client.settle(after=0)
        await ledger.record(*(each for each, fate in fates if LOST <= fate < LOST + LATE))
    wanted = {message.to for message in messages(count)}
    return Verdict(
        messages=count,
        kills=len(doubts),
        duplicates=sum(times - 1 for times in billed.values()),
        lost=sum(to not in known or (to not in billed and to not in before) for to in wanted),
        most_doubt=max((b - a for a, b in zip([0, *doubts], doubts, strict=False)), default=0),
        doubt=len(before),
        unsettled=len(after),
        mistaken=len((before - after) - billed.keys()),
        proven_unsent=len(settlement.not_sent),
        left_in_doubt=len(settlement.open),
        denied=0,
        not_billed_once=0,
    )


async def _ended(path: str, found: Verdict, count: int, skycore: Simulator) -> Verdict:
    """Judge what there is after one more run."""
    async with SQLiteLedger(path) as ledger:
        states = {d.to: d.state async for d in ledger.deliveries()}
    billed = Counter(message.to for message in skycore.messages)
    nothing_sent = {MessageState.NOT_SENT, MessageState.REJECTED}
    return attrs.evolve(
        found,
        left_in_doubt=sum(state is MessageState.IN_DOUBT for state in states.values()),
        denied=sum(state in nothing_sent for state in states.values()),
        not_billed_once=sum(billed[message.to] != 1 for message in messages(count)),
    )


def measure() -> Iterator[Figure]:
    """Judge a large send on either event loop."""
    for backend in ("asyncio", "trio"):
        found = verdict(backend=backend, count=COUNT, kills=KILLS, seed=KILLS)
        where = f"{backend}, {found.messages:,} messages, {found.kills} kills"
        yield at_most_absolute(0, f"{where}: sent twice", found.duplicates, "messages")
        yield at_most_absolute(0, f"{where}: lost", found.lost, "messages")
        yield at_most_absolute(
            IN_FLIGHT, f"{where}: most in doubt by a kill", found.most_doubt, "messages"
        )
        yield at_most_absolute(
            KILLS * IN_FLIGHT, f"{where}: in doubt before postbacks", found.doubt, "messages"
        )
        yield at_most_absolute(
            found.doubt, f"{where}: in doubt after postbacks", found.unsettled, "messages"
        )
        yield at_most_absolute(0, f"{where}: settled wrongly", found.mistaken, "messages")
        yield from after_a_report(found, where)


def after_a_report(found: Any, where: str) -> Iterator[Figure]:
    """Make the figures of what a verdict has left in the end, which is to be nothing."""
    unsent = f"after a report, of which {found.proven_unsent:,} not sent, and one more run"
    for what, left in (
        ("in doubt", found.left_in_doubt),
        ("denied", found.denied),
        ("not billed once", found.not_billed_once),
    ):
        yield at_most_absolute(0, f"{where}: {unsent}: {what}", left, "messages")
