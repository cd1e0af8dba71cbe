"""The commands of `skycore`: their names, options, help and exit codes."""

from __future__ import annotations

import sys

from ..extras import missing
from ..version import __version__

try:
    import click
except ImportError as error:
    raise missing("cli", error) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="skycore")
def skycore() -> None:
    """Send SMS through Skycore, and know what became of each one."""


@skycore.command()
def demo() -> None:
    r"""Run the main job against a simulator on this machine.

    Starts a pretend Skycore and a postback endpoint, sends a handful of
    messages, takes their postbacks in, and shows what became of each.  Needs
    no account and sends nothing outside this machine.

    \b
    Exit codes: 0 if everything came out as it should, 1 if not.
    """
    try:
        from rich.console import Console

        from .demo import run
    except ImportError as error:
        sys.exit(f"skycore: {error}")
    sys.exit(run(Console()))
