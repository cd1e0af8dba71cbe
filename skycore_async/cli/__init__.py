"""The command line, `skycore`.  Its libraries come with the extra `cli`.

Rules:

* A program that Ctrl-C ends says so in words, however often and whenever it is pressed.  Until a
  command hears signals, and again once it has ended, that is for whoever calls it to see to.
* Who closes standard input or output, as some that run others in the background do, has nothing
  to be read or to be shown: a command goes on as with /dev/null there.
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
    except KeyboardInterrupt:  # while modules are imported, or as the words of another are said
        _end_at_the_next()
        sys.stderr.write("skycore: interrupted\n")
        sys.exit(130)
    finally:
        _end_at_the_next()


def _end_at_the_next() -> None:
    """Have another Ctrl-C end the process where it stands, which has nothing left to do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _open_what_is_closed() -> None:
    """Have all three streams: also so that no other file takes the place of one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", closefd=False))
