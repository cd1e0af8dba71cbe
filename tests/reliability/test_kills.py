"""The promise, held against the simulator's bill: at a size that fits the test suite.

`python -m benchmarks reliability` is the same at full size.
"""

from __future__ import annotations

import sys

import pytest

from benchmarks.reliability import IN_FLIGHT, verdict


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="nothing there is killed as kill -9 does")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_killed_bulk_send_loses_nobody_and_sends_nobody_twice(backend: str) -> None:
    """After every kill -9 a run goes on: none lost, none billed twice, doubt bounded, settled."""
    found = verdict(backend=backend, count=600, kills=3, seed=1)
    assert (found.duplicates, found.lost, found.mistaken) == (0, 0, 0)
    assert found.most_doubt <= IN_FLIGHT
    assert found.doubt > 0
    assert found.unsettled < found.doubt
