"""What is in doubt in a campaign, sent again on an operator's word: once each.

Strategy: the campaign's chunk keeps the word with the key, as the time at which the attempt began
that is in doubt.  Who sends the chunk has the word for that attempt, and for no other: its next
intent is another attempt, so that however often the word is given meanwhile, or a worker dies, it
is sent once for it.  What settles its doubt before that leaves nothing to send again.

Rules:

* What a live process may still get the outcome of is left alone.  What a dead one was sending
  is in doubt, whether or not anybody has written so yet.
* The word is for the attempts that were asked about, and for no other.
* It is the campaign's: another that has the same key, and runs or is cancelled meanwhile, neither
  sends for it nor takes it away.
* Who is left out when a worker comes to them, as for a STOP, needs another word: this one is
  taken back then.
* Chunks are locked first, so that none is taken for done that has got a word; and then the
  campaign, as whoever loads it does.
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
from .chunks import in_places, resend_words_of

_GIVE: Final = """
UPDATE skycore.chunks SET resends = %s,
    state = CASE state WHEN 'done' THEN 'waiting' ELSE state END,
    due = CASE state WHEN 'done' THEN clock_timestamp() ELSE due END
WHERE id = %s
"""


@attrs.frozen(kw_only=True)
class Resending:
    """What is sent again: for how many the word is new, how many have it, and are left in doubt.

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
    """Have these doubts of a campaign sent once more, as far as they are doubts still.

    Raises CampaignError where there is no such campaign, or it was cancelled.
    """
    return transact(connection, lambda: _given(connection, name, doubts))


def _given(connection: Connection, name: str, doubts: Mapping[int, float]) -> Resending:
    chunks = locked_chunks_with(connection, name, doubts)
    campaign, state = locked_campaign(connection, name)
    if state == "cancelled":
        raise CampaignError(f"the campaign {name!r} is cancelled: nothing more of it is sent")
    found, new = still_in_doubt(connection, doubts), 0
    for id_, keys, resends in chunks:
        before = resend_words_of(keys, resends)
        words = {**before, **{key: found[key] for key in keys if key in found}}
        if words != before:
            new += len(words.items() - before.items())
            connection.execute(_GIVE, (in_places(keys, words), id_))
    marked, left = count_to_resend(connection, campaign)
    return Resending(new=new, marked=marked, under_way=left, state=state)


def _write_doubts(connection: Connection) -> None:
    """Bring into doubt what nobody alive is sending."""

    def interrupt() -> None:
        store = PostgresStore(connection)
        CommandExecutor(store, clock=time.time, settle_within=SETTLE_WITHIN).interrupt()

    transact(connection, interrupt)
