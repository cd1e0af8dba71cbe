"""Which of the processes that tests start are measured by coverage, where that runs.

Strategy: a process that is measured takes a quarter of a second longer to start and to
end.  So coverage's own word to the processes that its processes start is kept here, and
given to those alone that are the only ones to reach a line: children of a fork, programs
that run without an extra, and programs that end while a message is under way.
"""

from __future__ import annotations

import os
from typing import Final

_WORD: Final = "COVERAGE_PROCESS_CONFIG"
_kept: Final[dict[str, str]] = {}


def leave_out_children() -> None:
    """Have no process measured that this one starts, unless it is given `measured()`."""
    if word := os.environ.pop(_WORD, None):
        _kept[_WORD] = word


def measured() -> dict[str, str]:
    """Return the environment of a process that is measured, where this one is."""
    return {**os.environ, **_kept}
