"""Queries of tests on the tables of campaigns."""

from __future__ import annotations

from datetime import datetime

from skycore_async.campaigns import queue
from skycore_async.campaigns.progress import CampaignProgress, progress
from skycore_async.postgres.schema import Connection


def only(connection: Connection) -> CampaignProgress:
    """Return the progress of the only campaign."""
    (found,) = progress(connection)
    return found


def now(connection: Connection, *, hours: int = 0) -> datetime:
    """Return the time of the database, or that of so many hours later."""
    (time_,) = connection.execute(
        "SELECT now() + %s * interval '1 hour'", (hours,)
    ).fetchone() or (None,)
    assert isinstance(time_, datetime)
    return time_


def empty_queue(connection: Connection) -> None:
    """Make the queue's tables if they are missing, and delete all jobs.

    TRUNCATE would make a new file for each table and index, which takes a hundred times as long.
    """
    queue.migrate(connection)
    with connection.transaction():
        connection.execute("SET LOCAL search_path TO skycore_queue")  # for its triggers
        connection.execute("DELETE FROM procrastinate_periodic_defers")
        connection.execute("DELETE FROM procrastinate_jobs")  # and so their events
