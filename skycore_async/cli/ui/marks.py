"""The marks in rejects for rows whose messages may have gone out.

Rules:

* The mark stands first in the reason, whatever else is wrong with the row.  So a user who mends
  the row and sends the rejects with another ledger does not send it a second time by mistake.
* The ledger decides by the row's key, also for a row that is no valid message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ...errors import KeyConflict
from ...ledger.base import BaseLedger
from ...ledger.model import TAKEN, UNDECIDED, SendIntent, Submission

IN_DOUBT: Final = "in doubt: "
ALREADY_SENT: Final = "already sent: "


def mark_of(state: str | None) -> str:
    """Return the mark of a state; empty where nothing went out."""
    if state in UNDECIDED:
        return IN_DOUBT
    return ALREADY_SENT if state in TAKEN else ""


def mark_of_conflict(conflict: KeyConflict) -> str:
    """Return the mark of a row whose key has other content; in doubt where it is unclear."""
    return mark_of(conflict.state) or IN_DOUBT


def may_have_gone_out(found: Submission | KeyConflict | None) -> bool:
    """Return whether a message may have gone out, by what the ledger has of it."""
    return isinstance(found, KeyConflict) or bool(found and mark_of(found.state))


async def marks(ledger: BaseLedger, keys: Iterable[str]) -> Mapping[str, str]:
    """Return the marks of those keys that have one."""
    asked = [
        # No message has this content, so each that went out is a conflict, which has its state.
        SendIntent(key=key, content=b"", to="", from_=None, started_at=0.0)
        for key in keys
    ]
    found = await ledger.lookup_many(asked) if asked else {}
    return {
        key: mark_of_conflict(known)
        for key, known in found.items()
        if isinstance(known, KeyConflict)
    }
