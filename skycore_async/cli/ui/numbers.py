"""The option `--country`, the reader of a country's numbers, and numbers that may lack it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ...protocol.numbers import is_international
from .output import fail

if TYPE_CHECKING:
    from ...protocol.numbers import NumberReader

_AMERICAN: Final = 10  # digits: an area code that begins with none of 0 and 1, and seven more

country_option: Final = click.option(
    "--country",
    metavar="XX",
    help="Read numbers without a country code as those of a country, as US (extra `numbers`).",
)


def number_reader_of(country: str | None) -> NumberReader | None:
    """Return the reader of a country's numbers; fail where there is no such country."""
    if country is None:
        return None
    # Loaded here, as it would slow the help down.
    from ...errors import ConfigurationError  # noqa: PLC0415
    from ...protocol.national_numbers import NationalNumbers  # noqa: PLC0415 - the extra `numbers`

    try:
        return NationalNumbers(country)
    except ConfigurationError as error:
        fail(f"--{error}")


def is_perhaps_american(digits: str, written: str) -> bool:
    """Return whether a number may be an American one, written without its country code."""
    is_long_enough = len(digits) == _AMERICAN and digits[0] >= "2"
    return is_long_enough and not is_international(written)
