"""Worlds are measured by no coverage, which would double their time: units are tested for that."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_coverage() -> Iterator[None]:
    """Have coverage rest, where it runs."""
    coverage = sys.modules.get("coverage")
    running = coverage.Coverage.current() if coverage else None
    if running is not None:
        running.stop()
    yield
    if running is not None:
        running.start()
