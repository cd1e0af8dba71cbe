"""What `skycore simulate` does: run a simulator, and print what it is asked to send.

Rule: texts are shown, as whoever tries something out looks for them; numbers, which may be
those of real people in a real file, are masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
from ..ui.output import emit, fail, plain, printable, say
from ..ui.signals import UntilSignal

_FORMS: Final = {"notification": PostbackForm.NOTIFICATION, "postback": PostbackForm.FLAT}
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
All of them: python -c "import skycore_async.simulator as s; help(s)\""""
_NO_FAULTS: Final = "Every valid message is taken and delivered, whatever its number."


def run_simulator(
    *,
    port: int,
    postback_url: str | None,
    form: str,
    rate: float | None,
    bundle: bool,
    has_faults: bool,
    as_json: bool,
) -> None:
    """Run a simulator until a signal, and print a line for each message."""
    behaviours = BY_LAST_DIGITS if has_faults else {}
    with UntilSignal() as ending:
        try:
            simulator = Simulator(
                port=port,
                postback_url=postback_url,
                postback_form=_FORMS[form],
                bundle_postbacks=bundle,
                behaviours=behaviours,
                account=Account(rate=rate),
            )
            simulator.start()
        except ValueError as error:
            fail(f"--postback-url: {error}")
        except OSError as error:
            fail(f"cannot listen on port {port}: {error.strerror}; choose another with --port")
        try:
            _introduce(simulator, _FAULTS if behaviours else _NO_FAULTS, as_json=as_json)
            _follow(simulator, ending, behaviours, as_json=as_json)
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


def _follow(
    simulator: Simulator,
    ending: UntilSignal,
    behaviours: Mapping[str, Behaviour],
    *,
    as_json: bool,
) -> None:
    seen = requests = 0
    for _ in ending.polls():
        # Copying the log of messages costs time, so only when there are new ones.
        if simulator.requests == requests:
            continue
        requests = simulator.requests
        messages = simulator.messages
        for message in messages[seen:]:
            if as_json:
                emit(_facts(message))
            else:
                say(_line(message, behaviours))
        seen = len(messages)
    if not as_json:
        say(f"\nMessages: {seen}, billed: {simulator.billed}.", err=True)


def _outcome(message: ReceivedMessage) -> str:
    """Return whether a message was taken, and the code of its answer where it failed."""
    done = "taken" if message.taken else "refused" if message.code else "not taken"
    return f"{done} {message.code}" if message.code else done


def _meaning(message: ReceivedMessage, behaviours: Mapping[str, Behaviour]) -> str:
    """Return why, where its code or its number has a meaning."""
    if message.code in API_ERRORS:
        return API_ERRORS[message.code].meaning
    behaviour = behaviours.get(message.to[-4:])
    return behaviour.meaning if behaviour else ""


def _line(message: ReceivedMessage, behaviours: Mapping[str, Behaviour]) -> str:
    to = printable(masked(message.to)) or "-"
    id_ = message.tracking_id or "-"
    line = f"{message.time:%H:%M:%S}Z  {to:<15}  {_outcome(message):<12}  {id_:<24}"
    return f'{line}  "{printable(message.text)}"  {_meaning(message, behaviours)}'.rstrip()


def _facts(message: ReceivedMessage) -> dict[str, Any]:
    return {"kind": "message", **plain(message), "to": masked(message.to)}
