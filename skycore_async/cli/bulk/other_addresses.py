"""Whether a ledger has sent a campaign to another address of the API as well, as in a rehearsal.

Rules:

* A ledger does not know to which address it sent: what a simulator took is done for it, and would
  never go out, unless somebody is told.
* Nobody is told to take another ledger who may have sent to Skycore with this one.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Final

from ..ui.output import say
from .campaigns_before import Place, opened

_OTHERS: Final = """
SELECT DISTINCT address FROM sent
WHERE ledger = ? AND in_database = ? AND campaign = ? AND address <> ?
"""


def tell_of_others(place: Place) -> None:
    """Say to which other addresses a campaign was begun with the same ledger, if to any."""
    asked = (place.ledger, place.in_database, place.campaign, place.address)
    others: list[str] = []
    with suppress(OSError, sqlite3.Error), opened() as connection:  # which is said elsewhere
        others = [address for (address,) in connection.execute(_OTHERS, asked)]
    if others:
        say(
            f"Campaign {place.campaign!r} was begun with {place.ledger_name} at another address of"
            f" the API as well: {', '.join(others)}. What was taken there is done for this ledger,"
            " and is not sent here. If that was a rehearsal, as with `skycore simulate`, these"
            " recipients have got nothing: give the campaign a ledger of its own with --ledger. If"
            " it was Skycore, go on with this one: with another they would get a second message.",
            err=True,
        )
