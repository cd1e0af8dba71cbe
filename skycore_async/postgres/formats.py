"""The format of values: the same whatever the server, the database or the role has set.

Rules:

* Dates are in ISO 8601, the only format that psycopg reads, and numbers have all their digits:
  with fewer, the start time of an attempt would match no attempt.
* NULL in an array is a null, not the text "NULL", which `array_nulls = off` (a setting from before
  PostgreSQL 8.2) would make of it.
* Through a pooler, another client may get the session afterwards, so settings for reading are made
  for the one transaction only.
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
    """Run a read-only transaction whose queries all see the same snapshot."""
    with connection.transaction():
        connection.execute(_LOOK, prepare=False)  # which several statements cannot be
        yield
