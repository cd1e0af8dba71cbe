"""`skycore listen`: the postback URL of a ledger, and a line for each notification."""

from __future__ import annotations

import click

from ...runtime.secret import Secret
from ..ui.dsn import HiddenText
from ..ui.options import WholeNumber, json_option, opt_outs_option


@click.command(
    help="""
    Receive postbacks, record them, and show them.

    Each postback is recorded in the ledger and then shown, until Ctrl-C.  The postback URL
    is printed.  A postback that is answered with 200 is on the disk; Skycore posts any
    other again.  With SKYCORE_POSTBACK_SECRET in the environment, the URL must end in that
    secret.  With --json, the first line is the URL, and each other line a notification.

    Other commands, as `skycore bulk`, can have the FILE open meanwhile, whichever begins
    first: postbacks go to FILE-inbox beside it, and are taken into the ledger within a
    second, by the other command or by this one.  Any number of processes can listen at
    once, for a FILE as for the PostgreSQL database DSN: a notification that comes to
    several is recorded once, and shown by each.  Other users of the machine can see a
    password in DSN; keep it in ~/.pgpass.

    \b
    Examples:
      skycore listen --ledger promo.db
      SKYCORE_POSTBACK_SECRET=long-word skycore listen --ledger promo.db --json
      skycore listen --ledger postgresql://me@db/sms --host 10.0.0.7

    Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 wrong usage, or the ledger
    cannot be opened.
    """
)
@click.option(
    "--ledger",
    "named",
    metavar="FILE|DSN",
    type=HiddenText(),
    required=True,
    help="Where to record them; a file is created where there is none.",
)
@click.option(
    "--host",
    metavar="HOST",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on.",
)
@click.option(
    "--port",
    type=WholeNumber(0, 65535),
    metavar="PORT",
    default=8026,
    show_default=True,
    help="The port to listen on; 0 for any.",
)
@click.option("--show-numbers", is_flag=True, help="Do not mask phone numbers.")
@opt_outs_option
@json_option
def listen(
    *,
    named: Secret,
    host: str,
    port: int,
    show_numbers: bool,
    opt_outs: str | None,
    as_json: bool,
) -> None:
    from ..actions.listen import serve_postbacks  # noqa: PLC0415 - not for help
    from ..ui.opt_out_list import list_of  # noqa: PLC0415

    shared = list_of(opt_outs)
    serve_postbacks(
        named, shared, host=host, port=port, show_numbers=show_numbers, as_json=as_json
    )
