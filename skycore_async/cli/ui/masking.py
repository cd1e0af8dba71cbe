"""Phone numbers in text that is shown.  No I/O.

Strategy: a number that stands once and unformatted, as in a key, is masked without a pattern:
every number would need a pattern of its own.

Rules:

* A number is found in any form that people and the provider write, with or without its country
  code, and with blanks or signs between its digits.
* The time needed grows only with the length of the text, whatever the number: the sender of a
  postback chooses both.
"""

from __future__ import annotations

import re
from typing import Final

from ...messages import masked
from ...protocol.numbers import LONGEST

_SHOWN: Final = 4  # of the last digits
_LEAST: Final = 7  # digits without a country or area code
_BETWEEN: Final = r"[\s().+/-]*"
_NO_DIGIT: Final = re.compile(r"[^0-9]+")


def mask_in(text: str, number: str) -> str:
    """Return a text in which a number is masked but for its last four digits."""
    if number.isdecimal() and number.isascii():
        digits, local = _NO_DIGIT.sub("", text), number[-_LEAST:]
        place = digits.find(local)
        if place < 0:
            return text
        if number in text and digits.rfind(local) == place and _SHOWN < len(number) <= LONGEST:
            return text.replace(number, masked(number))
    return _masked_by_pattern(text, number)


def _masked_by_pattern(text: str, number: str) -> str:
    digits = [digit for digit in number if digit.isdigit()][-LONGEST:]
    code, local = digits[:-_LEAST], digits[-_LEAST:]
    if len(local) <= _SHOWN:
        return text
    prefix = ""
    for digit in code:  # nested, so that there is one way to leave digits out
        prefix = f"(?:{prefix}{digit}{_BETWEEN})?"
    return re.sub(prefix + _BETWEEN.join(local), _masked, text, flags=re.ASCII)


def _masked(found: re.Match[str]) -> str:
    written = found[0]
    hidden = sum(map(str.isdigit, written)) - _SHOWN
    return re.sub(r"[0-9]", "*", written, count=hidden)
