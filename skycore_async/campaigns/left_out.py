"""Messages that workers left out, tried again when their campaign is loaded again.

A message that was refused before it was begun, for example since its number had opted out, is in
no ledger, and its chunk is done.  When it is loaded again it is to be sent, as by a bulk send that
is run again: the number may have said START meanwhile.

Rules:

* A chunk is due again if the load has one of its messages that were left out; nothing changes for
  the chunk's other messages.
* A message that still cannot be sent is left out again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..ledger.postgres.campaign_messages import chunks_without
from ..postgres.schema import Connection

_CHUNKS: Final = """
SELECT id FROM skycore.chunks WHERE campaign = %s AND state = 'done' AND left_out IS NOT NULL
"""
_LOCK: Final = "SELECT FROM skycore.chunks WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
_LOOK_AGAIN: Final = """
UPDATE skycore.chunks SET state = 'waiting', left_out = NULL, due = clock_timestamp()
WHERE id = ANY(%s) AND state = 'done'
"""


class LeftOut:
    """The chunks of a campaign with messages that were left out, and which of these are loaded.

    `skycore_loaded` is the temporary table of what was loaded, with the chunk of each key.
    """

    def __init__(self, connection: Connection, campaign: int) -> None:
        self._connection = connection
        self._chunks = [id_ for (id_,) in connection.execute(_CHUNKS, (campaign,))]
        self._found: set[int] = set()

    def see(self, keys: Sequence[str]) -> None:
        """Note that these keys are loaded."""
        if self._chunks:
            self._found |= chunks_without(self._connection, keys, self._chunks)

    def look_again(self) -> None:
        """Make the chunks due again of which a message that was left out is loaded."""
        if self._found:
            chunks = sorted(self._found)
            self._connection.execute(_LOCK, (chunks,))
            self._connection.execute(_LOOK_AGAIN, (chunks,))
