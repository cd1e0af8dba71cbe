"""What is to be done in a child process that was forked, and what tells it from its parents."""

from __future__ import annotations

import os
from collections.abc import Callable

count = 0  # of forks between the first process and this one


def call_in_child(call: Callable[[], None]) -> None:
    """Have `call` called in each process that is forked from now on, before it does anything."""
    if hasattr(os, "register_at_fork"):  # pragma: no branch - no process is forked on Windows
        os.register_at_fork(after_in_child=call)


def this_process() -> tuple[int, int]:
    """Return what is of this process, and of none that it was forked from.

    An id is not enough: once a daemon's first process has ended, a child of the daemon's is given
    its id.  Nor is the count: a server in C, as uWSGI, need not tell Python that it forks.
    """
    return os.getpid(), count


def in_child() -> None:
    """Count one fork more."""
    global count  # noqa: PLW0603 - it is another process
    count += 1


call_in_child(in_child)
