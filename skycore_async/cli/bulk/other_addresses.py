"""Whether a ledger has sent a campaign to another address of the API as well, as in a rehearsal.

Rules:

* A ledger does not know to which address it sent: what a simulator took or refused, or may have
  taken, is done for it, and would never go out, unless somebody is told.  So is what has another
  text by now.
* Nobody is told to take another ledger who may have sent to Skycore with this one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from ..ui.outcome_kinds import OutcomeKind
from ..ui.output import say
from .campaigns_before import Place, opened

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
# What came of messages so keeps them from being sent by this run.
_KEPT_BACK: Final = frozenset(
    {OutcomeKind.ACCEPTED, OutcomeKind.ALREADY_SENT, OutcomeKind.IN_DOUBT, OutcomeKind.REFUSED}
)


def tell_of_others(place: Place, known: Collection[OutcomeKind]) -> None:
    """Say to which other addresses a campaign was begun with the same ledger, if to any.

    `known` is what came of its messages, by the ledger.
    """
    if _KEPT_BACK.isdisjoint(known):
        return
    asked = (place.ledger, place.in_database, place.campaign)
    found: set[str] = set()
    with suppress(OSError, sqlite3.Error), opened() as connection:  # which is said elsewhere
        found = {address for (address,) in connection.execute(_ADDRESSES, asked)}
    if others := sorted(found - {place.address}):
        what_to_do = _WHERE_HERE_TOO if place.address in found else _WHERE_NOT_HERE
        say(
            f"Campaign {place.campaign!r} was begun with {place.ledger_name} at another address of"
            f" the API as well: {', '.join(others)}. What was taken or refused there, or may have"
            f" been taken, is done for this ledger, and is not sent here. {what_to_do}",
            err=True,
        )
