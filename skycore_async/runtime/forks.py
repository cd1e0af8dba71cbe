"""Calls to make in each forked child process, and a value that tells it from its parents."""

from __future__ import annotations

import os
from collections.abc import Callable

count = 0  # of forks between the first process and this one


def call_in_child(call: Callable[[], None]) -> None:
    """Call `call` in each process that is forked from now on, before it does anything else."""
    if hasattr(os, "register_at_fork"):  # pragma: no branch - no process is forked on Windows
        os.register_at_fork(after_in_child=call)


def this_process() -> tuple[int, int]:
    """Return a value that this process has, and that no process it was forked from has.

    The process id alone is not enough: once a daemon's first process has ended, a child of the
    daemon may get the same id.  The count of forks alone is not enough either: a server in C,
    such as uWSGI, need not tell Python that it forks.
    """
    return os.getpid(), count


def in_child() -> None:
    """Count one more fork."""
    global count  # noqa: PLW0603 - it is another process
    count += 1


call_in_child(in_child)
