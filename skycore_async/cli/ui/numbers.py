"""The option `--country`, and the reader of a country's numbers."""

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
