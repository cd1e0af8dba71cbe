"""Help with unbroken words, so that an option such as --show-numbers can be read and copied.

Strategy: while click wraps a text, hyphens are replaced by non-breaking ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import click

_NO_BREAK: Final = "\N{NON-BREAKING HYPHEN}"
_NO_LIMIT: Final = 1000


def _joined(text: str) -> str:
    return text.replace("-", _NO_BREAK)


class WholeWords(click.HelpFormatter):
    """A help formatter that breaks no line at a hyphen."""

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        super().write_text(_joined(text))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write a list of options or commands with what each is for."""
        super().write_dl([(name, _joined(text)) for name, text in rows], col_max, col_spacing)

    def getvalue(self) -> str:
        """Return the help, with ordinary hyphens again."""
        return super().getvalue().replace(_NO_BREAK, "-")


class HelpContext(click.Context):
    """A click context whose help has unbroken words."""

    formatter_class = WholeWords


class Subcommands(click.Group):
    """A group whose help has the whole first line of each command's help."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands; click would cut lines off."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, self.commands[name].get_short_help_str(limit=_NO_LIMIT))
                    for name in self.list_commands(ctx)
                ]
            )


def with_whole_words(command: click.Command) -> click.Command:
    """Have a command and its subcommands show such help; return the command."""
    command.context_class = HelpContext
    if isinstance(command, click.Group):
        for below in command.commands.values():
            with_whole_words(below)
    return command
