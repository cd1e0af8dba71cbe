"""How long a worker waits that gets nothing through."""

from __future__ import annotations

import pytest

from skycore_async.campaigns.worker import WorkerTiming


@pytest.mark.parametrize(
    ("misses", "seconds"), [(1, 5.0), (2, 10.0), (4, 40.0), (5, 60.0), (5000, 60.0)]
)
def test_each_wait_is_twice_as_long_up_to_the_longest(misses: int, seconds: float) -> None:
    """Each pause is twice the last one, up to a maximum."""
    assert WorkerTiming().pause_after(misses) == seconds
