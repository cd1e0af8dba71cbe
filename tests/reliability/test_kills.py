"""The promise after kills, compared with the simulator's bill, at a size for the suite.

`python -m benchmarks reliability` runs the same at full size.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from benchmarks.reliability import verdict
from benchmarks.reliability_sender import IN_FLIGHT
from skycore_async.simulator import API_KEY, SHORT_CODE, Simulator
from tests.support.cli_program import program

pytestmark = pytest.mark.unmeasured


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="nothing there is killed as kill -9 does")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_killed_bulk_send_loses_nobody_and_sends_nobody_twice(backend: str) -> None:
    """A bulk send killed several times loses no message, repeats none, and bounds doubt.

    What a report proves not sent goes out by one more run, and each message is billed once.
    """
    found = verdict(backend=backend, count=500, kills=3, seed=1, rate=400)
    assert (found.duplicates, found.lost, found.mistaken) == (0, 0, 0)
    assert found.most_doubt <= IN_FLIGHT
    assert found.unsettled <= found.doubt
    assert (found.left_in_doubt, found.denied, found.not_billed_once) == (0, 0, 0)


def bulk(rows: Path, url: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Send a file."""
    options = f"--text Hello --from {SHORT_CODE} --rate 200 --in-flight {IN_FLIGHT} --yes --json"
    where = ("--base-url", url)
    return program("bulk", str(rows), *options.split(), *where, SKYCORE_API_KEY=API_KEY)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="nothing there is killed as kill -9 does")
def test_a_killed_skycore_bulk_goes_on_with_the_same_command(tmp_path: Path) -> None:
    """A killed `skycore bulk` continues with the same command, with nobody lost or sent twice."""
    everyone = [f"1555123{n:04}" for n in range(3000, 3300)]
    rows = tmp_path / "promo.csv"
    rows.write_text("to\n" + "\n".join(everyone))
    with Simulator(behaviours={}) as simulator:
        for kill in range(3):
            run_and_kill(rows, simulator, billed=70 * (kill + 1))
        with bulk(rows, simulator.url) as sending:
            told = json.loads(sending.communicate(timeout=60)[0])
        sent = Counter(message.to for message in simulator.messages)
    assert set(sent.values()) == {1}
    in_doubt = {row["to"] for row in rejects_of(rows)}
    assert len(in_doubt) == told["in_doubt"] <= 3 * IN_FLIGHT
    assert sent.keys() | in_doubt == set(everyone)
    assert told["accepted"] + told["already_done"] + told["in_doubt"] == len(everyone)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="nothing there is killed as kill -9 does")
@pytest.mark.parametrize("is_touched", [False, True])
def test_rejects_of_killed_runs_do_not_pile_up(tmp_path: Path, *, is_touched: bool) -> None:
    """The rejects file of a killed run is rewritten, unless a person edited it."""
    rows = tmp_path / "promo.csv"
    unsendable = "".join(f"the number {n} of somebody unknown\n" for n in range(300))
    rows.write_text("to\n" + unsendable + "".join(f"1555123{n}\n" for n in range(3000, 3300)))
    with Simulator(behaviours={}) as simulator:
        run_and_kill(rows, simulator, billed=70)
        (killed,) = tmp_path.glob("promo.rejects*.csv")
        if is_touched:
            mended = killed.read_text("utf-8-sig").replace("the number 0", "15551234888")
            killed.write_text(mended, "utf-8-sig")
        run_and_kill(rows, simulator, billed=140)
        with bulk(rows, simulator.url) as sending:
            told = json.loads(sending.communicate(timeout=60)[0])
    last = Path(told["rejects"])
    assert {*tmp_path.glob("promo.rejects*.csv")} == {killed, last}
    assert (last != killed) is is_touched
    assert "15551234888" in killed.read_text("utf-8-sig") or not is_touched
    assert len(rejects_of(rows)) == 300 + told["in_doubt"]


def run_and_kill(rows: Path, simulator: Simulator, *, billed: int) -> None:
    """Send a file, and kill the command once so many messages were billed."""
    with bulk(rows, simulator.url) as sending:
        while simulator.billed < billed:
            assert sending.poll() is None
            time.sleep(0.002)
        sending.kill()


def rejects_of(rows: Path) -> list[dict[str, str]]:
    """Return the rows in doubt that the last run wrote down."""
    written = sorted(rows.parent.glob("promo.rejects*.csv"), key=lambda path: path.stat().st_mtime)
    if not written:
        return []
    with written[-1].open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))
