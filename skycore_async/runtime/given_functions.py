"""Functions that callers give: which of them run nothing, or nothing yet, when called.

A function with `yield` in it runs only when its result is iterated over, and nobody does so here.

Rule: such a function is recognised when it is given, and so is an object with such a `__call__`.
A function that merely returns a generator is recognised only by what it returned.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from inspect import (
    isasyncgen,
    isasyncgenfunction,
    iscoroutinefunction,
    isgenerator,
    isgeneratorfunction,
)
from typing import Any


def has_yield(function: Any) -> bool:
    """Return whether a function has `yield` in it."""
    return _is(isgeneratorfunction, function) or _is(isasyncgenfunction, function)


def is_awaited(function: Any) -> bool:
    """Return whether a function is a coroutine function."""
    return _is(iscoroutinefunction, function)


def _is(kind: Callable[[object], bool], function: Any) -> bool:
    # A mock in place of a function does not tell: its result is looked at as well.
    with suppress(TypeError):
        return kind(function) or kind(function.__call__)
    return False


def has_not_begun(returned: object) -> bool:
    """Return whether a function's result is a generator, which runs only when iterated over."""
    return isgenerator(returned) or isasyncgen(returned)
