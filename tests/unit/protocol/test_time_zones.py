"""The time zones of a number: by the tables of a library, and none where these know none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from re import _constants as kinds  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import phonenumbers
import pytest
from phonenumbers import timezone
from phonenumbers.phonemetadata import PhoneMetadata

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
    """An assigned number has the zones of its place, and any other has none."""
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


def patterns() -> Iterator[tuple[str, str]]:
    """Return what numbers of North America are like, by region."""
    for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[1]:
        known: Any = PhoneMetadata.metadata_for_region(region)
        for kind in vars(PhoneMetadata(region, register=False)):
            pattern = getattr(getattr(known, kind), "national_number_pattern", None)
            if pattern and kind != "_general_desc":
                yield region, pattern


def any_digits(items: Sequence[Any]) -> int:
    """Return how many digits at the end of what a pattern was parsed to may be any."""
    count = 0
    digit = (kinds.IN, [(kinds.CATEGORY, kinds.CATEGORY_DIGIT)])
    for kind, given in reversed(items):
        if (kind, given) == digit:
            count += 1
        elif kind is kinds.MAX_REPEAT and given[0] == given[1] and [*given[2]] == [digit]:
            count += given[0]
        elif kind is kinds.SUBPATTERN:
            return count + any_digits(given[3])
        elif kind is kinds.BRANCH:
            return count + min(map(any_digits, given[1]))
        else:
            return count
    return count


def test_the_last_digits_of_a_north_american_number_decide_nothing() -> None:
    """So that thousands of numbers can be looked up once; in two countries one more decides."""
    free = {region: 10 for region, _ in patterns()}
    for region, pattern in patterns():
        free[region] = min(free[region], any_digits(parser.parse(pattern)))
    assert len(free) > 20
    assert {region for region, count in free.items() if count < 4} == {"BB", "JM"}
    assert {free["BB"], free["JM"]} == {3}


@pytest.mark.parametrize("number", ["2465210", "2465211", "8766060", "8766061", "2125550"])
def test_numbers_looked_up_together_have_the_zones_of_each(number: str) -> None:
    """Numbers that share a look-up have the zones that each has by itself."""
    to = f"1{number}123"
    apart = timezone.time_zones_for_number(phonenumbers.parse(f"+{to}"))
    assert zones_of(to) == tuple(zone for zone in apart if zone != "Etc/Unknown")
