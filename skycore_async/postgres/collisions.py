"""Repeat transactions that the database ended because of a deadlock.

Rule: a step writes only in its transaction, so that it can be repeated.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final, TypeVar

import psycopg

from .schema import Connection

T = TypeVar("T")

COLLIDED: Final = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
MOST: Final = 10  # in a row, after which it is no coincidence


def transact(connection: Connection, step: Callable[[], T]) -> T:
    """Run a step in a transaction, again if it collides with others, and return its result."""
    for collisions in itertools.count():
        try:
            with connection.transaction():
                return step()
        except COLLIDED:
            if collisions == MOST:
                raise
    raise AssertionError  # pragma: no cover - the loop has no end
