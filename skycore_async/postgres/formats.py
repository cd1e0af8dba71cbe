"""In which form values come: the same, whatever the server, the database or the role has set.

Rules:

* Dates come as ISO 8601 has them, as psycopg reads no other, and numbers with all their digits:
  with fewer, the time at which an attempt began is the time of none.
* What is given as NULL in an array is nothing, and not the word, as `array_nulls` of a role from
  the times of PostgreSQL 8.1 has it.
* Through a pooler, what is set for a look may be somebody else's afterwards: it is set for that
  transaction alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .schema import Connection

SET_FORMATS: Final = "SET datestyle = 'ISO'; SET extra_float_digits = 1; SET array_nulls = on"
_LOOK: Final = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;"
    " SET LOCAL datestyle = 'ISO'; SET LOCAL extra_float_digits = 1"
)


@contextmanager
def one_moment(connection: Connection) -> Iterator[None]:
    """Have all that is asked be of one moment, in a transaction that only reads."""
    with connection.transaction():
        connection.execute(_LOOK, prepare=False)  # which several statements cannot be
        yield
