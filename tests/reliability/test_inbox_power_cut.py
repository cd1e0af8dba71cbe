"""An inbox on a disk whose power is cut: postbacks answered with 200 are in it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

pytest.importorskip("apsw", reason="the disk whose power is cut needs apsw")

import apsw

from skycore_async.ledger.sqlite.inbox_file import InboxFile, KeptPostback, inbox_of
from tests.support.ledger_cases import NOON, notice
from tests.support.power_cut import Disk, write_out

pytestmark = pytest.mark.unmeasured

CUTS: Final = 60
MOST_CALLS: Final = 150  # writes and syncs before the cut


class LessDurable:
    """A connection that pretends to sync the directory, and syncs less."""

    def __init__(self, connection: apsw.Connection, synchronous: str) -> None:
        self._connection = connection
        self._synchronous = synchronous
        self.executemany = connection.executemany
        self.close = connection.close

    def execute(self, statement: str, values: Any = ()) -> Any:
        if statement == "PRAGMA synchronous":
            statement = "SELECT 3"
        statement = statement.replace("synchronous = EXTRA", f"synchronous = {self._synchronous}")
        return self._connection.execute(statement, values)


def lost_by_a_cut(seed: int, folder: Path, synchronous: str | None = None) -> list[str]:
    """Return what was acknowledged before a cut and is missing after it, or the damage."""
    random, disk = Random(seed), Disk(f"inbox {seed} {synchronous}")
    acknowledged: list[str] = []
    cuts: list[tuple[list[str], dict[str, bytes]]] = []

    def connect(path: str) -> Any:
        connection = apsw.Connection(path, vfs=disk.name)
        return connection if synchronous is None else LessDurable(connection, synchronous)

    folder.mkdir()
    inbox = InboxFile(folder / "ledger.db", connect=connect)
    inbox.open()
    calls = random.randint(1, MOST_CALLS)
    disk.cut_after(calls, lambda: cuts.append(([*acknowledged], disk.image(random))))
    number = 0
    while not cuts:
        names = [f"SMS_{number + more}" for more in range(random.randint(1, 5))]
        number += len(names)
        inbox.add([KeptPostback.of([notice(tracking_id=name)], received=NOON) for name in names])
        acknowledged += names
        if random.random() < 0.2:  # as the ledger does that has taken some in
            (first, *_), _ = inbox.read()
            inbox.remove(first.id)
            acknowledged.remove(str(getattr(first.notifications()[0], "tracking_id", None)))
    inbox.close()
    disk.unregister()
    before, image = cuts[0]
    return _not_in(image, folder / "after", before)


def _not_in(image: dict[str, bytes], folder: Path, names: list[str]) -> list[str]:
    folder.mkdir()
    write_out(image, folder)
    with_journal = inbox_of(folder / "ledger.db")
    found: set[object] = set()
    inbox = InboxFile(folder / "ledger.db")
    assert with_journal.exists()
    try:
        inbox.open()
        (damage,) = inbox._connection.execute("PRAGMA integrity_check").fetchone()
        after = 0
        while kept := inbox.read(after)[0]:
            after = kept[-1].id
            found |= {getattr(each.notifications()[0], "tracking_id", None) for each in kept}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is damage
        return [repr(error)]
    finally:
        inbox.close()
    return [name for name in names if name not in found] if damage == "ok" else [damage]


@pytest.mark.slow
def test_no_power_cut_loses_what_was_answered(tmp_path: Path) -> None:
    """No power cut at a random moment loses an answered postback."""
    lost = {seed: lost_by_a_cut(seed, tmp_path / str(seed)) for seed in range(CUTS)}
    assert {seed: names for seed, names in lost.items() if names} == {}


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL", "OFF"])
def test_the_disk_does_forget_what_is_not_synced(tmp_path: Path, synchronous: str) -> None:
    """With less than synchronous=EXTRA power cuts do lose answered postbacks."""
    assert any(lost_by_a_cut(seed, tmp_path / str(seed), synchronous) for seed in range(CUTS))
