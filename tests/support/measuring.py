"""Which tests and processes coverage measures: not every test, and few of their processes.

Strategy: a test that is marked `unmeasured` reaches no line of the core that others do not,
and would take twice the time.  A process that is measured takes a quarter of a second longer
to start and to end.  So the environment variable by which coverage starts in child processes is
kept here, and given only to processes that reach a line which no other reaches: children of a
fork, programs that run without an extra, and programs that end while a message is under way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_WORD: Final = "COVERAGE_PROCESS_CONFIG"
_kept: Final[dict[str, str]] = {}


@contextmanager
def unmeasured() -> Iterator[None]:
    """Stop coverage, if it runs, until the end of the context."""
    coverage = sys.modules.get("coverage")
    running = coverage.Coverage.current() if coverage else None
    if running is not None:
        running.stop()
    try:
        yield
    finally:
        if running is not None:
            running.start()


def leave_out_children() -> None:
    """Let coverage measure no child process, unless it is given `measured()`."""
    if word := os.environ.pop(_WORD, None):
        _kept[_WORD] = word


def measured() -> dict[str, str]:
    """Return the environment with which a child is measured, if this process is."""
    return {**os.environ, **_kept}
