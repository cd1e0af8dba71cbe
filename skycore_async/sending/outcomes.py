"""What an outcome means: one table, which all other code asks.  No I/O.

An outcome's verdict says what is known of its message.  `meaning_of` says what follows: whether to
try again, to stop a bulk send, or to report that nothing gets through.  `ledger.rules` says what
state a ledger records for each verdict.

Rules:

* Only what is proven not sent is safe to send again.
* A doubt does not count as getting through: an address that answers everything with an error page
  puts every message in doubt.
* A message that was refused here, put off, or in the ledger already does not show whether messages
  get through.  Nor does the refusal of a sender or a campaign reference: others may get through.
* A bulk send stops at a refusal that every message would meet.  At one that all messages of a
  sender or a campaign reference would meet, it begins no more of these, and goes on.
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
    """Which messages would be refused like one that was not sent."""

    EVERYTHING = enum.auto()
    SENDER = enum.auto()  # those from the same short code
    CAMPAIGN = enum.auto()  # those with the same campaign reference


@attrs.frozen(kw_only=True)
class Meaning:
    """What follows from an outcome.

    * `safe_to_resend`: sending the message again cannot send it twice.
    * `in_doubt`: it may have been sent, and the ledger is yet to learn it.
    * `is_final`: it stands, and the same message would end the same way.
    * `halts`: which other messages would be refused the same way, so that a bulk send begins none
      of them; None if the outcome says nothing about others.
    * `gets_through`: whether the provider was reached and gave a clear answer for this message;
      None if the outcome does not tell.
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
    """Count the messages in a row that did not get through; at `limit` sending is stuck.

    A message that the API accepted or clearly refused resets the count.
    """

    limit: int
    in_a_row: int = 0

    @property
    def is_stuck(self) -> bool:
        """Whether so many in a row did not get through that the rest would not, either."""
        return self.in_a_row >= self.limit

    def add(self, outcome: Outcome) -> None:
        """Take an outcome into account."""
        if outcome.recorded:
            return
        gets_through = meaning_of(outcome).gets_through
        if gets_through is not None:
            self.in_a_row = 0 if gets_through else self.in_a_row + 1


# What was refused, for a rejection that concerns more than its message.
_REFUSED: Final = MappingProxyType(
    {
        Verdict.ACCOUNT_REFUSED: "the account was refused: ",
        Verdict.REQUEST_REFUSED: "the request was refused: ",
        Verdict.SENDER_REFUSED: "the short code {!r} was refused: ",
        Verdict.CAMPAIGN_REFUSED: "the campaign reference {!r} was refused: ",
    }
)


class Halts:
    """The refusals in a bulk send that concern more than their message.

    `from_` and `campaign_ref` are those of messages that name none.  `error` is what the bulk send
    ends with: the refusal that stopped it, else the first one.
    """

    def __init__(self, *, from_: str | None, campaign_ref: str | None) -> None:
        self.error: SendingHalted | None = None
        self._defaults = {Halt.SENDER: from_, Halt.CAMPAIGN: campaign_ref}
        self._found: dict[tuple[Halt, str | None], SendingHalted] = {}

    def add(self, outcome: Failed) -> Halt | None:
        """Take an outcome into account, and return which messages would be refused like it."""
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
        """Raise SendingHalted if the sender or the campaign reference of a message was refused."""
        for halt in (Halt.SENDER, Halt.CAMPAIGN):
            if (found := self._found.get(self._place(halt, message))) is not None:
                raise SendingHalted(*found.args) from found.__cause__

    def _place(self, halt: Halt, message: SMS) -> tuple[Halt, str | None]:
        value = {Halt.SENDER: message.from_, Halt.CAMPAIGN: message.campaign_ref}.get(halt)
        return halt, value or self._defaults.get(halt)
