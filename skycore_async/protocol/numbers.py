"""Phone numbers, as people write them and as the API takes them.  No I/O."""

from __future__ import annotations

import re
from typing import Final

from ..errors import InvalidMessage

# What people and address books put around a number: punctuation, the no-break
# spaces and hyphens of typeset text, and the invisible marks of copied text.
_FORMATTING: Final = re.compile(
    "[ \t\\-./()\u00a0\u2007\u2009\u202f\u2010-\u2015\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069]"
)
_NUMBER: Final = re.compile(r"(?!00)[0-9]{5,15}", re.ASCII)
# A number that passed through a table of amounts: the zeros are no digits of it.
_AMOUNT: Final = re.compile(r"\s*\+?[0-9]+\.00?\s*", re.ASCII)


def number(to: str) -> str:
    """Strip the formatting from a phone number and return its digits.

    Raises InvalidMessage unless 5 to 15 digits without a `00` prefix are left,
    which is what the API takes, and for a decimal number: without its point
    `15551234888.0` would be somebody else's.
    """
    if not isinstance(to, str):
        raise InvalidMessage(f"a str is needed, not {type(to).__name__}", field="to")
    if _NUMBER.fullmatch(to):
        return to
    if _AMOUNT.fullmatch(to):
        raise InvalidMessage(
            f"{to[:40]!r} is a decimal number, and not in international format: give the digits"
            " before the point as text",
            field="to",
        )
    digits = _FORMATTING.sub("", to).removeprefix("+")
    if not _NUMBER.fullmatch(digits):
        raise InvalidMessage(
            f"{to[:40]!r} is no phone number in international format:"
            " 5 to 15 digits, with no 00 in front",
            field="to",
        )
    return digits


def digits(number: str | None) -> str | None:
    """Return a number as the ledger keeps it."""
    return None if number is None else "".join(filter(str.isdecimal, number))
