"""The benchmarks run, and say when a bound was missed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import earlier, growth, shared_pace
from benchmarks.harness import Figure, at_most, table, without_peer
from benchmarks.pace import most_in_a_second
from skycore_async import Delivery, SQLiteLedger, Summary


def test_a_missed_bound_is_said_in_the_table() -> None:
    """A figure beyond its bound is marked as missed, and one within it is not."""
    kept = at_most(1.5, "kept", ours=3.0, theirs=2.0, unit="µs", against="peer")
    missed = at_most(1.5, "missed", ours=4.0, theirs=2.0, unit="µs", against="peer")
    lines = table([kept, missed]).splitlines()
    assert "MISSED" not in lines[2]
    assert "2.00" in lines[3]
    assert "MISSED" in lines[3]


def test_a_peer_that_is_not_here_is_said_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the commit of the earlier build, the table says so, and no bound is missed."""
    monkeypatch.setattr(earlier, "COMMIT", "0" * 40)
    with earlier.earlier_build() as build:
        assert build is None
    lines = table([without_peer("speed", "build 0000000, which is not here")]).splitlines()
    assert "which is not here" in lines[2]
    assert "MISSED" not in lines[2]


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Asking for a benchmark that does not exist names those that do."""
    assert benchmarks.main(["speed"]) == 2
    assert "imports" in capsys.readouterr().out


@pytest.mark.slow
def test_growth_measures_what_a_size_costs() -> None:
    """`growth` gives ten figures for a size, and none is negative."""
    found = list(growth.measured(300, seconds=0.05))
    assert len(found) == 10
    for figure in found:
        assert figure.measured.startswith("300 messages: ")
        assert float(figure.ours.split()[0].replace(",", "")) >= 0


def test_growth_makes_a_ledger_that_counts_what_it_has(tmp_path: Path) -> None:
    """The ledger's counts are those of its messages, and each ended one has its receipt."""
    path = tmp_path / "ledger.db"
    growth.make_ledger(path, 200)

    async def look() -> tuple[Summary, list[Delivery]]:
        async with SQLiteLedger(path) as ledger:
            return await ledger.summary(), [each async for each in ledger.deliveries()]

    summary, found = anyio.run(look)
    assert summary.states == dict(Counter(each.state for each in found))
    assert summary.total == 200
    assert all(len(each.events) == each.state.is_final for each in found)


def test_growth_ends_at_the_rows_that_are_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--rows` leaves out larger sizes, and a missed bound is an exit code."""
    made = at_most(1.5, "missed", ours=4.0, theirs=2.0, unit="µs", against="peer")
    counts: list[int] = []

    def measured(count: int) -> list[Figure]:
        counts.append(count)
        return [made]

    monkeypatch.setattr(growth, "measured", measured)
    assert benchmarks.main(["growth", "--rows", "100000"]) == 1
    assert counts == [10_000, 100_000]
    assert capsys.readouterr().out.count("MISSED") == 2


@pytest.mark.parametrize(
    ("starts", "most"),
    [
        ([], 0),
        ([7.0], 1),
        ([0.0, 1.0], 1),
        ([0.0, 0.75, 1.0], 2),
        ([0.0, 0.5, 1.0, 1.25, 1.375, 5.0], 4),
        ([3.0, 3.0, 3.0, 4.0, 4.0], 3),
        ([0.0, 2.0, 2.5, 2.75, 4.0], 3),
    ],
)
def test_the_most_starts_in_a_second_are_found(starts: list[float], most: int) -> None:
    """A second begins anywhere, and a start just one second later is not in it."""
    assert most_in_a_second(starts) == most


def test_a_shared_pace_is_judged_by_all_that_came() -> None:
    """A shared rate is judged by its deviation, busiest second and fairness."""
    came = [
        (f"1555123000{process}", 7 + number / 250)
        for process, count in enumerate((240, 260, 250, 270))
        for number in range(count)
    ]
    found = shared_pace.judged(came, seconds=1.0)
    assert found.off == pytest.approx(0.0)
    assert found.most == 240 + 3 * 250
    assert found.unfair == pytest.approx(15 / 255 * 100)


def test_a_process_that_sent_nothing_has_no_fair_share() -> None:
    """A process that sent nothing counts as the most unfair share."""
    came = [(f"1555123000{process}", float(number)) for process in range(3) for number in range(8)]
    assert shared_pace.judged(came, seconds=1.0).unfair == pytest.approx(100.0)
