"""Messages of a campaign that are loaded again with other content, since they were mended.

Strategy: under the locks of the campaign's chunks, so that nobody begins a message
meanwhile, the ledger is asked which of them may have gone out.  If none may, they are
put in place of what was loaded, and their chunks are to be sent anew.

Rules:

* What may have gone out keeps its content, as in the ledger.
* Whoever has such a chunk is fenced off: it would send what was loaded before.  Nobody
  takes it before that worker's lease has ended, so that nothing in flight is doubted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..errors import CampaignError
from ..ledger.postgres.campaign_messages import first_gone_out, take_back_refusals
from ..postgres.schema import Connection
from .chunks import LOCK_CHUNKS

_CHUNKS: Final = """
SELECT id, keys, messages FROM skycore.chunks
WHERE id IN (SELECT chunk FROM skycore_loaded WHERE key = ANY(%s))
ORDER BY id
"""
_REPLACE: Final = """
UPDATE skycore.chunks SET messages = %s, epoch = epoch + 1, state = 'waiting', worker = NULL,
    due = clock_timestamp()
WHERE id = %s
"""


def replace_content(connection: Connection, campaign: int, changed: Mapping[str, str]) -> None:
    """Put these messages, by their keys, in place of those that were loaded.

    `skycore_loaded` is the temporary table of what was, with the chunk of each key.
    Raises CampaignError where one may have gone out.
    """
    keys = list(changed)
    connection.execute(LOCK_CHUNKS, (campaign,))
    if (gone_out := first_gone_out(connection, keys)) is not None:
        raise CampaignError(
            f"the key {gone_out[:80]!r} was loaded with other content, and may have been sent:"
            " nothing was loaded now; put it back as it was, or leave it out. Under another key"
            " or in another campaign it would be sent once more, if it was sent"
        )
    take_back_refusals(connection, keys)
    for id_, of_chunk, messages in connection.execute(_CHUNKS, (keys,)).fetchall():
        rows = [changed.get(key, row) for key, row in zip(of_chunk, messages, strict=True)]
        connection.execute(_REPLACE, (rows, id_))
