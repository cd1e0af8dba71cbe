"""The progress of campaigns, across all workers.

Rule: the outcome of a message is counted from the ledger itself, so that a later postback counts,
too.  A message that a worker refused before it was begun is in no ledger; it is counted from what
the worker wrote when it finished the chunk.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import attrs

from ..errors import KeyConflict
from ..ledger.postgres.campaign_messages import count_states
from ..postgres.formats import one_moment
from ..postgres.schema import Connection

_CAMPAIGNS: Final = """
SELECT campaigns.id, name, campaigns.state, reason, created, starts_at,
    coalesce(starts_at > now(), false), hours, zone,
    coalesce(sum(put_off) FILTER (WHERE waits), 0)::bigint,
    min(due) FILTER (WHERE waits),
    count(*) FILTER (WHERE waits),
    coalesce(sum(cardinality(keys)), 0)::bigint,
    count(*) FILTER (WHERE chunks.state = 'waiting'),
    count(*) FILTER (WHERE chunks.state = 'held'),
    count(*) FILTER (WHERE chunks.state = 'done'),
    count(DISTINCT worker) FILTER (WHERE chunks.state = 'held' AND held_until > now())
FROM skycore.campaigns LEFT JOIN skycore.chunks ON campaign = campaigns.id
    CROSS JOIN LATERAL (
        SELECT chunks.state = 'waiting' AND put_off > 0 AND due > now()) AS known (waits)
GROUP BY campaigns.id ORDER BY campaigns.id
"""
_LEFT_OUT: Final = "SELECT campaign, left_out FROM skycore.chunks WHERE left_out IS NOT NULL"


@attrs.frozen(kw_only=True)
class CampaignProgress:
    """How far a campaign is.

    `states` counts the messages by their state in the ledger, and `left_out` those that were
    refused before they were begun, by reason; `to_send` messages have no outcome yet, or are to
    be sent again.  Chunks are waiting, held by `workers`, or done.  `put_off` of the messages to
    send are outside of their `hours`, which are in `zone` for a number that has no known zone;
    the first of them may be sent at `opens_at`.  `state` is scheduled (it starts at
    `starts_at`), running, waiting (all messages left are put off), paused, halted (with the
    `reason`), cancelled or done.
    """

    name: str
    state: str
    reason: str | None
    created: datetime
    starts_at: datetime | None
    hours: str | None
    zone: str | None
    put_off: int
    opens_at: datetime | None
    messages: int
    to_send: int
    states: Mapping[str, int]
    left_out: Mapping[str, int]
    waiting: int
    held: int
    done: int
    workers: int


def is_loaded(connection: Connection, name: str) -> bool:
    """Return whether there is a campaign of that name, whatever its state."""
    found = connection.execute("SELECT 1 FROM skycore.campaigns WHERE name = %s", (name,))
    return found.fetchone() is not None


def progress(connection: Connection) -> list[CampaignProgress]:
    """Return the progress of each campaign, the oldest first."""
    with one_moment(connection):  # as some is counted twice
        campaigns = connection.execute(_CAMPAIGNS).fetchall()
        states: dict[int, dict[str, int]] = {}
        again: Counter[int] = Counter()
        for count in count_states(connection):
            states.setdefault(count.campaign, {})[count.state] = count.messages
            again[count.campaign] += count.to_resend
        left_out: dict[int, Counter[str]] = {}
        for campaign, counts in connection.execute(_LEFT_OUT):
            left_out.setdefault(campaign, Counter()).update(json.loads(counts))
    return [
        _progress(row, states.get(row[0], {}), left_out.get(row[0], {}), again=again[row[0]])
        for row in campaigns
    ]


def _progress(
    row: Sequence[Any], states: Mapping[str, int], left_out: Mapping[str, int], *, again: int
) -> CampaignProgress:
    _id, name, state, reason, created, starts_at, is_ahead, *more = row
    hours, zone, put_off, opens_at, waiting_for_hours, messages, *chunks, workers = more
    waiting, held, done = chunks
    has_ended = state == "running" and not (waiting or held)
    again = 0 if state == "cancelled" else again  # none of them is sent
    if state == "running":
        table = (
            (has_ended, "done"),
            (is_ahead, "scheduled"),
            (not held and waiting == waiting_for_hours, "waiting"),
        )
        state = next((known for is_so, known in table if is_so), state)
    # The key of a message left out for a key conflict is in the ledger, and was counted there.
    apart = [count for why, count in left_out.items() if not why.startswith(KeyConflict.__name__)]
    begun = sum(states.values()) - states.get("not_sent", 0) + sum(apart)
    return CampaignProgress(
        name=name,
        state=state,
        reason=reason,
        created=created,
        starts_at=starts_at,
        hours=hours,
        zone=zone,
        put_off=put_off,
        opens_at=opens_at,
        messages=messages,
        to_send=0 if has_ended else max(0, messages - begun) + again,
        states=states,
        left_out=left_out,
        waiting=waiting,
        held=held,
        done=done,
        workers=workers,
    )
