"""Send the doubts of a campaign again with an operator's permission: once each.

Strategy: the campaign's chunk keeps a permission in the place of its key, as the time at which the
attempt in doubt started.  It holds for that attempt alone.  Sending the message again starts
another attempt, so it is sent once, however often permission is given meanwhile, and whichever
worker dies.  A doubt that is settled before that is not sent again.

Rules:

* A message whose outcome a live process may still receive is left alone.  A message that a dead
  process was sending is in doubt, whether or not that has been written yet.
* A permission is for the attempts that were asked about, and for no others.
* It belongs to the campaign: another campaign with the same key neither sends for it nor takes it
  away, whether that one runs or is cancelled.
* A recipient who is left out when a worker comes to them, as after a STOP, loses the permission,
  and needs a new one.
* It waits for nobody: where the others of its chunk are outside of their hours, they are looked
  at again, too.
* Chunks are locked first, so that none with a permission is taken for done; then the campaign, in
  the order of whoever loads it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import attrs

from ..errors import CampaignError
from ..ledger.execution import CommandExecutor
from ..ledger.postgres.campaign_messages import (
    attempts_in_doubt,
    count_to_resend,
    locked_chunks_with,
    still_in_doubt,
)
from ..ledger.postgres.store import PostgresStore
from ..ledger.settlement import SETTLE_WITHIN
from ..postgres.collisions import transact
from ..postgres.schema import Connection
from .campaigns import locked_campaign
from .chunks import doubts_in, in_places

_PERMIT: Final = """
UPDATE skycore.chunks SET resends = %s,
    state = CASE state WHEN 'done' THEN 'waiting' ELSE state END,
    due = CASE WHEN state = 'done' OR put_off > 0 THEN clock_timestamp() ELSE due END
WHERE id = %s
"""


@attrs.frozen(kw_only=True)
class Resending:
    """What is sent again: `marked` doubts have permission, `new` of these since this call.

    `under_way` doubts are left alone.  `state` is that of the campaign, which has to run for
    doubts to be sent.
    """

    new: int
    marked: int
    under_way: int
    state: str


def doubts_of(connection: Connection, name: str) -> dict[int, float]:
    """Return the ids of a campaign's messages in doubt, and when the attempt of each started."""
    _write_doubts(connection)
    return attempts_in_doubt(connection, name)


def resend(connection: Connection, name: str, doubts: Mapping[int, float]) -> Resending:
    """Have those of these messages sent once more that are still in doubt.

    Raises CampaignError if there is no such campaign, or it was cancelled.
    """
    return transact(connection, lambda: _permit(connection, name, doubts))


def _permit(connection: Connection, name: str, doubts: Mapping[int, float]) -> Resending:
    chunks = locked_chunks_with(connection, name, doubts)
    campaign, state = locked_campaign(connection, name)
    if state == "cancelled":
        raise CampaignError(f"the campaign {name!r} is cancelled: nothing more of it is sent")
    found, new = still_in_doubt(connection, doubts), 0
    for id_, keys, resends in chunks:
        before = doubts_in(keys, resends)
        after = {**before, **{key: found[key] for key in keys if key in found}}
        if after != before:
            new += len(after.items() - before.items())
            connection.execute(_PERMIT, (in_places(keys, after), id_))
    marked, left = count_to_resend(connection, campaign)
    return Resending(new=new, marked=marked, under_way=left, state=state)


def _write_doubts(connection: Connection) -> None:
    """Bring into doubt the messages that no live process is sending."""

    def interrupt() -> None:
        store = PostgresStore(connection)
        CommandExecutor(store, clock=time.time, settle_within=SETTLE_WITHIN).interrupt()

    transact(connection, interrupt)
