"""What is in doubt in a campaign, sent again on an operator's word: once each.

Strategy: a message keeps its state, in doubt, and is marked to be sent again.  Its next
intent takes the mark away, so that however often the word is given meanwhile, or a worker
dies, it is sent once for it.  What settles its doubt before that takes the mark away, too.

Rules:

* What a live process may still get the outcome of is left alone.
* Chunks are locked first, so that none is taken for done while its messages are marked.
"""

from __future__ import annotations

from typing import Final

import attrs

from ..errors import CampaignError
from ..ledger.postgres.campaign_messages import count_marked, mark_to_resend
from ..postgres.schema import Connection
from .campaigns import locked_campaign
from .chunks import LOCK_CHUNKS

_REOPEN: Final = """
UPDATE skycore.chunks SET state = 'waiting', due = clock_timestamp()
WHERE campaign = %s AND state = 'done' AND keys && %s
"""


@attrs.frozen(kw_only=True)
class Resending:
    """What is sent again: how many were marked now, are marked in all, and may still end.

    `state` is that of the campaign, which has to run for them to be sent.
    """

    new: int
    marked: int
    under_way: int
    state: str


def resend(connection: Connection, name: str) -> Resending:
    """Mark what is in doubt in a campaign to be sent once more.

    Raises CampaignError where there is no such campaign, or it was cancelled.
    """
    with connection.transaction():
        campaign, state = locked_campaign(connection, name)
        if state == "cancelled":
            raise CampaignError(f"the campaign {name!r} is cancelled: nothing more of it is sent")
        connection.execute(LOCK_CHUNKS, (campaign,))
        keys = mark_to_resend(connection, campaign)
        connection.execute(_REOPEN, (campaign, keys))
        marked, left = count_marked(connection, campaign)
    return Resending(new=len(keys), marked=marked, under_way=left, state=state)
