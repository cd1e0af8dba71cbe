"""What is in doubt in a campaign, sent again on an operator's word: once each.

Strategy: a message keeps its state, in doubt, and is marked to be sent again.  Its next
intent takes the mark away, so that however often the word is given meanwhile, or a worker
dies, it is sent once for it.  What settles its doubt before that takes the mark away, too.

Rules:

* What a live process may still get the outcome of is left alone.  What a dead one was sending
  is in doubt, whether or not anybody has written so yet.
* The word is for the attempts that were asked about, and for no other.
* Who is left out when a worker comes to them, as for a STOP, needs another word: this one is
  taken back then, as it is where the campaign is cancelled.
* Chunks are locked first, so that none is taken for done while its messages are marked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import attrs

from ..errors import CampaignError
from ..ledger.execution import CommandExecutor
from ..ledger.postgres.campaign_messages import attempts_in_doubt, count_marked, mark_to_resend
from ..ledger.postgres.store import PostgresStore
from ..ledger.settlement import SETTLE_WITHIN
from ..postgres.collisions import transact
from ..postgres.schema import Connection
from .campaigns import locked_campaign
from .chunks import LOCK_CHUNKS

_REOPEN: Final = """
UPDATE skycore.chunks SET state = 'waiting', due = clock_timestamp()
WHERE campaign = %s AND state = 'done' AND keys && %s
"""


@attrs.frozen(kw_only=True)
class Resending:
    """What is sent again: how many were marked now, are marked in all, and are left in doubt.

    `state` is that of the campaign, which has to run for them to be sent.
    """

    new: int
    marked: int
    under_way: int
    state: str


def doubts_of(connection: Connection, name: str) -> dict[int, float]:
    """Return which messages of a campaign are in doubt, and since which attempt."""
    _write_doubts(connection)
    return attempts_in_doubt(connection, name)


def resend(connection: Connection, name: str, doubts: Mapping[int, float]) -> Resending:
    """Mark these doubts of a campaign to be sent once more, as far as they are doubts still.

    Raises CampaignError where there is no such campaign, or it was cancelled.
    """
    return transact(connection, lambda: _marked(connection, name, doubts))


def _marked(connection: Connection, name: str, doubts: Mapping[int, float]) -> Resending:
    campaign, state = locked_campaign(connection, name)
    if state == "cancelled":
        raise CampaignError(f"the campaign {name!r} is cancelled: nothing more of it is sent")
    connection.execute(LOCK_CHUNKS, (campaign,))
    keys = mark_to_resend(connection, campaign, doubts)
    connection.execute(_REOPEN, (campaign, keys))
    marked, left = count_marked(connection, campaign)
    return Resending(new=len(keys), marked=marked, under_way=left, state=state)


def _write_doubts(connection: Connection) -> None:
    """Bring into doubt what nobody alive is sending."""

    def interrupt() -> None:
        store = PostgresStore(connection)
        CommandExecutor(store, clock=time.time, settle_within=SETTLE_WITHIN).interrupt()

    transact(connection, interrupt)
