"""How a PostgreSQL database is named on the command line.

Rules:

* A DSN may contain a password, so the database's own name is shown in its place.  It is a `Secret`
  from where it is read to where it is used, and in no frame of a traceback.
* It may come from SKYCORE_DSN, where other users of the machine do not see it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from ...runtime.secret import Secret
from .output import NO_STREAM, fail

ENVIRONMENT: Final = "SKYCORE_DSN"
_SCHEMES: Final = ("postgresql://", "postgres://")
# What a DSN has even if it is mistyped: a keyword of libpq, a scheme, a password and host.
_SIGNS: Final = re.compile(r"=|://|:.*@|^\s*(?:postgres|pgsql|psql)\w*[:/]", re.IGNORECASE)
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")  # as paths on Windows begin


def is_dsn(text: str) -> bool:
    """Return whether a text names a database, and not a file.

    A mistyped DSN counts as one: it may contain a password, and must not be shown.
    """
    has_signs = _SIGNS.search(_DRIVE.sub("", text, count=1)) is not None
    return text.startswith(_SCHEMES) or (has_signs and not _is_there(text))


class HiddenText(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic since click 8.2
    """A text on the command line or in the environment that may be a DSN, kept as a `Secret`."""

    name = "text"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Secret:
        """Return the text, hidden."""
        return value if isinstance(value, Secret) else Secret(value)


class FilePath(click.Path):
    """A path on the command line that is a file's, where a DSN is refused and not shown.

    `-` is refused, too, where it does not stand for standard input or output.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if isinstance(value, str) and is_dsn(value):
            self.fail("it takes a file, and no database", param, ctx)
        if value == "-" and not self.allow_dash:
            self.fail(NO_STREAM, param, ctx)
        return super().convert(value, param, ctx)


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # as where it is too long for a name
        return False


def dsn_of(given: Secret | None) -> Secret:
    """Return the given DSN, else that of the environment; fail where there is none."""
    if given is not None and given.reveal():
        return given
    dsn = Secret(os.environ.get(ENVIRONMENT, ""))
    if not dsn.reveal():
        fail(f"name the database, as postgresql://host/database, or set {ENVIRONMENT}")
    return dsn


def dsn_and_names(arguments: Sequence[Secret], *, names: str) -> tuple[Secret, list[str]]:
    """Return the DSN, the first argument or that of the environment, and the other arguments.

    `names` says what those arguments are; more or fewer of them end the program.
    """
    given = arguments[0] if arguments and is_dsn(arguments[0].reveal()) else None
    rest = list(arguments[1:] if given else arguments)
    if len(rest) != len(names.split()):
        fail(
            f"name {names}, after the DSN if {ENVIRONMENT} is not set, or if the name has = or ://"
            " in it as a DSN has"
        )
    return dsn_of(given), [name.reveal() for name in rest]
