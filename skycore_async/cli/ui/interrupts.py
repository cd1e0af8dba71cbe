"""Ctrl-C where no command hears signals: as it begins, and once it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_one_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt for a group with one in it.

    A second Ctrl-C within moments of the first is raised wherever it finds the program, as in a
    task that has begun and hears no signals yet.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise KeyboardInterrupt from group
