"""The promise across machines, compared with the simulator's bill, at a size for the suite.

`python -m benchmarks cluster` runs the same at full size.
"""

from __future__ import annotations

import sys

import pytest

from benchmarks.cluster import verdict
from benchmarks.postgres import Server

pytestmark = pytest.mark.unmeasured


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="nothing there is killed as kill -9 does")
def test_workers_in_all_kinds_of_trouble_lose_nobody(postgres_server: Server, dsn: str) -> None:
    """Workers killed and stopped, and a crashing PostgreSQL, lose and repeat no message.

    After a report, workers send what it proved not sent, and each message is billed exactly once.
    """
    found = verdict(
        postgres_server, count=2000, workers=2, kills=2, stops=1, restarts=1, in_flight=10
    )
    assert (found.duplicates, found.lost, found.left, found.mistaken) == (0, 0, 0, 0)
    assert found.doubt <= (2 + 1 + 2) * 10
    assert found.unsettled <= found.doubt
    assert (found.left_in_doubt, found.denied, found.not_billed_once) == (0, 0, 0)
