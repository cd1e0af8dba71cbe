"""Ctrl-C while no command hears signals: before it begins, and after it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_one_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt for a group with one in it.

    A second Ctrl-C soon after the first may be raised anywhere, as in a task that does not hear
    signals yet.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise KeyboardInterrupt from group
