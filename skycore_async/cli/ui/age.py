"""Ages on the command line, in days or weeks."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

import click

_AGE: Final = re.compile(r"([0-9]{1,5})([dwDW])", re.ASCII)
_UNITS: Final = {"d": timedelta(days=1), "w": timedelta(weeks=1)}


class Age(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic since click 8.2
    """A number of days or weeks, as 180d or 26w."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the age."""
        found = _AGE.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is no age, as 180d (days) or 26w (weeks) is one.", param, ctx)
        return int(found[1]) * _UNITS[found[2].lower()]
