"""`skycore simulate`: a pretend Skycore in a terminal."""

from __future__ import annotations

import click

from ..ui.output import RATE, WholeNumber, json_option


@click.command(
    help="""
    Run a pretend Skycore to send to.

    Runs until Ctrl-C.  Prints the settings for a client, a line for each message
    that it is asked to send, with its text, and in the end how many it billed.  Postbacks come a
    hundred times sooner than Skycore's.  The last four digits
    of some numbers make it misbehave; --no-faults is for whole files of numbers.
    With --json, the first line is its address, each other line a message.

    \b
    Examples:
      skycore simulate --postback-url http://127.0.0.1:8026/postback
      skycore simulate --rate 20 --json
      skycore simulate --no-faults

    Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 wrong usage.
    """
)
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
    from ..actions.simulate import run_simulator  # noqa: PLC0415 - not for help

    if bundle and form != "notification":
        raise click.UsageError("--bundle needs --form notification.")
    run_simulator(
        port=port,
        postback_url=postback_url,
        form=form,
        rate=rate,
        bundle=bundle,
        has_faults=not no_faults,
        as_json=as_json,
    )
