"""Numbers as they are dialled within a country, made international.  No I/O.

Strategy: the tables are those of `phonenumbers`, a port of Google's libphonenumber; it comes with
the extra `numbers`.  A number is read in two ways, as one of the country and as an international
one without its +, and refused if both could be meant.

Rules:

* A number with a + is not changed, so that a later release of the tables cannot make it another
  number.
* The length decides whether a number is one of the country; whether it is assigned counts only if
  it could be another country's.
* If a 0 is dialled before the numbers of the country, a number without it is as likely to begin
  with its country code: if that reading is a number as well, it is refused instead of guessed.
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
    `NationalNumbers("US")` returns `+15551234888`.  A text with a + is returned unchanged, and
    so is one that is not a number, which sending refuses.

    Raises ConfigurationError for an unknown country.  The call raises
    InvalidMessage for a number that belongs to no country, or could belong to two.
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
    """Return the tables' reading of digits, None if no number can be so long."""
    try:
        number = phonenumbers.parse(digits, country)
    except phonenumbers.NumberParseException:
        return None
    is_possible = (
        phonenumbers.is_possible_number_with_reason(number)
        == phonenumbers.ValidationResult.IS_POSSIBLE
    )
    # In a country without a leading 0, one in front is taken as a digit.
    if number.italian_leading_zero and not phonenumbers.is_valid_number(number):
        return None
    return number if is_possible else None


def _written(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
