"""Fixtures that tests of campaigns share."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from skycore_async.postgres.schema import Connection
from tests.support.campaign_tables import empty_queue


@pytest.fixture
def connection(dsn: str) -> Iterator[Connection]:
    """Connect to empty tables, with those of the queue."""
    with psycopg.connect(dsn, autocommit=True) as opened:
        empty_queue(opened)
        yield opened
