"""The benchmarks run, and say when a bound was missed."""

from __future__ import annotations

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.harness import at_most, table
from benchmarks.pace import most_in_a_second


def test_a_missed_bound_is_said_in_the_table() -> None:
    """A figure beyond its bound is marked as missed, one within it is not."""
    kept = at_most(1.5, "kept", ours=3.0, theirs=2.0, unit="µs", against="peer")
    missed = at_most(1.5, "missed", ours=4.0, theirs=2.0, unit="µs", against="peer")
    lines = table([kept, missed]).splitlines()
    assert "MISSED" not in lines[2]
    assert "2.00" in lines[3]
    assert "MISSED" in lines[3]


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Asking for a benchmark that does not exist names those that do."""
    assert benchmarks.main(["speed"]) == 2
    assert "imports" in capsys.readouterr().out


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
