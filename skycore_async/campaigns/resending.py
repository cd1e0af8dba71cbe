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
from ..ledger.model import TO_RESEND
from ..ledger.postgres.reader import MAY_STILL_END
from ..postgres.schema import Connection
from .campaigns import locked_campaign
from .chunks import LOCK_CHUNKS

_OF_CAMPAIGN: Final = "SELECT unnest(keys) FROM skycore.chunks WHERE campaign = %(campaign)s"
_MARK: Final = f"""
UPDATE skycore.messages SET settled_by = '{TO_RESEND}' WHERE id IN (
    SELECT id FROM skycore.messages
    WHERE key IN ({_OF_CAMPAIGN}) AND state = 'in_doubt'
        AND settled_by IS NULL AND NOT ({MAY_STILL_END})
    ORDER BY key FOR UPDATE)
RETURNING key
"""  # noqa: S608 - expressions of our own
_LEFT: Final = f"""
SELECT count(*) FILTER (WHERE settled_by IS NOT NULL), count(*) FILTER (WHERE settled_by IS NULL)
FROM skycore.messages WHERE key IN ({_OF_CAMPAIGN}) AND state = 'in_doubt'
"""  # noqa: S608 - an expression of our own
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
        keys = [key for (key,) in connection.execute(_MARK, {"campaign": campaign})]
        connection.execute(_REOPEN, (campaign, keys))
        marked, left = connection.execute(_LEFT, {"campaign": campaign}).fetchone() or (0, 0)
    return Resending(new=len(keys), marked=marked, under_way=left, state=state)
