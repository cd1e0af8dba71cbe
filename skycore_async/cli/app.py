"""The commands of `skycore`: their names, in order, and how each is loaded.

Strategy: the group has a table of names and lines of help.  A command's module is imported when
the command runs or its own help is printed, so that `skycore --help` loads none.

Rules:

* A module in `commands/` has one click command, with the name of the module, but hyphens for
  underscores.
* Errors that any command can meet are handled here: an extra that is not
  installed, Ctrl-C, a stream that cannot hold a character, a full disk, a path that cannot be.
"""

from __future__ import annotations

import errno
import logging
import shutil
import sys
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from typing import Any, Final, cast

from ..runtime.extras import MissingExtra, missing
from ..version import __version__

try:
    import click
except ImportError as error:
    raise missing("cli", error) from error

from .ui.beside import LogBeside
from .ui.help import HelpContext, with_whole_words
from .ui.interrupts import as_one_interrupt
from .ui.output import Exit, drop_unwritten, fail, is_nowhere
from .ui.usage import describe_usage_error

COMMANDS: Final = {
    "demo": "Run the main job against a simulator on this machine.",
    "send": "Send one message.",
    "bulk": "Send a message to every row of a CSV file.",
    "worker": "Send the messages of campaigns, together with other workers.",
    "cluster": "Manage the database that workers share.",
    "settle": "End what is in doubt, by Skycore's own report.",
    "status": "Show what became of messages, from a ledger.",
    "report": "Make a web page of a ledger.",
    "export": "Write the messages of a ledger as a table, for other programs.",
    "prune": "Forget the numbers and texts of what is old.",
    "opt-outs": "List, add and remove numbers that may not be sent to.",
    "inbox": "Show the texts that handsets sent.",
    "listen": "Receive postbacks, record them, and show them.",
    "simulate": "Run a pretend Skycore to send to.",
    "parse": "Show what the body of a postback says.",
    "segments": "Show how many segments a text takes, and why.",
}


class Commands(click.Group):
    """A group that imports a command when it is needed."""

    context_class = HelpContext

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which users need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; its module is imported for it."""
        if cmd_name in self.commands or cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        name = cmd_name.replace("-", "_")
        module = import_module(f".commands.{name}", __package__)
        return with_whole_words(cast("click.Command", getattr(module, name)))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was typed; fail with the name that was likely meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], COMMANDS, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without loading one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Return the context, with help up to 78 columns wide as the terminal allows."""
        extra.setdefault("terminal_width", min(shutil.get_terminal_size().columns, 80) - 2)
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise describe_usage_error(error) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error that any command can meet is one line and an exit code."""
        try:
            with as_one_interrupt():
                return self._invoke(ctx)
        except KeyboardInterrupt:  # also a second one, while the first is reported
            fail("interrupted", Exit.INTERRUPTED)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise describe_usage_error(error) from error
        except MissingExtra as error:
            fail(str(error), Exit.NOT_ALL_WELL)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                drop_unwritten()
                why = "the output, or a file that goes with it, could not be written"
                fail(f"a disk is full: {why}", Exit.NOT_ALL_WELL)
            if error.filename is None:  # as for a pipe that nobody reads
                if is_nowhere():
                    fail(
                        "the directory that it is run in was removed: change to one that is there"
                    )
                raise
            fail(f"{error.filename}: {error.strerror}")
        except UnicodeEncodeError:  # only of arguments: everything else is read as UTF-8
            fail("an argument is not all text in UTF-8")


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""
    Send SMS through Skycore, and know what became of each one.

    Without an account, begin with `skycore demo`, or with `skycore simulate`
    in one terminal and `skycore send` in another.

    The API key is read from SKYCORE_API_KEY or from a file, and is never an
    argument, which others on the machine could see.

    \b
    To complete commands and options with the Tab key, put one line into
    ~/.bashrc:
      eval "$(_SKYCORE_COMPLETE=bash_source skycore)"
    ~/.zshrc:
      eval "$(_SKYCORE_COMPLETE=zsh_source skycore)"
    ~/.config/fish/completions/skycore.fish:
      _SKYCORE_COMPLETE=fish_source skycore | source
    """,
)
@click.version_option(__version__, prog_name="skycore")
def skycore() -> None:
    """Set up what all commands write to."""
    if not logging.getLogger().handlers:  # else a program that calls a command has set up its log
        # The commands tell the user themselves what the SDK warns of.
        logging.basicConfig(level=logging.ERROR, handlers=[LogBeside(logging.ERROR)])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
