"""The numbers of a country on the command line: `--country`, and what reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from .output import fail

if TYPE_CHECKING:
    from ...protocol.numbers import NumberReader

country_option: Final = click.option(
    "--country",
    metavar="XX",
    help="Read numbers without a country code as those of a country, as US (extra `numbers`).",
)


def number_reader_of(country: str | None) -> NumberReader | None:
    """Return what reads the numbers of a country, or fail where there is none of that name."""
    if country is None:
        return None
    # What printing the help need not wait for.
    from ...errors import ConfigurationError  # noqa: PLC0415
    from ...protocol.national_numbers import NationalNumbers  # noqa: PLC0415 - the extra `numbers`

    try:
        return NationalNumbers(country)
    except ConfigurationError as error:
        fail(f"--{error}")
