"""Messages of a campaign that are loaded again with other content, since somebody mended them.

Strategy: changed messages are noted while the load reads its file.  After that, under the locks of
the campaign's chunks, so that nobody begins a message meanwhile, the ledger is asked which of them
may have gone out.  If none may, they replace the loaded ones, and their chunks are due again.

Rules:

* A message that may have gone out keeps its content, as in the ledger: another one is refused.
* Tags are no content.  A message that may have gone out keeps them, too, without an error.
* A worker that has such a chunk is fenced off: it would send the old content.  The chunk is not
  taken again before that worker's lease has ended, so that nothing in flight becomes a doubt.
* Sending never waits while a load reads its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..errors import CampaignError
from ..ledger.postgres.campaign_messages import gone_out, take_back_refusals
from ..postgres.schema import Connection
from .chunks import LOCK_CHUNKS
from .message_rows import have_one_content

_TABLE: Final = """
CREATE TEMP TABLE skycore_changed (
    place bigint GENERATED ALWAYS AS IDENTITY, key text COLLATE "C", message text, chunk bigint
) ON COMMIT DROP
"""
_NOTE: Final = """
INSERT INTO skycore_changed (key, message, chunk)
SELECT key, given.message, chunk
FROM unnest(%s::text[], %s::text[]) AS given (key, message) JOIN skycore_loaded USING (key)
"""
_OF_CHUNK: Final = "SELECT key, message FROM skycore_changed WHERE chunk = %s ORDER BY place"
_REPLACE: Final = """
UPDATE skycore.chunks SET messages = %s, epoch = epoch + 1, state = 'waiting', worker = NULL,
    due = clock_timestamp()
WHERE id = %s
"""


class ChangedContent:
    """The messages of a campaign that are loaded with other content than before.

    `skycore_loaded` is the temporary table of what was loaded, with the chunk of each key.
    """

    def __init__(self, connection: Connection, campaign: int) -> None:
        self._connection = connection
        self._campaign = campaign
        self.count = 0

    def note(self, changed: Mapping[str, str], known: Mapping[str | None, str]) -> None:
        """Add messages, by key, for the `known` ones; CampaignError if one may have gone out."""
        wanted = self._replaceable(changed, known)
        if not wanted:
            return
        if not self.count:
            self._connection.execute(_TABLE)
        self._connection.execute(_NOTE, (list(wanted), list(wanted.values())))
        self.count += len(wanted)

    def replace(self) -> None:
        """Replace the loaded messages with them.

        Raises CampaignError if one may have gone out by now.
        """
        if not self.count:
            return
        self._connection.execute("CREATE INDEX ON skycore_changed (chunk)")
        self._connection.execute(LOCK_CHUNKS, (self._campaign,))
        for (id_,) in self._connection.execute(
            "SELECT DISTINCT chunk FROM skycore_changed ORDER BY chunk"
        ).fetchall():
            self._replace_in(id_)

    def _replace_in(self, chunk: int) -> None:
        noted: dict[str, str] = dict(self._connection.execute(_OF_CHUNK, (chunk,)).fetchall())
        for keys, messages in self._connection.execute(
            "SELECT keys, messages FROM skycore.chunks WHERE id = %s", (chunk,)
        ).fetchall():
            known = dict(zip(keys, messages, strict=True))
            # One that was pruned meanwhile has another key.
            changed = self._replaceable({k: row for k, row in noted.items() if k in known}, known)
            self.count -= len(noted) - len(changed)
            if changed:
                mended = [k for k, row in changed.items() if not have_one_content(known[k], row)]
                take_back_refusals(self._connection, mended)
                rows = [changed.get(k, row) for k, row in zip(keys, messages, strict=True)]
                self._connection.execute(_REPLACE, (rows, chunk))

    def _replaceable(
        self, changed: Mapping[str, str], known: Mapping[str | None, str]
    ) -> dict[str, str]:
        """Return those that may replace the known ones; CampaignError if one has to, and may not.

        One that may have gone out, and differs in its tags alone, stays as it is.
        """
        kept = gone_out(self._connection, changed)
        other = [key for key in kept if not have_one_content(known[key], changed[key])]
        if other:
            raise CampaignError(
                f"the key {min(other)[:80]!r} was loaded with other content, and may have been"
                " sent: nothing was loaded now; put it back as it was, or leave it out. Under"
                " another key or in another campaign it would be sent once more, if it was sent"
            )
        return {key: row for key, row in changed.items() if key not in kept}
