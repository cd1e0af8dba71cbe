"""Tests of files and processes, which are the same on trio and cost too much to run twice.

A module that imports `anyio_backend` has its tests run on asyncio alone.
"""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone."""
    return "asyncio"
