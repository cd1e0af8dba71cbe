"""`skycore simulate`: a pretend Skycore in a terminal, and how a command runs until a signal.

Rules:

* Ctrl-C and SIGTERM are the ordinary end, and exit with 0.
* A signal only sets a flag; the command looks at it where it can end in order.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final

import click

from ..ui.output import RATE, WholeNumber, emit, fail, json_option, plain

if TYPE_CHECKING:
    from ...simulator import Behaviour, ReceivedMessage, Simulator

_POLL_EVERY: Final = 0.1  # seconds

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


class UntilSignal:
    """Whether the command is to end: by Ctrl-C, by SIGTERM, or by setting `is_set`."""

    def __init__(self) -> None:
        self.is_set = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> UntilSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._set)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _set(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True

    def polls(self) -> Iterator[None]:
        """Yield every tenth of a second, and once more after it is set."""
        while not self.is_set:
            time.sleep(_POLL_EVERY)
            yield


@click.command()
@click.option(
    "--port",
    type=WholeNumber(0, 65535),
    metavar="PORT",
    default=8025,
    show_default=True,
    help="The port to listen on; 0 for any.",
)
@click.option("--postback-url", metavar="URL", help="Where to post notifications.")
@click.option(
    "--form",
    type=click.Choice(["notification", "postback"]),
    metavar="FORM",
    default="notification",
    show_default=True,
    help="What postbacks look like: notification or postback.",
)
@click.option(
    "--rate",
    type=RATE,
    metavar="N",
    help="Refuse more than N messages a second, with E113.",
)
@click.option("--bundle", is_flag=True, help="Post many notifications together.")
@click.option(
    "--no-faults", is_flag=True, help="Deliver to every number, whatever its last four digits."
)
@json_option
def simulate(
    *,
    port: int,
    postback_url: str | None,
    form: str,
    rate: float | None,
    bundle: bool,
    no_faults: bool,
    as_json: bool,
) -> None:
    """Run a pretend Skycore to send to.

    Runs until Ctrl-C.  Prints the settings for a client, a line for each message
    that it is asked to send, and in the end how many it billed.  Postbacks come a
    hundred times sooner than Skycore's.  The last four digits
    of some numbers make it misbehave; --no-faults is for whole files of numbers.
    With --json, the first line is its address, each other line a message.

    \b
    Examples:
      skycore simulate --postback-url http://127.0.0.1:8026/postback
      skycore simulate --rate 20 --json
      skycore simulate --no-faults

    Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 wrong usage.
    """  # noqa: D301 - \b is click's mark for lines that it does not wrap
    from ...simulator import BY_LAST_DIGITS, Account, PostbackForm, Simulator

    behaviours = {} if no_faults else BY_LAST_DIGITS
    forms = {"notification": PostbackForm.NOTIFICATION, "postback": PostbackForm.FLAT}
    if bundle and form != "notification":
        raise click.UsageError("--bundle needs --form notification.")
    with UntilSignal() as ending:
        try:
            simulator = Simulator(
                port=port,
                postback_url=postback_url,
                postback_form=forms[form],
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
    from ...simulator import API_KEY, SHORT_CODE

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
                click.echo(_line(message, behaviours))
        seen = len(messages)
    if not as_json:
        click.echo(f"\nMessages: {seen}, billed: {simulator.billed}.", err=True)


def _outcome(message: ReceivedMessage) -> str:
    """Return whether a message was taken, and the code of its answer where it failed."""
    done = "taken" if message.taken else "refused" if message.code else "not taken"
    return f"{done} {message.code}" if message.code else done


def _meaning(message: ReceivedMessage, behaviours: Mapping[str, Behaviour]) -> str:
    """Return why, where its code or its number has a meaning."""
    from ...codes import API_ERRORS

    if message.code in API_ERRORS:
        return API_ERRORS[message.code].meaning
    behaviour = behaviours.get(message.to[-4:])
    return behaviour.meaning if behaviour else ""


def _line(message: ReceivedMessage, behaviours: Mapping[str, Behaviour]) -> str:
    from ...messages import masked
    from ..ui.tables import printable

    to = printable(masked(message.to)) or "-"
    id_ = message.tracking_id or "-"
    line = f"{message.time:%H:%M:%S}  {to:<15}  {_outcome(message):<12}  {id_:<24}"
    return f"{line}  {_meaning(message, behaviours)}".rstrip()


def _facts(message: ReceivedMessage) -> dict[str, Any]:
    from ...messages import masked

    facts = plain(message)
    del facts["text"]
    return {"kind": "message", **facts, "to": masked(message.to)}
