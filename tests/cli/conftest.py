"""Fixtures of the command tests: a user's files of their own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from skycore_async.simulator import API_KEY, Simulator


@pytest.fixture(autouse=True)
def users_files_of_this_test(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begin each test with an empty list of opt-outs and no earlier campaign."""
    monkeypatch.setenv("SKYCORE_HOME", str(tmp_path_factory.mktemp("user")))


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of its own, with an API key and a sender."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKYCORE_API_KEY", API_KEY)
    monkeypatch.setenv("SKYCORE_FROM", "60856")


@pytest.fixture
def simulator(surroundings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Run a simulator at the base URL."""
    with Simulator() as running:
        monkeypatch.setenv("SKYCORE_BASE_URL", running.url)
        yield running
