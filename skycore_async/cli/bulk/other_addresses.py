"""A warning where a ledger has sent the campaign to another address of the API, as in a rehearsal.

Rules:

* A ledger does not know to which address it sent.  What a simulator took, refused or may have
  taken counts as done, also with another text, and would never go out to Skycore.  So the user is
  told.
* A user who may have sent to Skycore with this ledger is not told to take another.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from ..ui.outcome_kinds import OutcomeKind
from ..ui.output import say
from .earlier_campaigns import opened
from .place import Place

_ADDRESSES: Final = """
SELECT DISTINCT address FROM sent WHERE ledger = ? AND in_database = ? AND campaign = ?
"""
_WHERE_NOT_HERE: Final = (
    "If that was a rehearsal, as with `skycore simulate`, these recipients have got nothing: give"
    " the campaign a ledger of its own with --ledger. If it was Skycore, go on with this one: with"
    " another they would get a second message."
)
_WHERE_HERE_TOO: Final = (
    "If that was a rehearsal, as with `skycore simulate`, those have got nothing. But some were"
    " sent from here since, and the ledger does not tell them apart: with another ledger these"
    " would get a second message."
)
# Messages with these outcomes are not sent by this run.
_KEPT_BACK: Final = frozenset(
    {OutcomeKind.ACCEPTED, OutcomeKind.ALREADY_SENT, OutcomeKind.IN_DOUBT, OutcomeKind.REFUSED}
)


def tell_of_others(place: Place, known: Collection[OutcomeKind]) -> None:
    """Warn of other addresses to which the campaign was begun with the same ledger.

    `known` are the outcomes that the ledger has of its messages.
    """
    if _KEPT_BACK.isdisjoint(known):
        return
    asked = (place.ledger, place.in_database, place.campaign)
    found: set[str] = set()
    with suppress(OSError, sqlite3.Error), opened() as connection:  # told elsewhere
        found = {address for (address,) in connection.execute(_ADDRESSES, asked)}
    if others := sorted(found - {place.address}):
        what_to_do = _WHERE_HERE_TOO if place.address in found else _WHERE_NOT_HERE
        say(
            f"Campaign {place.campaign!r} was begun with {place.ledger_name} at another address of"
            f" the API as well: {', '.join(others)}. What was taken or refused there, or may have"
            f" been taken, is done for this ledger, and is not sent here. {what_to_do}",
            err=True,
        )
