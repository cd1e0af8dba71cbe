"""What `skycore simulate` does: run a simulator, and print what it is asked to send.

Rule: texts are shown, since a user who tries something out looks for them.  Numbers may be those
of real people, and are masked unless --show-numbers is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from ...codes import API_ERRORS
from ...messages import masked
from ...simulator import (
    API_KEY,
    BY_LAST_DIGITS,
    SHORT_CODE,
    Account,
    Behaviour,
    PostbackForm,
    ReceivedMessage,
    Simulator,
)
from ..ui.output import emit, fail, plain, printable, reason_of, say
from ..ui.signals import UntilSignal

FORMS: Final = {"notification": PostbackForm.NOTIFICATION, "postback": PostbackForm.FLAT}
_INTRODUCTION: Final = """\
A pretend Skycore listens. Its API key is {api_key} and its short code {short_code}:

  export SKYCORE_BASE_URL={url}
  export SKYCORE_API_KEY={api_key}
  export SKYCORE_FROM={short_code}
  skycore send 15551234888 "Hello Jerry"

{faults}

{postbacks}
Ctrl-C ends it.
"""
_FAULTS: Final = """\
The last four digits of a number choose what becomes of a message: 0110 is
refused with E110, 1001 is not delivered, 2002 is taken and its answer lost.
All of them: skycore simulate --help"""
_NO_FAULTS: Final = "Every valid message is taken and delivered, whatever its number."


def run_simulator(
    *,
    port: int,
    postback_url: str | None,
    form: str,
    rate: float | None,
    bundle: bool,
    has_faults: bool,
    show_numbers: bool,
    as_json: bool,
) -> None:
    """Run a simulator until a signal, and print a line for each message."""
    behaviours = BY_LAST_DIGITS if has_faults else {}
    with UntilSignal() as ending:
        try:
            simulator = Simulator(
                port=port,
                postback_url=postback_url,
                postback_form=FORMS[form],
                bundle_postbacks=bundle,
                behaviours=behaviours,
                account=Account(rate=rate),
            )
            simulator.start()
        except ValueError as error:
            fail(f"--postback-url: {error}")
        except OSError as error:
            fail(f"cannot listen on port {port}: {reason_of(error)}; choose another with --port")
        try:
            _introduce(simulator, _FAULTS if behaviours else _NO_FAULTS, as_json=as_json)
            printed = _Printed(behaviours, show_numbers=show_numbers, as_json=as_json)
            _follow(simulator, ending, printed)
            if not as_json:
                counts = f"Messages: {printed.seen}, billed: {simulator.billed}."
                say(f"\n{counts}", err=True)
        finally:
            simulator.stop()


def _introduce(simulator: Simulator, faults: str, *, as_json: bool) -> None:
    facts = {"url": simulator.url, "api_key": API_KEY, "short_code": SHORT_CODE}
    if as_json:
        emit({"kind": "listening", **facts, "postback_url": simulator.postback_url})
        return
    url = simulator.postback_url
    postbacks = (
        f"Postbacks go to {url}."
        if url
        else "No postbacks: give --postback-url, such as the one that `skycore listen` prints."
    )
    click.echo(_INTRODUCTION.format(**facts, faults=faults, postbacks=postbacks))


class _Printed:
    """Prints messages, each in a line with the number billed so far."""

    def __init__(
        self, behaviours: Mapping[str, Behaviour], *, show_numbers: bool, as_json: bool
    ) -> None:
        self.seen = self._billed = 0
        self._behaviours = behaviours
        self._shown = _as_it_is if show_numbers else masked
        self._as_json = as_json

    def add(self, message: ReceivedMessage) -> None:
        """Print a message."""
        self.seen += 1
        self._billed += message.taken
        to = self._shown(message.to)
        if self._as_json:
            emit({"kind": "message", **plain(message), "to": to, "billed": self._billed})
        else:
            say(_line(message, to, self._billed, self._behaviours))


def _as_it_is(number: str) -> str:
    return number


def _follow(simulator: Simulator, ending: UntilSignal, printed: _Printed) -> None:
    requests = 0
    for _ in ending.polls():
        # The log is copied only when there are new messages: copying takes time.
        if simulator.requests == requests:
            continue
        requests = simulator.requests
        for message in simulator.messages[printed.seen :]:
            printed.add(message)


def _outcome(message: ReceivedMessage) -> str:
    """Return whether a message was taken, with the code of its answer, if that has one."""
    done = "taken" if message.taken else "refused" if message.code else "not taken"
    return f"{done} {message.code}" if message.code else done


def _meaning(message: ReceivedMessage, behaviours: Mapping[str, Behaviour]) -> str:
    """Return the meaning of its code or of its number, if there is one."""
    if message.code in API_ERRORS:
        return API_ERRORS[message.code].meaning
    behaviour = behaviours.get(message.to[-4:])
    return behaviour.meaning if behaviour else ""


def _line(
    message: ReceivedMessage, to: str, billed: int, behaviours: Mapping[str, Behaviour]
) -> str:
    id_ = message.tracking_id or "-"
    line = f"{message.time:%H:%M:%S}Z  {printable(to) or '-':<15}  {_outcome(message):<12}"
    line = f'{line}  {id_:<24}  "{printable(message.text)}"  {_meaning(message, behaviours)}'
    return f"{line.rstrip()}  [billed: {billed:,}]"
