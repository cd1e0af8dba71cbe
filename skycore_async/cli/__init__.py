"""The command line, `skycore`.  Its libraries come with the extra `cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say which extra it needs."""
    try:
        from .app import skycore  # noqa: PLC0415 - the extra `cli`
    except ImportError as error:
        sys.exit(f"skycore: {error}")
    skycore(prog_name="skycore")
