"""Transactions that the database ended because they waited for each other, begun anew.

Rule: a step writes nothing but in its transaction, so that it can be taken again.
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
    """Return what a step returns in a transaction, which is begun anew where it collides."""
    for collisions in itertools.count():
        try:
            with connection.transaction():
                return step()
        except COLLIDED:
            if collisions == MOST:
                raise
    raise AssertionError  # pragma: no cover - the loop has no end
