"""Messages about wrong usage: with unbroken words, and the option that was likely meant."""

from __future__ import annotations

import io
from typing import IO, Any

import click
from click.exceptions import NoArgsIsHelpError

from .output import say


class WrongUsage(click.UsageError):
    """A usage error of click's, printed as commands print everything."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the error and the usage of the command to standard error."""
        text = io.StringIO()
        super().show(text)
        for line in text.getvalue().splitlines():
            say(line, err=True)


def describe_usage_error(error: click.UsageError) -> click.UsageError:
    """Return click's error as one to be shown like this; what is only help stays as it is."""
    if isinstance(error, NoArgsIsHelpError):
        return error
    if isinstance(error, click.NoSuchOption) and error.possibilities:  # the nearest one first
        message = f"{error.message.rstrip('.')}. Did you mean {error.possibilities[0]!r}?"
    else:
        message = error.format_message()
    return WrongUsage(message, error.ctx)
