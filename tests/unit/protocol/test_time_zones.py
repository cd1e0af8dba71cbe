"""The time zones of a number: by the tables of a library, and none where these know none."""

from __future__ import annotations

import pytest

from skycore_async.protocol.time_zones import zones_of


@pytest.mark.parametrize(
    ("to", "zones"),
    [
        ("12125550100", ("America/New_York",)),
        ("13105550100", ("America/Los_Angeles",)),
        ("+1 (310) 555-0100", ("America/Los_Angeles",)),
        ("12085550100", ("America/Boise", "America/Los_Angeles")),  # Idaho has two
        ("33612345678", ("Europe/Paris",)),
        ("15551234888", ()),  # an area code that nobody has
        ("60856", ()),
        ("999123456789", ()),  # no country's
        ("882161234567", ()),  # of no country
    ],
)
def test_a_number_is_in_its_zones(to: str, zones: tuple[str, ...]) -> None:
    """A number that is assigned has those of its place; any other has none."""
    assert zones_of(to) == zones


@pytest.mark.parametrize(
    ("to", "some"),
    [
        ("18005550100", {"America/New_York", "Pacific/Honolulu", "Pacific/Guam"}),
        ("79111234567", {"Europe/Moscow", "Asia/Vladivostok"}),
    ],
)
def test_a_number_of_a_whole_country_is_in_all_of_its_zones(to: str, some: set[str]) -> None:
    """Where a toll-free or a mobile number is answered, nobody can tell by it."""
    assert some <= {*zones_of(to)}
