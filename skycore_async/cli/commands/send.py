"""`skycore send`: one message, and an exit code for what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...runtime.secret import Secret
from ..ui.dsn import HiddenText
from ..ui.numbers import country_option, number_reader_of
from ..ui.options import (
    Number,
    WholeNumber,
    api_key_file_option,
    base_url_option,
    json_option,
    opt_outs_option,
    read_api_key,
    tags_option,
)
from ..ui.output import EXIT_CODES
from ..ui.standard_input import text_of


@click.command(
    epilog=EXIT_CODES.removeprefix("\b\n"),
    help="""
    Send one message, and print its number and tracking id.

    TO is a number in international format, or with --country as it is dialled
    there.  TEXT `-` reads standard input,
    without the line break at its end.  The API key is in SKYCORE_API_KEY or in
    a file, never an argument.

    A failure says whether the message was refused, was not sent, or may have
    been sent.  Never send again what may have been sent; with --ledger and --key,
    the same command can be run again, and sends at most once.

    \b
    Examples:
      skycore send "+1 (555) 123-4888" "Hello Jerry" --from 60856
      date | skycore send 15551234888 - --ledger sent.db --key today
    """,
)
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
@tags_option
@country_option
@base_url_option
@click.option(
    "--ledger",
    metavar="FILE|DSN",
    type=HiddenText(),
    help="Remember the message in this file, made where there is none, or in a database.",
)
@opt_outs_option
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
@api_key_file_option
@json_option
def send(
    *, text: str, ledger: Secret | None, api_key_file: Path | None, as_json: bool, **given: Any
) -> None:
    from ..actions.send import send_message  # noqa: PLC0415 - not for help
    from ..ui.opt_out_list import list_of  # noqa: PLC0415

    if given["key"] is not None and ledger is None:
        raise click.UsageError("--key needs a --ledger, which remembers it.")
    settings = {name: given.pop(name) for name in ("from_", "base_url", "timeout", "max_segments")}
    settings["number_reader"] = number_reader_of(given.pop("country"))
    settings["api_key"] = read_api_key(api_key_file)
    shared = list_of(given.pop("opt_outs"))
    message = {**given, "text": text_of(text)}
    send_message(message, settings, ledger, shared, as_json=as_json)
