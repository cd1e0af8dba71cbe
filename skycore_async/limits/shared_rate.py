"""A shared rate, as a row in PostgreSQL: one statement reserves permits for a process.

Strategy: the row holds when the next permit is due (GCRA, as in `RateLimiter`), on the clock of
the database.  A statement locks the row, reads the clock, takes permits off the schedule and
returns them, so that processes are served first come, first served.

Rules:

* The schedule runs `MARGIN` below the rate.  So each permit may begin as late as `LATE` after its
  moment, and still no second has more starts than `rate + burst`.  At a low rate, rounding leaves
  part of a permit over: half of it allows for late starts, half for delays on the way.
* A process gets no more permits at a time than fall into `HORIZON`, so that processes share
  evenly.
* No permit is granted far ahead: a process that would wait longer is told to ask again, so that it
  does not sleep through the recovery after a throttle.
* The rest of a pause is never longer than the whole pause: if it is, the clock was set back, for
  example as another server took over, and the pause begins anew.
* Nothing waits for the disk.  A database that crashes forgets less than a second of the schedule,
  which has passed when it is back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import psycopg

from ..errors import ConfigurationError, LedgerError
from ..postgres.connection import Database, cleaned, describe_error
from ..postgres.schema import Connection, check
from .local import RECOVERY_STEP, RECOVERY_TIME, SLOWEST
from .permits import LATE, PermitGrant, PermitRequest, Throttle

HORIZON: Final = 0.02  # seconds of the schedule that one statement takes, over its own time
MARGIN: Final = LATE  # of the rate
FARTHEST: Final = 1.0  # seconds ahead of the clock that a permit is given,
FEWEST_AHEAD: Final = 16  # or so many permits at the full rate, if that is more

_CONSTANTS: Final = {
    "horizon": HORIZON,
    "kept": 1 - MARGIN,
    "late": LATE,
    "farthest": FARTHEST,
    "fewest_ahead": float(FEWEST_AHEAD),
    "slowest": SLOWEST,
    "step": RECOVERY_STEP,
    "time": RECOVERY_TIME,
}

_MAKE: Final = """
INSERT INTO skycore.shared_rates (name, rate, burst) VALUES (%(name)s, %(rate)s, %(burst)s)
ON CONFLICT (name) DO NOTHING
"""

_SET: Final = """
UPDATE skycore.shared_rates SET rate = %(rate)s, burst = %(burst)s WHERE name = %(name)s
RETURNING extract(epoch FROM clock_timestamp())::float8,
    greatest(0, least(pause, paused_until - extract(epoch FROM clock_timestamp())::float8)),
    halvings
"""

# The row, locked before the clock is read; the end of its pause; and the share of the rate that
# has recovered.
_ROW: Final = """
WITH locked AS MATERIALIZED (
    SELECT * FROM skycore.shared_rates WHERE name = %(name)s FOR UPDATE
), clock AS MATERIALIZED (
    SELECT *, extract(epoch FROM clock_timestamp())::float8 AS now FROM locked
), pausing AS (
    SELECT *, least(paused_until, now + pause) AS resumes FROM clock
), recovering AS (
    SELECT *, least(1, share + %(step)s * floor(greatest(0, least(
        (now - resumes) / %(time)s, 1 / %(step)s
    )))) AS recovered
    FROM pausing
)
"""

_RESERVE: Final = f"""{_ROW}, speed AS (
    SELECT *, rate * %(kept)s * recovered AS speed, now + %(delay)s AS soonest,
        %(horizon)s + %(delay)s AS horizon,
        now + greatest(%(farthest)s, %(fewest_ahead)s / rate) AS far
    FROM recovering
), schedule AS (
    SELECT *, greatest(soonest, least(due, far + horizon + burst / speed)) AS next FROM speed
), permit AS (
    SELECT *, next - (burst - 1) / speed AS first FROM schedule
), plan AS (
    SELECT *, CASE WHEN now < resumes OR first > far THEN 0 ELSE least(%(count)s, greatest(1,
        floor((horizon + greatest(0, soonest - first)) * speed)
    )) END AS count
    FROM permit
)
UPDATE skycore.shared_rates AS kept
SET due = next + count / speed, paused_until = resumes FROM plan WHERE kept.name = plan.name
RETURNING now, greatest(0, resumes - now), plan.halvings, count::int, first, 1 / speed,
    soonest, CASE WHEN count = 0 THEN least(greatest(0, first - far), %(time)s) ELSE 0 END,
    %(late)s + ((floor(plan.rate) + 1) / (plan.rate * %(kept)s) - 1 - %(late)s) / 2
"""  # noqa: S608 - of our own words alone

# The used part of the burst stays used: the schedule is as many permits ahead as before.
_THROTTLE: Final = f"""{_ROW}, halved AS (
    SELECT *, CASE WHEN %(halve)s AND halvings = %(halvings)s
        THEN greatest(%(slowest)s, recovered / 2) ELSE recovered END AS left_of_it,
        greatest(resumes, now + %(pause)s) AS until
    FROM recovering
)
UPDATE skycore.shared_rates AS kept
SET share = left_of_it,
    halvings = halved.halvings + (%(halve)s AND halved.halvings = %(halvings)s)::int,
    due = now + greatest(0, halved.due - now) * recovered / left_of_it,
    paused_until = until,
    pause = until - now
FROM halved WHERE kept.name = halved.name
RETURNING now, greatest(0, kept.paused_until - now), kept.halvings
"""  # noqa: S608 - the same


class SharedRate:
    """The row `name` in `database`, over a connection that is made anew when it is lost.

    It is used by one thread at a time; `clock` is that of this process.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        *,
        rate: float,
        burst: int,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._row: dict[str, Any] = {"name": name, "rate": rate, "burst": burst}
        self._clock = clock
        self._connection: Connection | None = None

    def open(self) -> PermitGrant:
        """Connect, and set the rate and burst for all who share it.

        Raises ConfigurationError if the database cannot be reached or lacks the tables.
        """
        try:
            check(self._connected())
            return self._answer(_SET, {})
        except LedgerError as error:
            self.close()
            raise ConfigurationError(str(error)) from error
        except psycopg.Error as error:
            self.close()
            raise ConfigurationError(
                f"{self._database.name} cannot be used: {describe_error(error)}"
            ) from cleaned(error)

    def ask(self, ask: PermitRequest) -> PermitGrant:
        """Send a request to the database, and return its answer.

        Raises psycopg.Error if no answer came; the next call connects anew.
        """
        try:
            if ask.throttle is not None:
                return self._answer(_THROTTLE, self._reported(ask.throttle))
            return self._answer(_RESERVE, {"count": ask.count, "delay": ask.delay})
        except psycopg.Error:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _reported(self, throttle: Throttle) -> dict[str, Any]:
        pause = max(0.0, throttle.until - self._clock())
        return {"pause": pause, "halve": throttle.halve, "halvings": throttle.halvings}

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connection = self._database.connect()
            connection.execute("SET synchronous_commit = off")
            connection.execute("SET statement_timeout = '5s'")
        return self._connection

    def _answer(self, statement: str, given: dict[str, Any]) -> PermitGrant:
        execute: Any = self._connected().execute
        values = {**_CONSTANTS, **self._row, **given}
        sent = self._clock()
        row = execute(statement, values).fetchone()
        if row is None:  # the first to come, or it was removed
            execute(_MAKE, values)
            sent = self._clock()
            row = execute(statement, values).fetchone()
        received = self._clock()
        if row is None:
            raise psycopg.OperationalError("its row is removed again and again")
        names = ("now", "pause", "halvings", "count", "first", "gap", "soonest", "wait", "late")
        return PermitGrant(sent=sent, received=received, **dict(zip(names, row, strict=False)))
