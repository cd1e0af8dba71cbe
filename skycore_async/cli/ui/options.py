"""Options that several commands have, and the numbers that options take.

Rule: nothing is loaded here that `skycore --help` does not need.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Final, get_args

import click

from ...runtime.secret import Secret
from ...transports.choice import Road
from .dsn import FilePath
from .output import fail


def _range_text(numbers: click.FloatRange | click.IntRange) -> str:
    """Describe a range of numbers."""
    if numbers.max is not None:
        return f"{numbers.min} to {numbers.max}"
    return f"more than {numbers.min}" if numbers.min_open else f"{numbers.min} or more"


class Number(click.FloatRange):
    """A finite number on the command line; the name is for error messages."""

    name = "number"

    def _describe_range(self) -> str:  # for help and error messages of click's
        return _range_text(self)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; nan is refused, since it compares with no limit."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a valid number.", param, ctx)
        return number


class WholeNumber(click.IntRange):
    """A whole number on the command line; the name is for error messages."""

    name = "whole number"

    def _describe_range(self) -> str:
        return _range_text(self)


RATE: Final = Number(min=0.001)  # messages per second

in_flight_option = click.option(
    "--in-flight",
    type=WholeNumber(1, 10_000),
    metavar="N",
    default=50,
    show_default=True,
    help="Connections.",
)
transport_option = click.option(
    "--road",
    "transport",
    type=click.Choice(get_args(Road)),
    default="fast",
    show_default=True,
    help="The client's transport=: connections of this package itself, or of httpx.",
)
opt_outs_option = click.option(
    "--opt-outs",
    metavar="FILE",
    envvar="SKYCORE_OPT_OUTS",
    show_envvar=True,
    help="The list of who may not be sent to, `none` for none [your own, for all ledgers].",
)


def _tags(_ctx: click.Context, _param: click.Parameter, tags: tuple[str, ...]) -> tuple[str, ...]:
    from ...errors import InvalidMessage  # noqa: PLC0415 - not for help
    from ...protocol.requests import check_tags  # noqa: PLC0415

    try:
        check_tags(tags)
    except InvalidMessage as error:
        raise click.BadParameter(f"{error}.") from error
    return tags


tags_option = click.option(
    "--tag",
    "tags",
    multiple=True,
    callback=_tags,
    metavar="TAG",
    help="A word by which exports and reports tell the messages apart; again for more.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
base_url_option = click.option(
    "--base-url",
    metavar="URL",
    envvar="SKYCORE_BASE_URL",
    show_envvar=True,
    help="Where the API is, its path and all, as of a simulator.",
)
api_key_file_option = click.option(
    "--api-key-file",
    type=FilePath(dir_okay=False, path_type=Path),
    help="A file that holds the API key; else SKYCORE_API_KEY does.",
)


def read_api_key(file: Path | None) -> Secret:
    """Return the API key from a file, or from the environment where no file is given."""
    try:
        key = Secret(
            os.environ.get("SKYCORE_API_KEY", "") if file is None else file.read_text("utf-8")
        )
    except UnicodeDecodeError:
        fail(f"{file} holds no API key: it is not text")
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    if not key.reveal().strip():
        empty = "" if file is None else f"{file} is empty: "
        fail(
            f"{empty}no API key: set SKYCORE_API_KEY, or name a file that holds it with"
            " --api-key-file"
        )
    return key
