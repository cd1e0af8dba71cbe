"""Transactions that deadlock; `test_import_sqlite` has one that succeeds after all."""

from __future__ import annotations

import psycopg
import pytest

from skycore_async.postgres.collisions import MOST, transact


def test_a_step_that_collides_again_and_again_is_an_error(dsn: str) -> None:
    """A transaction that deadlocks again and again raises after a number of tries."""
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
