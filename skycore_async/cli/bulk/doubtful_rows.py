"""What a row is by now that a file of rejects calls in doubt.  No I/O.

Rules:

* The ledger decides, and not the file, which may be old.
* A message that was sent becomes a duplicate, whose reason names the proof.  A message that was
  proven not sent is to be sent like any other.  A message that the ledger does not know stays in
  doubt, since another ledger may know it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import attrs

from ...ledger.model import BY_POSTBACK, BY_REPORT, NOTHING_SENT, MessageState
from ..ui.marks import ALREADY_SENT, mark_of
from .rows import JudgedRow, MessageRow, RejectedRow, RejectionKind

_PROOFS: Final = MappingProxyType(
    {
        BY_REPORT: "Skycore's own report of what it sent lists it",
        BY_POSTBACK: "a postback told it",
    }
)


def reconsidered(
    row: RejectedRow, state: MessageState | None, settled_by: str | None
) -> JudgedRow:
    """Return a row in doubt as what it is by the state of its key in the ledger, if any."""
    if mark_of(state) == ALREADY_SENT:
        how = _PROOFS.get(settled_by or "", "it was accepted")
        return attrs.evolve(row, kind=RejectionKind.DUPLICATE, reason=f"{ALREADY_SENT}{how}")
    if state not in NOTHING_SENT:
        return row
    if row.message is not None:
        return MessageRow(row=row.row, message=row.message)
    return attrs.evolve(row, kind=RejectionKind.INVALID, reason=row.otherwise or row.reason)
