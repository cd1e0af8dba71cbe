"""What workers wait for while nothing may be sent: a start, hours of recipients, or a resume.

Rule: each wait is announced once, and again when it changes, or after messages were sent.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Final

import attrs

from ..ledger.postgres.session import is_to_resume
from ..postgres.schema import Connection
from ..sending.hours import hours_in_words
from .chunks import FREE_AT, TO_SEND

# Running campaigns whose remaining messages all wait for the start or for recipients' hours.
_WAITS: Final = f"""
SELECT name, min(free_at), hours, zone, is_ahead, coalesce(sum(put_off), 0)::bigint
FROM skycore.campaigns JOIN skycore.chunks ON campaign = campaigns.id
    CROSS JOIN LATERAL (SELECT {FREE_AT} AS free_at,
        coalesce(starts_at > clock_timestamp(), false) AS is_ahead) AS known
WHERE {TO_SEND}
GROUP BY campaigns.id, is_ahead
HAVING min(free_at) > clock_timestamp()
    AND (is_ahead OR bool_and(chunks.state = 'waiting' AND put_off > 0))
ORDER BY campaigns.id
"""  # noqa: S608 - expressions of our own
# Paused or halted campaigns that have messages left.
_STOPPED: Final = """
SELECT name, state, reason FROM skycore.campaigns
WHERE (state = 'paused' OR state = 'halted' AND name <> ALL(%s)) AND EXISTS (
    SELECT FROM skycore.chunks WHERE campaign = campaigns.id AND chunks.state <> 'done')
ORDER BY id
"""


def resume_command(campaign: str) -> str:
    """Return what to type to resume a campaign, whatever its name.

    A name that looks like a DSN or an option is read as a name after a DSN and `--`.
    """
    end_of_options = ["--"] if campaign.startswith("-") else []
    return shlex.join(["skycore", "cluster", "resume", "DSN", *end_of_options, campaign])


@attrs.frozen(kw_only=True)
class Wait:
    """What a campaign waits for, and until when: its start, or the `hours` of `count` messages."""

    campaign: str
    until: datetime
    hours: str | None
    zone: str | None
    is_start: bool
    count: int

    @property
    def words(self) -> str:
        """Return it in words."""
        until = f"{self.until.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
        if self.is_start:
            return f"campaign {self.campaign}: waiting until {until}, when it starts"
        return (
            f"campaign {self.campaign}: waiting until {until}, as the {self.count:,} that are left"
            f" are sent to {hours_in_words(self.hours or '', self.zone)}"
        )


@attrs.frozen(kw_only=True)
class StoppedCampaign:
    """A campaign that is paused, or halted for a reason, and has messages left."""

    campaign: str
    state: str
    reason: str | None

    @property
    def words(self) -> str:
        """Return it in words."""
        said = f"campaign {self.campaign}: {self.state}"
        said += f" ({self.reason})" if self.reason else ""
        if not is_to_resume(self.reason):
            return said
        return f"{said}; the rest waits for `{resume_command(self.campaign)}`"


def waits(connection: Connection, *, told: Collection[str] = ()) -> list[Wait | StoppedCampaign]:
    """Return what campaigns wait for that have nothing to send now.

    Campaigns whose halt was `told` already are left out of the halted ones.
    """
    running = [
        Wait(campaign=name, until=until, hours=hours, zone=zone, is_start=is_ahead, count=count)
        for name, until, hours, zone, is_ahead, count in connection.execute(_WAITS)
    ]
    stopped = connection.execute(_STOPPED, (list(told),))
    return [
        *running,
        *(StoppedCampaign(campaign=n, state=state, reason=why) for n, state, why in stopped),
    ]


class AnnouncedWaits:
    """The waits that were announced last."""

    def __init__(self) -> None:
        self._said: frozenset[str] = frozenset()

    def new(self, found: Iterable[Wait | StoppedCampaign]) -> list[str]:
        """Return what to announce now, one text each."""
        words = [wait.words for wait in found]
        new = [line for line in words if line not in self._said]
        self._said = frozenset(words)
        return new
