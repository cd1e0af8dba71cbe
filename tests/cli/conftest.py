"""What tests of commands share: files of a user of their own, for each test."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def users_files_of_this_test(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begin each test with nobody on the list, and without a campaign before."""
    monkeypatch.setenv("SKYCORE_HOME", str(tmp_path_factory.mktemp("user")))
