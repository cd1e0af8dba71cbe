"""The questions before a bulk send: to settle first, to send, and to send a second time.

Rules:

* Without a terminal nothing is asked, and nothing is sent without --yes.
* A yes covers what was known when the question was asked.  Where another campaign has begun the
  same messages since, this run fails, and the next one asks about it.
"""

from __future__ import annotations

import attrs

from ...errors import LedgerError
from ..ui.confirm import confirm, has_terminal, need_terminal
from ..ui.output import fail, number_of, say
from .confirmed_ledger import LedgerCounts
from .earlier_campaigns import EarlierCampaign, note_none_sent, note_sent
from .estimate import Estimate
from .older_ledger import SentBefore, note_last_turn
from .place import Place
from .resemblance import Sketch
from .settle_first import is_to_settle


@attrs.frozen(kw_only=True)
class GivenAnswers:
    """The answers that options give to the questions; `verb` says what is asked for."""

    verb: str
    yes: bool
    yes_send_again: bool
    settle: bool
    resend_in_doubt: bool
    max_segments: int | None


def ask(
    given: GivenAnswers,
    estimate: Estimate,
    known: LedgerCounts,
    before: SentBefore | None,
) -> bool:
    """Ask whether to send, and return whether to settle what is in doubt first.

    Fails where the answer is no, and where nobody can be asked.
    """
    if known.messages:
        say(_held_by_ledger(known, resend_in_doubt=given.resend_in_doubt), err=True)
    asks = has_terminal() and not given.yes
    settle = is_to_settle(known.in_doubt, wanted=given.settle, asks=asks)
    if (why := estimate.obstacle(given.max_segments, settles=settle)) is not None:
        fail(why)
    if before is not None and not given.yes_send_again:
        _ask_to_send_again(before, asks=asks)
    if given.yes:
        return settle
    need_terminal("nothing was sent")
    if estimate.to_send or (settle and estimate.in_doubt):
        _ask_to_send(given, estimate, settle=settle)
    else:
        say("Nothing is left to send.", err=True)
    return settle


def _held_by_ledger(known: LedgerCounts, *, resend_in_doubt: bool) -> str:
    doubts = ", and once more what is in doubt" if resend_in_doubt else ""
    return (
        f"The ledger holds {number_of(known.messages, 'message')}, {known.in_doubt:,} of them in"
        f" doubt. This run sends what it has no outcome of or knows as not sent{doubts}."
    )


def check_begun_meanwhile(earlier: EarlierCampaign | None) -> None:
    """Fail where another campaign was begun with these messages while the question was open."""
    if earlier is not None:
        fail(_refusal(earlier))


class CampaignNotes:
    """What is noted of a campaign while it is sent.

    `new` are its messages where no earlier campaign with them is known.
    """

    def __init__(self, place: Place, new: Sketch | None) -> None:
        self._place = place
        self._new = new
        self._is_first: bool | None = None  # None while nothing is noted
        self._last_turn = 0  # the greatest that the ledger had so far

    def note_first_message(self) -> None:
        """Note that the campaign begins to send: call this before each message.

        Raises LedgerError where another campaign has begun to send the messages since.
        """
        if self._is_first is None:
            noted = note_sent(self._place, self._new)
            if isinstance(noted, EarlierCampaign):
                raise LedgerError(_refusal(noted))
            self._is_first = noted

    def note_last_turn(self, turn: int) -> None:
        """Note the ledger's last turn, once the campaign has begun.

        If it is 0, the first message has not begun after all: that note is taken back.  If it is
        less than before, an older ledger was put in its place: nothing is noted.
        """
        is_older, self._last_turn = turn < self._last_turn, max(turn, self._last_turn)
        if self._is_first is not None and not is_older:
            note_last_turn(self._place, turn)
            if self._is_first and not turn:
                note_none_sent(self._place)


def _refusal(before: SentBefore) -> str:
    return (
        f"nothing was sent: {before.words}. That would be billed and delivered a second time,"
        f" for which --yes-send-again is needed; {before.how_to_go_on}"
    )


def _ask_to_send_again(before: SentBefore, *, asks: bool) -> None:
    if not asks:
        fail(_refusal(before))
    say(f"{before.words[0].upper()}{before.words[1:]}.", err=True)
    confirm(
        "They would be billed and delivered a second time. Send them again?",
        otherwise=f"nothing was sent; {before.how_to_go_on}",
    )


def _ask_to_send(given: GivenAnswers, estimate: Estimate, *, settle: bool) -> None:
    asked = [number_of(estimate.to_send, "message")] if estimate.to_send else []
    if settle and estimate.in_doubt:
        asked.append(f"what the report proves not sent of {estimate.in_doubt:,} in doubt")
    confirm(f"{given.verb} {', and '.join(asked)}?", otherwise="nothing was sent")
    if given.resend_in_doubt:
        confirm(
            "What is in doubt may have been sent already, and would be billed and delivered twice."
            " Send it again?",
            otherwise="nothing was sent",
        )
