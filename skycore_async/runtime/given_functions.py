"""Functions that callers give: which of them do nothing, or nothing yet, when they are called.

One with `yield` in it begins with whoever iterates over what it returns, and here nobody does.

Rule: such a function is known where it is given, as is an object with such a `__call__`; that of
another function, which returns what it makes, only by what it returned.
"""

from __future__ import annotations

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
    return any(
        isgeneratorfunction(each) or isasyncgenfunction(each)
        for each in (function, function.__call__)
    )


def is_awaited(function: Any) -> bool:
    """Return whether a function is a coroutine function."""
    return any(iscoroutinefunction(each) for each in (function, function.__call__))


def has_not_begun(returned: object) -> bool:
    """Return whether what a function returned begins with whoever iterates over it."""
    return isgenerator(returned) or isasyncgen(returned)
