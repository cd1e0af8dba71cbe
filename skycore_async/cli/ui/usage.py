"""Wrong usage in words: on lines of whole words, and with the one option that was likely meant."""

from __future__ import annotations

import io
from typing import IO, Any

import click
from click.exceptions import NoArgsIsHelpError

from .output import say


class WrongUsage(click.UsageError):
    """What click found wrong with what was typed, shown as all else is that commands say."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it, with how the command is called, to standard error."""
        text = io.StringIO()
        super().show(text)
        for line in text.getvalue().splitlines():
            say(line, err=True)


def describe_usage_error(error: click.UsageError) -> click.UsageError:
    """Return what click found wrong as it is to be shown; what is help stays so."""
    if isinstance(error, NoArgsIsHelpError):
        return error
    if isinstance(error, click.NoSuchOption) and error.possibilities:  # the nearest one first
        message = f"{error.message.rstrip('.')}. Did you mean {error.possibilities[0]!r}?"
    else:
        message = error.format_message()
    return WrongUsage(message, error.ctx)
