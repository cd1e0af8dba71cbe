"""What tests ask of the tables of campaigns."""

from __future__ import annotations

from datetime import datetime

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
