"""A campaign that is loaded again with its numbers read in another way: refused.

Strategy: a key names its number, so that a number which is now read as one of a country
(`--country`) has a new key.  The keys that the messages would have without that are looked
for, all at once, among what the campaign has and what the ledger may have sent.

Rules:

* Nobody is loaded a second time under another key.  One who is loaded already would be sent to
  twice, and a row that was left out instead would go to a number that is wrong.
* It is asked within the load, which another of the same campaign waits for.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import CampaignError
from ..ledger.postgres.campaign_messages import first_known
from ..postgres.schema import Connection


def refuse_reread(connection: Connection, name: str, unread: Iterable[str]) -> None:
    """Raise CampaignError where the campaign, or the ledger, has one of these keys.

    They are those that messages would have, were their numbers not read.
    """
    known = first_known(connection, name, unread)
    if known is not None:
        raise CampaignError(
            f"the key {known[:80]!r} is there from before its number was read as one of a"
            " country: nothing was loaded now, as whoever was sent to would be sent to again."
            " Load the campaign as before, without --country, or leave that row out"
        )
