"""Transactions that collide with others; `test_import_sqlite` has one that comes through."""

from __future__ import annotations

import psycopg
import pytest

from skycore_async.postgres.collisions import MOST, transact


def test_a_step_that_collides_again_and_again_is_an_error(dsn: str) -> None:
    """The step is tried a limited number of times, and then its caller gets an error."""
    tries: list[int] = []

    def collide() -> None:
        tries.append(1)
        raise psycopg.errors.DeadlockDetected("deadlock detected")

    with (
        psycopg.connect(dsn, autocommit=True) as connection,
        pytest.raises(psycopg.errors.DeadlockDetected),
    ):
        transact(connection, collide)
    assert len(tries) == 1 + MOST
