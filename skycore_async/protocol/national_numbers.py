"""Numbers as they are dialled within a country, made international.  No I/O.

Strategy: the tables are those of `phonenumbers`, a port of Google's libphonenumber; it
comes with the extra `numbers`.  A number is read in two ways, as one of the country and as
one that lacks its +, and where both could be meant it is refused.

Rules:

* A number with a + stays as it is, so that a later release of the tables cannot make
  another of it.
* A number of the country is taken for one by its length; that it is assigned counts only
  where it could be another's.
* Where a 0 is dialled before the numbers of the country, one without that 0 is as likely
  to have its country code in front: if that is a number as well, nobody guesses.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from ..errors import ConfigurationError, InvalidMessage
from ..runtime.extras import missing
from .numbers import bare, is_international

try:
    import phonenumbers
except ImportError as error:
    raise missing("numbers", error) from error

_DIGITS: Final = re.compile("[0-9]{1,20}", re.ASCII)


def _region(country: str) -> str:
    region = country.upper() if isinstance(country, str) else ""
    if region not in phonenumbers.SUPPORTED_REGIONS:
        raise ConfigurationError(
            f"country: {country!r} is no country: its two letters are needed, as US, or GB for"
            " the United Kingdom"
        )
    return region


@attrs.frozen
class NationalNumbers:
    """Read numbers as they are dialled within a country; the `number_reader=` of a client.

    `country` is its two letters (ISO 3166-1).  Called with `(555) 123-4888`,
    `NationalNumbers("US")` returns `+15551234888`; what is written with a + is returned
    as it is, and so is what is no number, which sending refuses.

    Raises ConfigurationError for an unknown country.  The call raises
    InvalidMessage for a number that is of no country, or could be of two.
    """

    country: str = attrs.field(converter=_region)

    def __call__(self, to: str) -> str:
        """Return a number in international format."""
        digits = bare(to)
        if is_international(to) or not _DIGITS.fullmatch(digits):
            return to
        national = _parsed(digits, self.country)
        international = None if digits.startswith("0") else _parsed(f"+{digits}", None)
        if national is None:
            if international is not None:
                return _written(international)
            raise InvalidMessage(
                f"{to[:40]!r} is no number of {self.country}: write that of another country with"
                " + and its country code",
                field="to",
            )
        if international is None or not phonenumbers.is_valid_number(international):
            return _written(national)
        return self._chosen(to, national, international)

    def _chosen(
        self, to: str, national: phonenumbers.PhoneNumber, international: phonenumbers.PhoneNumber
    ) -> str:
        """Return one of two readings, of which the second is a number that is assigned."""
        if national == international:
            return _written(national)
        if self._has_zero_in_front:
            if international.country_code == national.country_code:
                return _written(international)
        elif phonenumbers.is_valid_number(national):
            return _written(national)
        raise InvalidMessage(
            f"{to[:40]!r} could be {_written(national)} or {_written(international)}: write the"
            " one that is meant",
            field="to",
        )

    @property
    def _has_zero_in_front(self) -> bool:
        metadata = phonenumbers.PhoneMetadata.metadata_for_region(self.country)
        return metadata is not None and (metadata.national_prefix or "").startswith("0")


def _parsed(digits: str, country: str | None) -> phonenumbers.PhoneNumber | None:
    """Return what the tables make of digits, None where no number can be so long."""
    try:
        number = phonenumbers.parse(digits, country)
    except phonenumbers.NumberParseException:
        return None
    is_possible = (
        phonenumbers.is_possible_number_with_reason(number)
        == phonenumbers.ValidationResult.IS_POSSIBLE
    )
    # Where no 0 is dialled, one in front is taken for a digit.
    if number.italian_leading_zero and not phonenumbers.is_valid_number(number):
        return None
    return number if is_possible else None


def _written(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
