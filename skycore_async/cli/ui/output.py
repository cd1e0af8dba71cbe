"""Output of all commands: exit codes, lines for people, errors, and JSON for programs.

Rules:

* A command's result goes to standard output, everything else to standard error.
* A user's mistake is one line that says what to do, and never a traceback.
* Everything for people is printed by `say` and `fail`, which replace characters that move a cursor
  or reverse text: it may have come over the wire.
* Nothing is loaded here that `skycore --help` does not need.
"""

from __future__ import annotations

import enum
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NoReturn

import attrs
import click

from .times import iso_time
from .wrapping import width_of, wrapped

EXIT_CODES = """\b
Exit codes: 0 done, 1 not all came out well, 2 wrong usage, 3 refused by
Skycore, 4 not sent, 5 may have been sent, 130 interrupted."""


class Exit(enum.IntEnum):
    """The exit codes of commands."""

    DONE = 0
    NOT_ALL_WELL = 1
    USAGE = 2
    REFUSED = 3
    NOT_SENT = 4
    IN_DOUBT = 5
    INTERRUPTED = 130


# A password in a mistyped DSN, which was taken for something else.
_IN_URL: Final = re.compile(r"([^\s:@/]*:)[^\s@]+@")
_WORD: Final = re.compile(r"(password\s*=\s*)(?:'[^']*'|\S+)", re.IGNORECASE)

STANDARD_OUTPUT: Final = Path("-")  # where a command takes a file to write to
NO_STREAM: Final = "it takes a file, and no standard input or output; a file of that name is ./-"


def printable(text: str, *, keep: str = "") -> str:
    """Return a text without characters that move a cursor, reverse text or are invisible.

    Other white space becomes a blank, except for the characters in `keep`.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else " " if c.isspace() else "\ufffd" for c in text
    )


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line; line breaks at its ends print empty lines."""
    line = text.strip("\n")
    before, after = text.partition(line)[::2] if line else (text, "")
    click.echo(f"{before}{_fitted(printable(line), err=err)}{after}", err=err)


def _fitted(line: str, *, err: bool) -> str:
    width = width_of(sys.stderr if err else sys.stdout)
    return line if not width else wrapped(line, width)


def announce(text: str) -> None:
    """Print a line of news to standard error; where that fails, the command goes on."""
    with suppress(OSError):
        say(text, err=True)


def say_lines(lines: Iterable[str]) -> None:
    """Print lines at once, as they are: they have to be printable."""
    click.echo("\n".join(lines))


def fail(message: str, code: Exit = Exit.USAGE) -> NoReturn:
    """Print what is wrong and what to do, in one line, and end the program."""
    hidden = _WORD.sub(r"\1***", _IN_URL.sub(r"\1***@", message))
    say(f"skycore: {hidden}", err=True)
    sys.exit(code)


def drop_unwritten() -> None:
    """Drop what the output did not take, so that Python's end does not change the exit code.

    From version 3.14 on, Python keeps it and tries to write it again.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def print_outcome(show: Callable[[], None], *, known: str) -> bool:
    """Print outcomes by `show`, and return whether the output took them.

    Where it did not, as on a full disk, `known` is printed to standard error: a user who is told
    nothing would send the messages again.
    """
    try:
        show()
    except OSError as error:
        drop_unwritten()
        announce(f"skycore: the output could not be written: {error.strerror}; {known}")
        return False
    return True


def emit(value: object) -> None:
    """Print a value as one line of JSON, in ASCII, which every stream can encode."""
    click.echo(json.dumps(plain(value)))


def plain(value: object) -> Any:
    """Return a value as JSON has it: attrs values and mappings as objects, times in ISO 8601.

    Times are in UTC where their zone is known.  An amount is a number.
    """
    kind: Any = type(value)
    if attrs.has(kind):
        return {
            field.name.rstrip("_"): plain(getattr(value, field.name))
            for field in attrs.fields(kind)
        }
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, datetime):
        return iso_time(value)
    if isinstance(value, Decimal):
        value = float(value)
    return value if isinstance(value, int | float | None) else str(value)


def is_nowhere() -> bool:
    """Return whether the working directory was removed: no relative path leads anywhere."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def reason_of(error: OSError) -> str:
    """Return why the system refused an address, without the address that Python adds."""
    return (error.strerror or str(error)).partition(" (while ")[0]


def number_of(count: int, noun: str) -> str:
    """Return a count and its noun, in the plural where needed."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
