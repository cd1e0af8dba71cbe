"""Refuse to load a campaign again with its numbers read in another way.

Strategy: a key contains the number, so that a number which is now read as one of a country
(`--country`) has a new key.  The keys that the messages would have without `--country` are looked
for, all at once, in the campaign and among the messages that the ledger may have sent.

Rules:

* No recipient is loaded a second time under another key: the recipient would be sent to twice,
  or, if the row were left out instead, the message would go to a wrong number.
* The check is part of the load's transaction, which another load of the campaign waits for.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import CampaignError
from ..ledger.postgres.campaign_messages import first_known
from ..postgres.schema import Connection


def refuse_reread(connection: Connection, name: str, unread: Iterable[str]) -> None:
    """Raise CampaignError if the campaign or the ledger has one of these keys.

    These are the keys that the messages would have if their numbers had not been read.
    """
    known = first_known(connection, name, unread)
    if known is not None:
        raise CampaignError(
            f"the key {known[:80]!r} is there from before its number was read as one of a"
            " country: nothing was loaded now, as whoever was sent to would be sent to again."
            " Load the campaign as before, without --country, or leave that row out"
        )
