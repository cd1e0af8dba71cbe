"""The start time of a bulk send."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from skycore_async.cli.ui.start_time import StartTime


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as meanwhile:
        meanwhile.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="where a program has no zone of its own")
@pytest.mark.usefixtures("in_new_york")
@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("2027-03-14T01:59", "2027-03-14T01:59:00-05:00"),
        ("2027-03-14T02:30", "2027-03-14T02:30:00-05:00"),  # which clocks there show as 03:30
        ("2027-03-14T03:00", "2027-03-14T03:00:00-04:00"),
        ("2027-11-07T01:30", "2027-11-07T01:30:00-04:00"),  # the first of two
        ("2027-03-14T02:30+00:00", "2027-03-13T21:30:00-05:00"),
    ],
)
def test_nothing_starts_before_a_time_that_clocks_skip(given: str, found: str) -> None:
    """A start within an hour that clocks skip is not moved to before it."""
    # Python 3.13 names the same time with the other offset.
    assert StartTime().convert(given, None, None) == datetime.fromisoformat(found)
