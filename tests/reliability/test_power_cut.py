"""A ledger on a disk whose power is cut: what was acknowledged is there."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
import attrs
import pytest

from skycore_async import MessageState, SQLiteLedger, parse_postback
from skycore_async.ledger.model import SendIntent, Submission
from skycore_async.ledger.sqlite import write_ahead_log
from skycore_async.ledger.sqlite.generations import TAIL, needed_log
from skycore_async.ledger.sqlite.wal_format import FILE_HEADER

pytest.importorskip("apsw", reason="the disk whose power is cut needs apsw")

from tests.support.ledger_owner import end, kill, opened_elsewhere, owner, tell
from tests.support.power_cut import Careless, Disk, write_out

pytestmark = pytest.mark.anyio

FIRST: Final = Path(__file__).parents[1] / "support" / "ledger_of_version_1.sql"
CALLERS: Final = 12
MOST_CALLS: Final = 1200  # writes and syncs before the cut
CUTS: Final = {"asyncio": range(15), "trio": range(15, 30)}

S = MessageState
OUTCOMES: Final = (S.ACCEPTED, S.ACCEPTED, S.ACCEPTED, S.REJECTED, S.IN_DOUBT, S.NOT_SENT)
# What a message may be found in after a state of it was acknowledged: that, or a later one.
OR_LATER: Final = {
    S.SENDING: set(S),
    S.ACCEPTED: {S.ACCEPTED, S.DELIVERED},
    S.DELIVERED: {S.DELIVERED},
    S.REJECTED: {S.REJECTED},
    S.IN_DOUBT: {S.IN_DOUBT},
    S.NOT_SENT: {S.NOT_SENT},
}


@attrs.define
class Cut:
    """What was acknowledged when the power was cut, and what is on the disk after."""

    acknowledged: dict[str, MessageState]
    image: dict[str, bytes]

    def lost(self, directory: Path) -> list[str]:
        """Return the acknowledged keys that are missing, or the damage to the file."""
        directory.mkdir()
        write_out(self.image, directory)
        connection = sqlite3.connect(directory / "ledger.db")
        try:
            (damage,) = connection.execute("PRAGMA integrity_check").fetchone()
            found = dict(connection.execute("SELECT key, state FROM messages"))
        except sqlite3.DatabaseError as error:
            return [str(error)]
        finally:
            connection.close()
        lost = [
            key
            for key, state in self.acknowledged.items()
            if found.get(key) not in OR_LATER[state]
        ]
        return lost if damage == "ok" else [damage]


def a_receipt(tracking_id: str, to: str) -> Any:
    return parse_postback(
        "<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N202</CODE><STATUS>Message Sent/Delivered</STATUS>"
        f"<TO>{to}</TO><TRACKINGID>{tracking_id}</TRACKINGID></POSTBACK>"
    )


async def cut_while_busy(
    disk: Disk, directory: Path, connect: Callable[[str], Any], random: Random
) -> Cut:
    """Let many callers use a ledger until the power is cut."""
    acknowledged: dict[str, MessageState] = {}
    cuts: list[Cut] = []

    def cut() -> None:
        cuts.append(Cut(dict(acknowledged), disk.image(random)))

    async def caller(ledger: SQLiteLedger, numbers: Iterator[int]) -> None:
        for number in numbers:
            if cuts:
                return
            key, to = f"order-{number}", f"1555{number:07}"
            intent = SendIntent(
                key=key, content=b"x" * 16, to=to, from_="60856", started_at=number
            )
            await ledger.begin(intent)
            acknowledged[key] = S.SENDING
            state = random.choice(OUTCOMES)
            tracking_id = f"SMS_{number}" if state is S.ACCEPTED else None
            await ledger.finish(key, Submission(state=state, tracking_id=tracking_id))
            acknowledged[key] = state
            if tracking_id is not None:
                await ledger.record(*a_receipt(tracking_id, to))
                acknowledged[key] = S.DELIVERED

    async with SQLiteLedger(directory / "ledger.db", connect=connect) as ledger:
        disk.cut_after(random.randint(1, MOST_CALLS), cut)
        numbers = iter(range(1_000_000))
        async with anyio.create_task_group() as group:
            for _ in range(CALLERS):
                group.start_soon(caller, ledger, numbers)
    return cuts[0]


async def lost_by_cuts(
    seeds: range,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    synchronous: str | None = None,
) -> dict[int, list[str]]:
    """Cut the power once for each seed, and return what each cut lost."""
    lost = {}
    for seed in seeds:
        disk = Disk(f"power cut {seed}")
        monkeypatch.setattr(write_ahead_log, "write_durably", disk.write_durably)

        def connect(path: str, disk: Disk = disk) -> Any:
            connection = disk.connect(path)
            return connection if synchronous is None else Careless(connection, synchronous)

        busy = directory / f"busy {seed}"
        busy.mkdir()
        cut = await cut_while_busy(disk, busy, connect, Random(seed))
        if gone := cut.lost(directory / str(seed)):
            lost[seed] = gone
        disk.unregister()
    return lost


@pytest.mark.slow
@pytest.mark.unmeasured
async def test_no_power_cut_loses_what_was_acknowledged(
    tmp_path: Path, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No power cut at a random moment loses an intent, an outcome or a receipt."""
    assert await lost_by_cuts(CUTS[anyio_backend], tmp_path, monkeypatch) == {}


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
async def test_the_disk_does_forget_what_is_not_synced(
    tmp_path: Path, synchronous: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With less than synchronous=FULL power cuts do lose acknowledged rows."""
    assert await lost_by_cuts(range(10), tmp_path, monkeypatch, synchronous=synchronous)


# At every step of a short life, its opening and its closing among them.


async def live(path: Path, connect: Callable[[str], Any]) -> AsyncIterator[str]:
    """Open a ledger, record two messages, wait for both, and close it."""
    async with SQLiteLedger(path, connect=connect) as ledger:
        for number in range(2):
            key = f"new-{number}"
            intent = SendIntent(
                key=key, content=b"x" * 16, to="15551234888", from_=None, started_at=1.8e9
            )
            await ledger.begin(intent)
            yield key
            await ledger.finish(key, Submission(state=S.ACCEPTED, tracking_id=key))


async def states(path: Path) -> dict[str, MessageState]:
    async with SQLiteLedger(path) as ledger:
        return {each.key: each.state async for each in ledger.deliveries()}


def no_ledger(_path: Path) -> None:
    pass


def a_closed_ledger(path: Path) -> None:
    assert opened_elsewhere(path) == "it has 0 messages"
    with owner(path) as process:
        tell(process, "old")
        end(process)


def a_crashed_ledger(path: Path) -> None:
    with owner(path) as process:
        tell(process, "old")
        kill(process)


def a_ledger_of_the_first_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST.read_text("utf-8"))


class Watched(Disk):
    """A disk that calls a function before each write and sync."""

    def __init__(self, name: str, look: Callable[[], None]) -> None:
        super().__init__(name)
        self._look = look

    def tick(self) -> None:
        self._look()


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize(
    "before", [no_ledger, a_closed_ledger, a_crashed_ledger, a_ledger_of_the_first_version]
)
async def test_a_power_cut_at_any_step_leaves_a_ledger_that_opens(
    tmp_path: Path,
    before: Callable[[Path], None],
    anyio_backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A power cut before any write or sync leaves a ledger that opens with all acknowledged."""
    path, acknowledged = tmp_path / "ledger.db", set[str]()
    before(path)
    path.with_name("ledger.db-shm").unlink(missing_ok=True)
    images: list[tuple[dict[str, bytes], set[str]]] = []

    def look() -> None:
        images.append((disk.image(Random(len(images))), set(acknowledged)))

    disk = Watched("watched", look)
    with monkeypatch.context() as patched:
        patched.setattr(write_ahead_log, "write_durably", disk.write_durably)
        async for key in live(path, disk.connect_with(5)):
            acknowledged.add(key)
    disk.unregister()
    # What the same is left of is opened once, on one event loop or the other.
    different = [each for number, each in enumerate(images) if each not in images[:number]]
    half = different[anyio_backend == "trio" :: 2]
    assert len(half) > 20
    for step, (image, kept) in enumerate(half):
        left = tmp_path / f"{step} left"
        left.mkdir()
        write_out(image, left)
        found = await states(left / "ledger.db")
        assert kept <= found.keys(), step
        assert before is no_ledger or found.keys() - {f"new-{n}" for n in range(2)}, step


# A copy of the file alone at every step of a life.


@pytest.mark.slow
async def test_a_copy_of_the_file_alone_is_whole_or_says_that_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the file alone, made at any step, is whole or says that it is not."""
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    a_closed_ledger(path)
    acknowledged, whole, incomplete = {"old"}, 0, 0

    def look() -> None:
        nonlocal whole, incomplete
        content = path.read_bytes()
        if needed_log(content[:FILE_HEADER], len(content), content[-TAIL:]) is not None:
            incomplete += 1
            return
        whole += 1
        copy.write_bytes(content)
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            kept = {key for (key,) in connection.execute("SELECT key FROM messages")}
        assert kept >= acknowledged

    disk = Watched("watched", look)
    monkeypatch.setattr(write_ahead_log, "write_durably", disk.write_durably)
    async with SQLiteLedger(path, connect=disk.connect_with(30)) as ledger:
        for number in range(40):
            key = f"new-{number}"
            intent = SendIntent(key=key, content=b"", to="15551234888", from_=None, started_at=1.0)
            await ledger.begin(intent)
            acknowledged.add(key)
            await ledger.finish(key, Submission(state=S.ACCEPTED, tracking_id=key))
    disk.unregister()
    assert whole > 10
    assert incomplete > 200
    assert await states(path) == dict.fromkeys(acknowledged, S.ACCEPTED) | {"old": S.IN_DOUBT}
