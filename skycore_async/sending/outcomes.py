"""What an outcome means: one table, which everything above asks.  No I/O.

An outcome's verdict says what is known of its message; `meaning_of` says what
follows from that: whether to try again, to stop a bulk send, to say that nothing
gets through.  What a ledger records of it is in `ledger.rules`, by the same
verdict.

Rules:

* Only what is proven not sent is safe to send again.
* Doubt is no sign that messages get through: an address that answers everything
  with an error page puts every message in doubt.
* What was refused here, or was in the ledger already, does not show whether messages get
  through.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import attrs

from ..codes import Verdict
from ..errors import SkycoreError
from ..messages import Outcome


@attrs.frozen(kw_only=True)
class Meaning:
    """What follows from an outcome.

    * `safe_to_resend`: sending the message again cannot send it twice.
    * `in_doubt`: it may have been sent, and the ledger is yet to learn it.
    * `is_final`: it stands, and the same message would end the same way.
    * `halts`: every other message would meet the same, so that a bulk send stops.
    * `gets_through`: whether the provider was reached and gave a clear answer for this
      message; None where the outcome says nothing of that.
    """

    safe_to_resend: bool = False
    in_doubt: bool = False
    is_final: bool = False
    halts: bool = False
    gets_through: bool | None = None


MEANINGS: Final = MappingProxyType(
    {
        Verdict.ACCEPTED: Meaning(is_final=True, gets_through=True),
        Verdict.REJECTED: Meaning(is_final=True, gets_through=True),
        Verdict.ACCOUNT_REFUSED: Meaning(halts=True, gets_through=False),
        Verdict.REFUSED_HERE: Meaning(is_final=True),
        Verdict.NOT_SENT: Meaning(safe_to_resend=True, gets_through=False),
        Verdict.HALTED: Meaning(halts=True, gets_through=False),
        Verdict.IN_DOUBT: Meaning(in_doubt=True, gets_through=False),
    }
)


def meaning_of(outcome: Outcome | SkycoreError) -> Meaning:
    """Return what follows from an outcome, or from the error in one."""
    return MEANINGS[outcome.verdict]


@attrs.define
class StuckCounter:
    """Count the messages in a row that did not get through; `limit` of them mean no route.

    A message that was accepted or clearly refused by the API starts the count anew.
    """

    limit: int
    in_a_row: int = 0

    @property
    def is_stuck(self) -> bool:
        """Whether so many in a row did not get through that the rest would not either."""
        return self.in_a_row >= self.limit

    def add(self, outcome: Outcome) -> None:
        """Take an outcome into account."""
        if outcome.recorded:
            return
        gets_through = meaning_of(outcome).gets_through
        if gets_through is not None:
            self.in_a_row = 0 if gets_through else self.in_a_row + 1
