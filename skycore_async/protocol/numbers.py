"""Phone numbers, as people write them and as the API takes them.  No I/O.

Strategy: formatting is stripped, and the rest has to be digits that can be a number in
international format.  Otherwise the first rule of a table that it breaks gives the error text,
which says what to write instead.

Rules:

* No country code begins with 0, so a number that begins with 0 is dialled within some country, or
  has a prefix for calls abroad.
* A 0 alone in parentheses, or after a country code for which it is only dialled within the
  country, is not a digit of the number.  `+39 (06) ...` is Rome, and its 0 stays.
* Digits are 0 to 9: those of other scripts are refused, and never converted.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Final

from ..errors import InvalidMessage

# Converts a number, as written, to international format: a client's `number_reader`.
NumberReader = Callable[[str], str]

# Characters that people and address books put into a number: punctuation, the no-break spaces and
# hyphens of typeset text, and the invisible marks of copied text.
_FORMATTING: Final = re.compile(
    "[ \t\\-./()\u00a0\u2007\u2009\u202f\u2010-\u2015\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069]"
)
SHORTEST: Final = 5  # digits of a number that the API takes
_LEAST: Final = 7  # digits of one within its country ...
MOST_WITHIN_COUNTRY: Final = 10  # ... and of one in America, which has no 0 in front
LONGEST: Final = 40  # digits that are kept of one; the API takes 15, with what is dialled before
# The country codes within which a 0 is dialled before a number, and after which none of their
# numbers begins with one.  Source: libphonenumber 9.0; a test holds them against it.
_ZERO_IS_A_PREFIX: Final = (
    "20|27|31|32|33|40|41|43|44|46|49|51|53|54|55|57|58|60|61|63|64|84|86|90|92|93|94|95|98"
    "|211|212|213|218|231|232|233|234|243|249|251|252|254|255|256|260|261|262|263|264|265|291"
    "|353|355|358|370|373|374|377|380|381|382|383|385|386|387|389|421|423|508|590|591|593|594"
    "|595|596|686|850|855|856|880|886|961|962|963|964|966|967|970|971|972|976|977|994|995|996"
)
# The country codes of one and two digits that are assigned; the others have three (ITU-T E.164).
_COUNTRY_CODE: Final = re.compile(
    "[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[0-9]{3}", re.ASCII
)
_PREFIXED: Final = f"({_ZERO_IS_A_PREFIX})0"
# Digits that surely begin with none of them are ruled out first, without a look at all the codes.
_NUMBER: Final = re.compile(
    f"[17][0-9]{{{SHORTEST - 1},14}}|(?!0|{_PREFIXED})[0-9]{{{SHORTEST},15}}", re.ASCII
)
_is_number: Final = _NUMBER.fullmatch
# A number from a spreadsheet of amounts: its decimal zeros are not digits of the number.
_AMOUNT: Final = re.compile(r"\s*\+?[0-9]+\.00?\s*", re.ASCII)
_BARE_ZERO: Final = re.compile(r"\(\s*0\s*\)", re.ASCII)


def number(to: str, reader: NumberReader | None = None) -> str:
    """Strip the formatting from a phone number and return its digits.

    With a `reader`, these are the digits of what it returns for the number.

    Raises InvalidMessage unless 5 to 15 digits are left, which is what the API takes, for
    what is surely not in international format (the rules above), and for a decimal
    number: without its point `15551234888.0` would be somebody else's.
    """
    if not isinstance(to, str):
        raise InvalidMessage(f"a str is needed, not {type(to).__name__}", field="to")
    if reader is not None and not _AMOUNT.fullmatch(to):
        return number(_read(to, reader))
    if _is_number(to):
        return to
    stripped = bare(to)
    if (why := _fault(to, stripped)) is not None:
        raise InvalidMessage(f"{to[:40]!r} {why}", field="to")
    return stripped


def _read(to: str, reader: NumberReader) -> str:
    try:
        return reader(to)
    except InvalidMessage:
        raise
    except Exception as error:  # whatever it is, it concerns this message alone
        raise InvalidMessage(
            f"number_reader raised {type(error).__name__} for {to[:40]!r}", field="to"
        ) from error


def bare(to: str) -> str:
    """Return a number without formatting and without its +."""
    return _FORMATTING.sub("", to).removeprefix("+")


def is_international(to: str) -> bool:
    """Return whether a number is marked as one with its country code, by a + in front."""
    return _FORMATTING.sub("", to).startswith("+")


def country_code(digits: str) -> str:
    """Return the country code that a number in international format begins with."""
    code = _COUNTRY_CODE.match(digits)
    return "" if code is None else code[0]


@functools.lru_cache(maxsize=1024)  # called for a row at its look-up and again as it begins
def names_within_country(number: str) -> tuple[str | None, str | None]:
    """Return the forms in which an international number is dialled within its country.

    The first has a 0 in front.  The second has none, and is given only if it is no longer than an
    American number: a longer one is most likely a whole number of another country.  None stands
    for a form that does not exist.
    """
    code = _COUNTRY_CODE.match(number)
    called = number[code.end() :].lstrip("0") if code is not None else ""
    if len(called) < _LEAST:
        return None, None
    return f"0{called}", called if len(called) <= MOST_WITHIN_COUNTRY else None


def may_be_within_country(name: str) -> bool:
    """Return whether a number may be one as dialled within a country."""
    return name.startswith("0") or len(name) <= MOST_WITHIN_COUNTRY


def spellings(number: str) -> tuple[str, ...]:
    """Return the forms in which a postback may name an international number, itself first."""
    return (number, *filter(None, names_within_country(number)))


def _fault(written: str, stripped: str) -> str | None:
    """Return what is wrong with a number, given as written and without formatting."""
    if _AMOUNT.fullmatch(written):
        return (
            "is a decimal number, and not in international format: give the digits before the"
            " point as text"
        )
    if not re.fullmatch("[0-9]{5,15}", stripped):
        return (
            "is no phone number in international format: 5 to 15 digits (0 to 9), the country"
            " code first"
        )
    if _BARE_ZERO.search(written):
        return (
            "is not in international format, as its (0) is dialled in one country alone: leave it"
            " out, as in +44 20 7946 0958, or in Italy write it as a digit, as in +39 06 1234567"
        )
    if stripped.startswith("0"):
        return (
            "is not in international format, as no country code begins with 0: write the country"
            " code first, with no 00, 011 or 0 before it, as in +44 20 7946 0958"
        )
    if prefixed := re.match(_PREFIXED, stripped):
        return (
            f"is not in international format, as no number of the country code {prefixed[1]}"
            " begins with 0: write the country code first, and no 0 after it, as in"
            " +44 20 7946 0958"
        )
    return None


def ending(number: str) -> str:
    """Return the last digits of a number, equal for all numbers that `may_be_same`."""
    return number[-SHORTEST:]


def may_be_same(one: str, other: str) -> bool:
    """Return whether two numbers, as digits, may be the same with and without country code.

    Leading zeros are ignored: they are prefixes to dial out of an area or a country.
    """
    short, long = sorted((one.lstrip("0"), other.lstrip("0")), key=len)
    return one == other or (len(short) >= SHORTEST and long.endswith(short))


def is_name(sender: str) -> bool:
    """Return whether a sender is a name instead of a number."""
    return any(map(str.isalpha, sender))


def is_sender(one: str, other: str) -> bool:
    """Return whether two senders, short codes or names, may be the same."""
    if is_name(one + other):
        return one.casefold() == other.casefold()
    return may_be_same(str(digits(one)), str(digits(other)))


def digits(number: str | None) -> str | None:
    """Return a number as the ledger stores it: as digits from 0 to 9, whatever its script.

    A text that is far too long for a number is cut to its end, so that any database can index it.
    """
    if number is None or (number.isascii() and number.isdecimal() and len(number) <= LONGEST):
        return number
    known = [str(int(character)) for character in number if character.isdecimal()]
    return "".join(known[-LONGEST:])
