"""The time zones that a phone number is in, by its digits.  No I/O.

Strategy: the tables are those of `phonenumbers`, a port of Google's libphonenumber; it
comes with the extra `numbers`.

Rules:

* A number that nobody is given has no zone that is known.
* One that moves with its owner is in every zone of its country: a toll-free number of
  America, or a mobile one of Russia.
"""

from __future__ import annotations

import functools
from typing import Final

from ..runtime.extras import missing

try:
    import phonenumbers
    from phonenumbers import timezone
except ImportError as error:
    raise missing("numbers", error) from error

_LATELY: Final = 4096  # numbers: each is asked for again when its message begins


@functools.lru_cache(maxsize=_LATELY)
def zones_of(to: str) -> tuple[str, ...]:
    """Return the zones that a number with its country code may be in.

    They are names as America/New_York; none where that is not known.
    """
    try:
        number = phonenumbers.parse(f"+{to.removeprefix('+')}")
    except phonenumbers.NumberParseException:
        return ()
    found = timezone.time_zones_for_number(number)
    return tuple(zone for zone in found if zone != timezone.UNKNOWN_TIMEZONE)
