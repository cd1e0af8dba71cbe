"""Shared rates on a clock that stands still, in a real PostgreSQL.

The statements run as they are.  A function in a schema before PostgreSQL's own
gives them the time, so that time passes only where a test lets it, here and
there alike.
"""

from __future__ import annotations

from typing import Any, cast

import psycopg

from skycore_async.limits.permits import PermitGrant, PermitRequest, Throttle
from skycore_async.limits.shared_rate import MARGIN, SharedRate
from skycore_async.postgres.connection import Database
from skycore_async.postgres.schema import Connection

_FROZEN = """
CREATE SCHEMA IF NOT EXISTS frozen;
CREATE OR REPLACE FUNCTION frozen.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
AS $$ SELECT to_timestamp(current_setting('frozen.now')::float8) $$
"""


class Time:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.now = 10_000.0

    def __call__(self) -> float:
        return self.now


class _Frozen:
    """A connection on which the time is that of `time`."""

    def __init__(self, connection: Connection, time: Time) -> None:
        self._connection = connection
        self._time = time
        connection.execute("SET search_path = frozen, pg_catalog")

    def execute(self, statement: Any, values: Any = None) -> Any:
        self._connection.execute(
            "SELECT set_config('frozen.now', %s, false)", (repr(self._time.now),)
        )
        return self._connection.execute(statement, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class FrozenDatabase(Database):
    """A database whose clock is that of `time`."""

    def __init__(self, dsn: str, time: Time) -> None:
        super().__init__(dsn)
        self._time = time

    def connect(self) -> Connection:
        return cast("Connection", _Frozen(super().connect(), self._time))


class FrozenRates:
    """Several processes that share a rate, as far as the row knows them."""

    def __init__(self, dsn: str) -> None:
        self.time = Time()
        self._database = FrozenDatabase(dsn, self.time)
        self._shared_rate: SharedRate | None = None
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(_FROZEN)

    def shared_rate(self, rate: float, burst: int = 1, name: str = "promo") -> SharedRate:
        """Open a rate, in place of the one before."""
        self.close()
        shared_rate = SharedRate(self._database, name, rate=rate, burst=burst, clock=self.time)
        self._shared_rate = shared_rate
        shared_rate.open()
        return shared_rate

    def moments(self, shared_rate: SharedRate, count: int = 1, delay: float = 0.0) -> list[float]:
        """Reserve permits, and return the seconds until each."""
        grant = shared_rate.ask(PermitRequest(count=count, delay=delay))
        return [moment - self.time.now for moment in moments_of(grant)]

    def throttle(
        self, shared_rate: SharedRate, pause: float, halvings: int, *, halve: bool = True
    ) -> PermitGrant:
        """Tell a throttle answer."""
        throttle = Throttle(until=self.time.now + pause, halve=halve, halvings=halvings)
        return shared_rate.ask(PermitRequest(throttle=throttle))

    def close(self) -> None:
        if self._shared_rate is not None:
            self._shared_rate.close()


def moments_of(grant: PermitGrant) -> list[float]:
    return [max(grant.soonest, grant.first + n * grant.gap) for n in range(grant.count)]


def full(rate: float) -> float:
    """Return the seconds between two permits of the schedule."""
    return 1 / (rate * (1 - MARGIN))
