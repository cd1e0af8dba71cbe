"""What is asked before a bulk send: whether to settle first, whether to send, and to send again.

Rules:

* Without a terminal nothing is asked, and nothing is sent without --yes.
* A yes is for what was known when it was asked for: what was begun under another name since
  needs another.
"""

from __future__ import annotations

from typing import NoReturn

import attrs

from ...errors import LedgerError
from ..ui.confirm import confirm, has_terminal, need_terminal
from ..ui.output import fail, number_of, say
from .campaigns_before import Before, Place, note_none_sent, note_sent
from .estimate import Estimate
from .ledger_asked_about import LedgerCounts
from .messages_before import BegunBefore, note_messages
from .resemblance import Sketch
from .settle_first import is_to_settle


@attrs.frozen(kw_only=True)
class WordsGiven:
    """What the options said already of what would be asked; `verb` is what is to be done."""

    verb: str
    yes: bool
    yes_send_again: bool
    settle: bool
    resend_in_doubt: bool
    max_segments: int | None


def ask(
    given: WordsGiven, estimate: Estimate, known: LedgerCounts, before: BegunBefore | None
) -> bool:
    """Ask for a yes, or fail; return whether what is in doubt is to be settled first."""
    if known.messages:
        say(_known_before(known, resend_in_doubt=given.resend_in_doubt), err=True)
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


def _known_before(known: LedgerCounts, *, resend_in_doubt: bool) -> str:
    doubts = ", and what is in doubt once more" if resend_in_doubt else ""
    return (
        f"The ledger holds {number_of(known.messages, 'message')}, {known.in_doubt:,} of them in"
        f" doubt. What goes out now is what it has no outcome of, or knows as not sent{doubts}."
    )


def check_begun_meanwhile(before: Before | None) -> None:
    """Fail where these messages were begun as another campaign while somebody was asked."""
    if before is not None:
        _refuse_to_send_again(before)


class FirstNote:
    """What is to be called before each message: it notes once that there is one.

    It raises LedgerError where the messages were thought to be `new`, and are being sent as
    another campaign, which was begun at the same time.
    """

    def __init__(self, place: Place, new: Sketch | None) -> None:
        self._place = place
        self._new = new
        self._noted: bool | None = None  # whether it is the first of its campaign
        self._most = 0  # messages that the ledger had

    def __call__(self) -> None:
        """Note it, where that was not done yet."""
        if self._noted is None:
            found = note_sent(self._place, self._new)
            if isinstance(found, Before):
                raise LedgerError(_words_against(found))
            self._noted = found

    def note_messages(self, count: int) -> None:
        """Note how many messages the ledger has, by which an older one is known.

        Where it has none, there is none after all: it could not have the intent.  One that has
        fewer than before was put back meanwhile.
        """
        is_older, self._most = count < self._most, max(count, self._most)
        if self._noted is not None and not is_older:
            note_messages(self._place, count)
            if self._noted and not count:
                note_none_sent(self._place)


def _refuse_to_send_again(before: BegunBefore) -> NoReturn:
    fail(_words_against(before))


def _words_against(before: BegunBefore) -> str:
    return (
        f"nothing was sent: {before.words}. That would be billed and delivered a second time,"
        f" for which --yes-send-again is needed; {before.how_to_go_on}"
    )


def _ask_to_send_again(before: BegunBefore, *, asks: bool) -> None:
    if not asks:
        _refuse_to_send_again(before)
    say(f"{before.words[0].upper()}{before.words[1:]}.", err=True)
    confirm(
        "They would be billed and delivered a second time. Send them again?",
        otherwise=f"nothing was sent; {before.how_to_go_on}",
    )


def _ask_to_send(given: WordsGiven, estimate: Estimate, *, settle: bool) -> None:
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
