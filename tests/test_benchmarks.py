"""The benchmarks run, and say when a bound was missed."""

from __future__ import annotations

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.harness import at_most, table


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
