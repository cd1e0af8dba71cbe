"""What tests ask of the tables of campaigns."""

from __future__ import annotations

from datetime import datetime

from skycore_async.campaigns import queue
from skycore_async.campaigns.progress import CampaignProgress, progress
from skycore_async.postgres.schema import Connection


def only(connection: Connection) -> CampaignProgress:
    """Return how far the one campaign is that there is."""
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
    """Make the queue's tables where they are not there, and have none of its jobs in them.

    To truncate them would make a file anew for each table and index: a hundred times as much.
    """
    queue.migrate(connection)
    with connection.transaction():
        connection.execute("SET LOCAL search_path TO skycore_queue")  # for its triggers
        connection.execute("DELETE FROM procrastinate_periodic_defers")
        connection.execute("DELETE FROM procrastinate_jobs")  # and so their events
