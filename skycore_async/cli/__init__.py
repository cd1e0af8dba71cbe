"""The command line, `skycore`.  Its libraries come with the extra `cli`.

Rules:

* A program that is ended by Ctrl-C says so, however often and whenever it is pressed.  This module
  does that before a command hears signals, and after the command has ended.
* Where standard input or output is closed, as by some programs that run others in the background,
  a command goes on as with /dev/null.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line, or say which extra it needs."""
    _open_what_is_closed()
    try:
        from .app import skycore  # noqa: PLC0415 - the extra `cli`

        skycore(prog_name="skycore")
    except ImportError as error:
        sys.exit(f"skycore: {error}")
    except KeyboardInterrupt:  # while modules are imported, or an earlier Ctrl-C is reported
        _end_at_the_next()
        sys.stderr.write("skycore: interrupted\n")
        sys.exit(130)
    finally:
        _end_at_the_next()


def _end_at_the_next() -> None:
    """Have another Ctrl-C end the process at once: nothing is left to do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _open_what_is_closed() -> None:
    """Open the standard streams that are closed, so that no other file takes their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", closefd=False))
