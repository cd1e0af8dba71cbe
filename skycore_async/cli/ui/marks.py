"""How rejects mark a row whose message may have gone out: read again, it is left out.

Rules:

* Whatever was wrong with a row, that its message is in doubt or was sent stands first: whoever
  mends the row and sends the rejects elsewhere sends it no second time unawares.
* What the ledger has under the row's key decides, also for a row that no message is made of.
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
    """Return the mark of what a ledger has in that state; empty where nothing went out."""
    if state in UNDECIDED:
        return IN_DOUBT
    return ALREADY_SENT if state in TAKEN else ""


def mark_of_conflict(conflict: KeyConflict) -> str:
    """Return the mark of a row whose key has other content: in doubt where that is not clear."""
    return mark_of(conflict.state) or IN_DOUBT


def may_have_gone_out(found: Submission | KeyConflict | None) -> bool:
    """Return whether what a ledger has of a message may have gone out."""
    return isinstance(found, KeyConflict) or bool(found and mark_of(found.state))


async def marks(ledger: BaseLedger, keys: Iterable[str]) -> Mapping[str, str]:
    """Return the marks of these keys, of those that have one."""
    asked = [
        # Content that no message has: all that went out is a conflict, which says how far it got.
        SendIntent(key=key, content=b"", to="", from_=None, started_at=0.0)
        for key in keys
    ]
    found = await ledger.lookup_many(asked) if asked else {}
    return {
        key: mark_of_conflict(known)
        for key, known in found.items()
        if isinstance(known, KeyConflict)
    }
