"""What `skycore send` does: send one message, and print what came of it.

Strategy: a table by verdict has the words for an error and the exit code.  Messages that were
refused here have a table of their own, by the kind of outcome.

Rules:

* Once there is an outcome, no later failure changes what is printed.
* Where the ledger or the client cannot be set up, there is no outcome: that is wrong usage.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, NoReturn

import anyio
import anyio.to_thread
import attrs

from ...client import SkycoreClient
from ...codes import Verdict
from ...errors import ConfigurationError, LedgerError, RecipientOptedOut, SkycoreError
from ...ledger.sqlite.opt_out_list import OptOutList
from ...messages import Accepted
from ...protocol.numbers import NumberReader, number
from ...runtime.error_notes import cure_for
from ...runtime.secret import Secret
from ..ui.interrupts import as_one_interrupt
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.opt_out_list import sharing, shown
from ..ui.outcome_kinds import OutcomeKind, failure_kind
from ..ui.output import Exit, emit, fail, print_outcome, say


@attrs.frozen(kw_only=True)
class FailureWords:
    """The words for a message that was not accepted; `words` has a place for the error's text."""

    outcome: str
    code: Exit
    words: str


_REFUSED: Final = FailureWords(
    outcome="refused", code=Exit.REFUSED, words="not sent: Skycore refused it with {}"
)
_SAFE: Final = FailureWords(
    outcome="not_sent", code=Exit.NOT_SENT, words="not sent, and safe to send again: {}"
)
_NOT_SENT: Final = FailureWords(outcome="not_sent", code=Exit.NOT_SENT, words="not sent: {}")
_NOT_SET_UP: Final = FailureWords(outcome="not_sent", code=Exit.USAGE, words="not sent: {}")

# The words by verdict, except for `REFUSED_HERE`.
BY_VERDICT: Final[Mapping[Verdict, FailureWords]] = {
    Verdict.REJECTED: _REFUSED,
    Verdict.ACCOUNT_REFUSED: _REFUSED,
    Verdict.SENDER_REFUSED: _REFUSED,
    Verdict.CAMPAIGN_REFUSED: _REFUSED,
    Verdict.REQUEST_REFUSED: _REFUSED,
    Verdict.NOT_SENT: _SAFE,
    Verdict.PUT_OFF: _SAFE,
    Verdict.HALTED: _NOT_SENT,
    Verdict.IN_DOUBT: FailureWords(
        outcome="in_doubt",
        code=Exit.IN_DOUBT,
        words="it may have been sent, so do not send it again: {}",
    ),
}
# What is said of one that was refused here.  Of a key that has other content, what is known of
# the message that has it goes for this one, too.
REFUSED_HERE: Final[Mapping[OutcomeKind, FailureWords]] = {
    OutcomeKind.REFUSED: FailureWords(
        outcome="invalid", code=Exit.USAGE, words="not sent, as it is not valid: {}"
    ),
    OutcomeKind.OPTED_OUT: _NOT_SENT,
    OutcomeKind.IN_DOUBT: FailureWords(
        outcome="in_doubt",
        code=Exit.IN_DOUBT,
        words="not sent, and not to be sent under another key before that is settled: {}",
    ),
    OutcomeKind.ALREADY_SENT: FailureWords(
        outcome="already_sent",
        code=Exit.USAGE,
        words="not sent, as it would be a second message: {}",
    ),
}


def send_message(
    message: dict[str, Any],
    settings: dict[str, Any],
    named: Secret | None,
    shared: OptOutList | None,
    *,
    as_json: bool,
) -> None:
    """Send a message, and print its number and tracking id; end the program where it failed.

    `named` is the ledger to record it in, a file or a DSN, and `shared` the list of opt-outs.
    """
    ledger = None if named is None else ledger_target(named)
    try:
        with as_one_interrupt():
            sent = anyio.run(_send, message, settings, ledger, shared)
    except (ConfigurationError, LedgerError) as error:
        _fail(error, _NOT_SET_UP, message, ledger, as_json=as_json)
    except SkycoreError as error:
        _fail(error, words_for(error), message, ledger, as_json=as_json)
    except KeyboardInterrupt:
        fail(f"interrupted: it may have been sent{_where(message, ledger)}", Exit.INTERRUPTED)
    known = f"it was sent, as {_name_of(sent)}"
    if not print_outcome(lambda: _show(sent, as_json=as_json), known=known):
        sys.exit(Exit.NOT_ALL_WELL)
    if sent.recorded and not as_json:
        say("It was sent before under this key, and not once more now.", err=True)


def _name_of(sent: Accepted) -> str:
    return sent.tracking_id or f"HISTORYID {sent.history_id}"


def _show(sent: Accepted, *, as_json: bool) -> None:
    if as_json:
        ids = {"tracking_id": sent.tracking_id, "history_id": sent.history_id}
        emit({"outcome": "accepted", "to": sent.to, **ids, "recorded": sent.recorded})
    else:
        say(f"{sent.to}  {_name_of(sent)}")


async def _send(
    message: dict[str, Any],
    settings: dict[str, Any],
    target: LedgerTarget | None,
    shared: OptOutList | None,
) -> Accepted:
    outcome: Accepted | SkycoreError | None = None
    try:
        async with AsyncExitStack() as opened:
            ledger = None
            if target is not None:
                ledger = await opened.enter_async_context(target.to_write())
                await opened.enter_async_context(sharing(ledger, shared, name=target.full_name))
            client = SkycoreClient(**_revealed(settings), ledger=ledger)
            await opened.enter_async_context(client)
            try:
                if ledger is None and shared is not None:
                    await _check_opt_out(message["to"], settings["number_reader"], shared)
                outcome = await client.send_sms(**message)
            except SkycoreError as error:
                outcome = error
    except Exception:
        # A failure of closing says nothing about the message.
        if outcome is None:
            raise
    if isinstance(outcome, Accepted):
        return outcome
    raise outcome


async def _check_opt_out(to: str, reader: NumberReader | None, shared: OptOutList) -> None:
    """Raise RecipientOptedOut where the number is on the list, in any of its spellings."""
    asked = number(to, reader)

    def is_on_it() -> bool:
        with shared.asked() as is_opted_out:
            return is_opted_out(asked, {})

    if await anyio.to_thread.run_sync(is_on_it):
        raise RecipientOptedOut(f"the recipient has opted out, by {shown(shared.path)}")


def _revealed(settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, "api_key": settings["api_key"].reveal()}


def words_for(error: SkycoreError) -> FailureWords:
    """Return the words for an outcome."""
    if error.verdict is Verdict.REFUSED_HERE:
        return REFUSED_HERE[failure_kind(error)]
    return BY_VERDICT[error.verdict]


def _fail(
    error: SkycoreError,
    said: FailureWords,
    message: dict[str, Any],
    ledger: LedgerTarget | None,
    *,
    as_json: bool,
) -> NoReturn:
    facts = {
        "outcome": said.outcome,
        "to": message["to"],
        "error": type(error).__name__,
        "code": getattr(error, "code", None),
        "message": str(error),
    }
    if as_json:
        print_outcome(lambda: emit(facts), known="this came of it:")
    cure = cure_for(type(error))
    hint = "" if cure is None else f". {cure}"
    if said.code is Exit.IN_DOUBT:
        hint = _where(message, ledger)
    fail(said.words.format(error) + hint, said.code)


def _where(message: dict[str, Any], ledger: LedgerTarget | None) -> str:
    """Say how to see what becomes of a message in doubt."""
    if ledger is None:
        return ""
    named = ["--key", message["key"]] if message["key"] else ["--state", "in_doubt"]
    command = shlex.join(["skycore", "status", ledger.argument, *named])
    settle = shlex.join(["skycore", "settle", ledger.argument])
    return f"; its postbacks tell, and then `{command}`, or an hour from now `{settle}`"
