"""`skycore send`: one message out, and in words and an exit code what came of it.

Strategy: a table by error class says what is known of the message; the first
that fits is printed, and is the exit code.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import attrs
import click

from ..ui.input import text_of
from ..ui.output import (
    EXIT_CODES,
    Exit,
    Number,
    WholeNumber,
    emit,
    json_option,
    leave,
    read_api_key,
)

if TYPE_CHECKING:
    from ...errors import SkycoreError
    from ...messages import Accepted


@click.command(epilog=EXIT_CODES.removeprefix("\b\n"))
@click.argument("to")
@click.argument("text")
@click.option(
    "--from",
    "from_",
    metavar="SHORTCODE",
    envvar="SKYCORE_FROM",
    show_envvar=True,
    required=True,
    help="The short code to send from.",
)
@click.option("--campaign-ref", metavar="REF", help="The campaign of the recipient.")
@click.option(
    "--base-url",
    metavar="URL",
    envvar="SKYCORE_BASE_URL",
    show_envvar=True,
    help="Where the API is, its path and all, as of a simulator.",
)
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Remember the message in this file, made where there is none.",
)
@click.option("--key", metavar="KEY", help="Your name for the message: the ledger sends it once.")
@click.option(
    "--timeout",
    type=Number(min=0, min_open=True),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="How long it may all take.",
)
@click.option("--max-segments", type=WholeNumber(min=1), metavar="N", help="Refuse a longer text.")
@click.option(
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that holds the API key; else SKYCORE_API_KEY does.",
)
@json_option
def send(
    *, text: str, ledger: Path | None, api_key_file: Path | None, as_json: bool, **given: Any
) -> None:
    """Send one message, and print its number and tracking id.

    TO is a number in international format.  TEXT `-` reads standard input,
    without the line break at its end.  The API key is in SKYCORE_API_KEY or in
    a file, never an argument.

    What failed is said in words: refused, not sent, or may have been sent.
    Never send again what may have been sent; with --ledger and --key, the same
    command can be run again, and sends at most once.

    \b
    Examples:
      skycore send "+1 (555) 123-4888" "Hello Jerry" --from 60856
      date | skycore send 15551234888 - --ledger sent.db --key today
    """  # noqa: D301 - \b is click's word for lines to leave as they are
    from ...errors import SkycoreError

    if given["key"] is not None and ledger is None:
        raise click.UsageError("--key needs a --ledger, which remembers it.")
    settings = {name: given.pop(name) for name in ("base_url", "timeout", "max_segments")}
    settings["api_key"] = read_api_key(api_key_file)
    message = {**given, "text": text_of(text)}
    try:
        sent = _run(message, settings, ledger)
    except SkycoreError as error:
        _tell_failure(error, message, ledger, as_json=as_json)
    except KeyboardInterrupt:
        leave(f"interrupted: it may have been sent{_where(message, ledger)}", Exit.INTERRUPTED)
    if as_json:
        emit({"outcome": "accepted", "to": sent.to, "tracking_id": sent.tracking_id})
    else:
        click.echo(f"{sent.to}  {sent.tracking_id}")


def _run(message: dict[str, Any], settings: dict[str, Any], path: Path | None) -> Accepted:
    from contextlib import AsyncExitStack

    import anyio

    from ...client import SkycoreClient
    from ...ledger.sqlite.ledger import SQLiteLedger

    async def run() -> Accepted:
        async with AsyncExitStack() as opened:
            ledger = None
            if path is not None:
                ledger = await opened.enter_async_context(SQLiteLedger(path))
            client = SkycoreClient(**settings, ledger=ledger)
            await opened.enter_async_context(client)
            return await client.send_sms(**message)

    return anyio.run(run)


# What came of it, in words.


@attrs.frozen(kw_only=True)
class FailureVerdict:
    """What an error says of the message; `words` has a place for the error's own."""

    outcome: str
    code: Exit
    words: str


# By the name of the class, so that no class is loaded for the help.
VERDICTS: Final[Mapping[str, FailureVerdict]] = {
    "InvalidMessage": FailureVerdict(
        outcome="invalid", code=Exit.USAGE, words="not sent, as it is not valid: {}"
    ),
    "ConfigurationError": FailureVerdict(
        outcome="not_sent", code=Exit.USAGE, words="not sent: {}"
    ),
    "LedgerError": FailureVerdict(outcome="not_sent", code=Exit.USAGE, words="not sent: {}"),
    "Rejected": FailureVerdict(
        outcome="refused", code=Exit.REFUSED, words="not sent: Skycore refused it with {}"
    ),
    "RecipientOptedOut": FailureVerdict(
        outcome="not_sent", code=Exit.NOT_SENT, words="not sent: {}"
    ),
    "NotSent": FailureVerdict(
        outcome="not_sent", code=Exit.NOT_SENT, words="not sent, and safe to send again: {}"
    ),
    "OutcomeUnknown": FailureVerdict(
        outcome="in_doubt",
        code=Exit.IN_DOUBT,
        words="it may have been sent, so do not send it again: {}",
    ),
}


def verdict_of(error: SkycoreError) -> FailureVerdict:
    """Return what an error says of the message."""
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return next(VERDICTS[kind] for kind in kinds if kind in VERDICTS)


def _tell_failure(
    error: SkycoreError, message: dict[str, Any], ledger: Path | None, *, as_json: bool
) -> NoReturn:
    verdict = verdict_of(error)
    if as_json:
        emit(
            {
                "outcome": verdict.outcome,
                "to": message["to"],
                "error": type(error).__name__,
                "code": getattr(error, "code", None),
                "message": str(error),
            }
        )
    hint = _where(message, ledger) if error.may_have_been_sent else ""
    leave(verdict.words.format(error) + hint, verdict.code)


def _where(message: dict[str, Any], ledger: Path | None) -> str:
    """Say where it shows what became of a message in doubt."""
    if ledger is None:
        return ""
    named = ["--key", message["key"]] if message["key"] else ["--state", "in_doubt"]
    command = shlex.join(["skycore", "status", str(ledger), *named])
    return f"; its postbacks tell, and then `{command}`"
