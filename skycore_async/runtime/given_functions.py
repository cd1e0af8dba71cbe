"""Functions that callers give: which of them do nothing, or nothing yet, when they are called.

One with `yield` in it begins with whoever iterates over what it returns, and here nobody does.

Rule: such a function is known where it is given, as is an object with such a `__call__`; that of
another function, which returns what it makes, only by what it returned.
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
    # Of a mock that stands for a function it cannot be told: what it returns is looked at as well.
    with suppress(TypeError):
        return kind(function) or kind(function.__call__)
    return False


def has_not_begun(returned: object) -> bool:
    """Return whether what a function returned begins with whoever iterates over it."""
    return isgenerator(returned) or isasyncgen(returned)
