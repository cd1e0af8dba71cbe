"""The time zones that a phone number may be in, by its digits.  No I/O.

Strategy: the tables are those of `phonenumbers`, a port of Google's libphonenumber; it
comes with the extra `numbers`.

Rules:

* A number that is not assigned to anybody has no known zone.
* A number that is not tied to a place, such as an American toll-free number or a Russian mobile
  number, is in every zone of its country.
* North American numbers, as nearly all are, are looked up by their first digits, once for the
  thousands that share these: the last digits make no difference.
"""

from __future__ import annotations

import functools
import re
from typing import Final

from ..runtime.extras import missing

try:
    import phonenumbers
    from phonenumbers import timezone
except ImportError as error:
    raise missing("numbers", error) from error

_LATELY: Final = 4096  # numbers: each is asked for again when its message begins
_BEGINNINGS: Final = 16_384  # of North American numbers, some 3 MB

_NORTH_AMERICAN: Final = re.compile(r"\+?1([2-9][0-9]{9})")
_DECIDES_NOTHING: Final = 4  # digits at the end of a North American number ...
_DECIDE_NOTHING_THERE: Final = 3  # ... but in Barbados and Jamaica, where one more does
_THERE: Final = ("246", "658", "876")


def zones_of(to: str) -> tuple[str, ...]:
    """Return the zones that a number with its country code may be in.

    They are names such as America/New_York; empty if no zone is known.
    """
    if (north_american := _NORTH_AMERICAN.fullmatch(to)) is None:
        return _zones_of(to)
    number = north_american[1]
    last = _DECIDE_NOTHING_THERE if number.startswith(_THERE) else _DECIDES_NOTHING
    return _zones_of_beginning(number[:-last], 10**last)


@functools.lru_cache(maxsize=_BEGINNINGS)
def _zones_of_beginning(first: str, rest: int) -> tuple[str, ...]:
    """Return the zones of all North American numbers that begin with these digits."""
    return _known(phonenumbers.PhoneNumber(country_code=1, national_number=int(first) * rest))


@functools.lru_cache(maxsize=_LATELY)
def _zones_of(to: str) -> tuple[str, ...]:
    try:
        number = phonenumbers.parse(f"+{to.removeprefix('+')}")
    except phonenumbers.NumberParseException:
        return ()
    return _known(number)


def _known(number: phonenumbers.PhoneNumber) -> tuple[str, ...]:
    found = timezone.time_zones_for_number(number)
    return tuple(zone for zone in found if zone != timezone.UNKNOWN_TIMEZONE)
