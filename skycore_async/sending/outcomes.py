"""What an outcome means: one table, which everything above asks.  No I/O.

An outcome's verdict says what is known of its message; `meaning_of` says what
follows from that: whether to try again, to stop a bulk send, to say that nothing
gets through.  What a ledger records of it is in `ledger.rules`, by the same
verdict.

Rules:

* Only what is proven not sent is safe to send again.
* Doubt is no sign that messages get through: an address that answers everything
  with an error page puts every message in doubt.
* What was refused here, put off or in the ledger already does not show whether messages get
  through.  Nor does the refusal of a sender or a campaign reference: others may.
* A bulk send stops for what would refuse every message.  For what would refuse those of
  one sender or campaign reference it begins no other of these, and goes on.
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import Final

import attrs

from ..codes import Verdict
from ..errors import SendingHalted, SkycoreError
from ..messages import SMS, Failed, Outcome


class Halt(enum.Enum):
    """Which messages would meet the same as one that was not sent."""

    EVERYTHING = enum.auto()
    SENDER = enum.auto()  # those from the same short code
    CAMPAIGN = enum.auto()  # those with the same campaign reference


@attrs.frozen(kw_only=True)
class Meaning:
    """What follows from an outcome.

    * `safe_to_resend`: sending the message again cannot send it twice.
    * `in_doubt`: it may have been sent, and the ledger is yet to learn it.
    * `is_final`: it stands, and the same message would end the same way.
    * `halts`: which other messages would meet the same, so that a bulk send begins none of
      them; None where it says nothing of others.
    * `gets_through`: whether the provider was reached and gave a clear answer for this
      message; None where the outcome says nothing of that.
    """

    safe_to_resend: bool = False
    in_doubt: bool = False
    is_final: bool = False
    halts: Halt | None = None
    gets_through: bool | None = None


MEANINGS: Final = MappingProxyType(
    {
        Verdict.ACCEPTED: Meaning(is_final=True, gets_through=True),
        Verdict.REJECTED: Meaning(is_final=True, gets_through=True),
        Verdict.ACCOUNT_REFUSED: Meaning(halts=Halt.EVERYTHING, gets_through=False),
        Verdict.SENDER_REFUSED: Meaning(halts=Halt.SENDER),
        Verdict.CAMPAIGN_REFUSED: Meaning(halts=Halt.CAMPAIGN),
        Verdict.REQUEST_REFUSED: Meaning(halts=Halt.EVERYTHING, gets_through=False),
        Verdict.REFUSED_HERE: Meaning(is_final=True),
        Verdict.NOT_SENT: Meaning(safe_to_resend=True, gets_through=False),
        Verdict.PUT_OFF: Meaning(safe_to_resend=True),
        Verdict.HALTED: Meaning(halts=Halt.EVERYTHING, gets_through=False),
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


# What a rejection that concerns more than its message is said to be of.
_REFUSED: Final = MappingProxyType(
    {
        Verdict.ACCOUNT_REFUSED: "the account was refused: ",
        Verdict.REQUEST_REFUSED: "the request was refused: ",
        Verdict.SENDER_REFUSED: "the short code {!r} was refused: ",
        Verdict.CAMPAIGN_REFUSED: "the campaign reference {!r} was refused: ",
    }
)


class Halts:
    """What was refused in a bulk send besides the message that the refusal was of.

    `from_` and `campaign_ref` are those of messages that name none.  `error` says what the
    bulk send ends with: what stopped it, or else what was refused first.
    """

    def __init__(self, *, from_: str | None, campaign_ref: str | None) -> None:
        self.error: SendingHalted | None = None
        self._defaults = {Halt.SENDER: from_, Halt.CAMPAIGN: campaign_ref}
        self._found: dict[tuple[Halt, str | None], SendingHalted] = {}

    def add(self, outcome: Failed) -> Halt | None:
        """Take an outcome into account, and return which messages would meet the same."""
        error = outcome.error
        halt = MEANINGS[error.verdict].halts
        if halt is not None and (place := self._place(halt, outcome.message)) not in self._found:
            halted = SendingHalted(_REFUSED.get(error.verdict, "").format(place[1]) + str(error))
            halted.__cause__ = error
            self._found[place] = halted
            if self.error is None or halt is Halt.EVERYTHING:
                self.error = halted
        return halt

    def check(self, message: SMS) -> None:
        """Raise SendingHalted where the sender or the campaign of a message was refused."""
        for halt in (Halt.SENDER, Halt.CAMPAIGN):
            if (found := self._found.get(self._place(halt, message))) is not None:
                raise SendingHalted(*found.args) from found.__cause__

    def _place(self, halt: Halt, message: SMS) -> tuple[Halt, str | None]:
        value = {Halt.SENDER: message.from_, Halt.CAMPAIGN: message.campaign_ref}.get(halt)
        return halt, value or self._defaults.get(halt)
