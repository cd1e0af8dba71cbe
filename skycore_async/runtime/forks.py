"""What is to be done in a child process that was forked."""

from __future__ import annotations

import os
from collections.abc import Callable


def call_in_child(call: Callable[[], None]) -> None:
    """Have `call` called in each process that is forked from now on, before it does anything."""
    if hasattr(os, "register_at_fork"):  # pragma: no branch - no process is forked on Windows
        os.register_at_fork(after_in_child=call)
