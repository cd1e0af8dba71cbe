"""Statements over many rows of values, for any SQLite connection.

Strategy: one statement over VALUES handles many rows.  It comes in a few sizes only, since SQLite
caches each statement that it has compiled.

Rules:

* Rows of NULL pad a statement to the next size.  They match nothing in a join, and inserts leave
  them out.
* A column that is NULL in all rows is written as NULL in the statement: binding None takes long.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from operator import itemgetter
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")

_SMALL: Final = 4  # rows: for fewer, compiling another statement costs more than it saves
_FEW: Final = 16  # rows that are made at a time without releasing the GIL
MOST: Final = 64  # rows in a statement; SQLite before 3.32 takes 999 values in all
_SIZES: Final = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 56, MOST)


class Connection(Protocol):
    """The methods used of a connection, which all bindings of SQLite have in common."""

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Any:
        """Run one statement, and return a cursor over its rows."""
        ...


@cache
def _sized(statement: str, width: int, size: int, nulls: tuple[int, ...] = ()) -> str:
    """Return a statement over `size` rows of `width` values, with NULL in the places `nulls`."""
    row = f"({', '.join('NULL' if place in nulls else '?' for place in range(width))})"
    return statement.format(", ".join([row] * size))


@cache
def _without_places(width: int, nulls: tuple[int, ...]) -> Callable[[Any], Sequence[Any]]:
    """Return a function that leaves these places of a row out."""
    return itemgetter(*(place for place in range(width) if place not in nulls))


def _nulls(rows: Sequence[Sequence[Any]]) -> tuple[int, ...]:
    """Return the places that are None in all rows; none if fewer than two others are left."""
    nulls: list[int] = []
    for place, value in enumerate(rows[0]):
        if value is None and [*map(itemgetter(place), rows)].count(None) == len(rows):
            nulls.append(place)
    return tuple(nulls) if len(nulls) + 1 < len(rows[0]) else ()


class StatementRunner:
    """Run statements over `connection`; call `yield_gil` now and then while values are made."""

    def __init__(
        self, connection: Connection, *, yield_gil: Callable[[], None] = lambda: None
    ) -> None:
        self._execute = connection.execute
        self._yield_gil = yield_gil

    def _each(self, make: Callable[[Any], T], rows: Sequence[Any]) -> list[T]:
        """Return what `make` returns for each row, letting other threads run now and then."""
        made: list[T] = []
        for at in range(0, len(rows), _FEW):
            made += map(make, rows[at : at + _FEW])
            self._yield_gil()
        return made

    def _one(self, statement: str, *values: Any) -> Any:
        return self._execute(statement, values).fetchone()

    def _over(self, statement: str, rows: Sequence[Sequence[Any]], *last: Any) -> list[Any]:
        """Run a statement over rows, in parts, and return the rows that it finds.

        `last` are the values of the statement after the rows.
        """
        found: list[Any] = []
        while rows:
            part, rows = rows[:MOST], rows[MOST:]
            width, size = len(part[0]), _SIZES[bisect_left(_SIZES, len(part))]
            nulls = _nulls(part) if None in part[0] and size > _SMALL else ()
            given = map(_without_places(width, nulls), part) if nulls else part
            values = [*chain.from_iterable(given)]
            values += [None] * ((width - len(nulls)) * size - len(values))
            values += last
            found += self._execute(_sized(statement, width, size, nulls), values).fetchall()
        return found
