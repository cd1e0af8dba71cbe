"""Whether a ledger is an older one than the campaign was last sent with, as a backup.

Strategy: the turn of the attempt that was begun last is noted beside the user's campaigns, every
few seconds while a campaign is sent, and at the end.  Turns only grow, also where a message that
was not sent is begun again.  So a ledger whose last turn is less than noted is an older one, and
does not know what was sent since.

Rules:

* The turn is noted for each campaign: what other campaigns sent with the ledger since does not
  count.
* Where the turn cannot be noted, the run goes on; `earlier_campaigns` tells the user.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Final, TypeAlias

import attrs

from .earlier_campaigns import EarlierCampaign, opened
from .place import AT_PLACE, PLACE, PLACE_COLUMNS, Place, forget_orphans

_TABLE: Final = f"""
CREATE TABLE IF NOT EXISTS last_turns (
    {PLACE_COLUMNS}, turn INTEGER, PRIMARY KEY ({PLACE})
) WITHOUT ROWID
"""
_NOTED: Final = f"SELECT turn FROM last_turns {AT_PLACE}"  # noqa: S608 - names of our own
_FORGET_ORPHANS: Final = forget_orphans("last_turns")


def note_last_turn(place: Place, turn: int) -> None:
    """Note the turn of the attempt that was begun last with the ledger of a campaign."""
    with suppress(OSError, sqlite3.Error), opened(_TABLE) as connection:
        row = (*attrs.astuple(place), turn)
        connection.execute("INSERT OR REPLACE INTO last_turns VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute(_FORGET_ORPHANS)


@attrs.frozen(kw_only=True)
class OlderLedger:
    """A ledger that is older than when the campaign was last sent with it."""

    place: Place

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
            f"the ledger {self.place.ledger_name} is an older one than campaign"
            f" {self.place.campaign!r} was last sent with, as a backup is: what was sent since is"
            " not known to it, and would go out again"
        )


# What shows that messages may have been sent before.
SentBefore: TypeAlias = EarlierCampaign | OlderLedger


def find_older(place: Place, last_turn: int) -> OlderLedger | None:
    """Return the ledger of a campaign, if an attempt was begun with it after `last_turn`."""
    with suppress(OSError, sqlite3.Error), opened(_TABLE) as connection:
        found = connection.execute(_NOTED, attrs.astuple(place)).fetchone()
        if found is not None and last_turn < found[0]:
            return OlderLedger(place=place)
    return None
