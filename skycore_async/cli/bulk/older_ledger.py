"""Whether a ledger is an older one than the campaign was last sent with, as a backup.

Strategy: how many messages the ledger has is noted beside the user's campaigns, every few seconds
while a campaign is sent, and at the end.  No message is ever removed from a ledger.  So a ledger
with fewer messages than noted is an older one, and does not know what was sent since.

Rules:

* The number is noted for each campaign: what other campaigns sent with the ledger since does not
  count.
* Where the number cannot be noted, the run goes on; `earlier_campaigns` tells the user.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Final, TypeAlias

import attrs

from ..ui.output import number_of
from .earlier_campaigns import EarlierCampaign, opened
from .place import PLACE, PLACE_COLUMNS, Place

_TABLE: Final = f"""
CREATE TABLE IF NOT EXISTS messages_had (
    {PLACE_COLUMNS}, count INTEGER, PRIMARY KEY ({PLACE})
) WITHOUT ROWID
"""
_HAD: Final = f"SELECT count FROM messages_had WHERE ({PLACE}) = (?, ?, ?, ?, ?)"  # noqa: S608 - names of our own
_FORGET_ORPHANS: Final = f"""
DELETE FROM messages_had WHERE ({PLACE}) NOT IN (SELECT {PLACE} FROM campaigns)
"""  # noqa: S608 - names of our own


def note_messages(place: Place, count: int) -> None:
    """Note how many messages the ledger of a campaign has."""
    with suppress(OSError, sqlite3.Error), opened(_TABLE) as connection:
        row = (*attrs.astuple(place), count)
        connection.execute("INSERT OR REPLACE INTO messages_had VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute(_FORGET_ORPHANS)


@attrs.frozen(kw_only=True)
class OlderLedger:
    """A ledger that has fewer messages than when the campaign was last sent with it."""

    place: Place
    had: int
    has: int

    @property
    def how_to_go_on(self) -> str:
        """Say how to send those messages of the campaign that are not sent yet, and no others."""
        return (
            "to go on with that campaign, put the ledger of that time back in its place, with"
            " those beside it whose names begin with its own; where it is lost, leave out the"
            " numbers that Skycore's own report lists since, and add --yes-send-again then"
        )

    @property
    def words(self) -> str:
        """Say which ledger it is, and what it does not know."""
        return (
            f"the ledger {self.place.ledger_name} had {number_of(self.had, 'message')} when"
            f" campaign {self.place.campaign!r} was last sent with it, and has {self.has:,} now,"
            " as a backup does: what was sent since is not known to it, and would go out again"
        )


# What shows that messages may have been sent before.
SentBefore: TypeAlias = EarlierCampaign | OlderLedger


def find_older(place: Place, count: int) -> OlderLedger | None:
    """Return the ledger of a campaign, which has `count` messages, if it had more of them."""
    with suppress(OSError, sqlite3.Error), opened(_TABLE) as connection:
        found = connection.execute(_HAD, attrs.astuple(place)).fetchone()
        if found is not None and count < found[0]:
            return OlderLedger(place=place, had=found[0], has=count)
    return None
