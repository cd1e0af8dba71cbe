"""`skycore simulate`: a pretend Skycore in a terminal."""

from __future__ import annotations

import sys
from typing import Final

import click

from ..ui.options import RATE, WholeNumber, json_option

# What `simulator.samples` has, which needs an extra.
KINDS: Final = (
    "sent",
    "delivered",
    "failed",
    "expired",
    "rejected",
    "not-sent",
    "inbound",
    "stop",
    "start",
    "subscribed",
    "unsubscribed",
    "unknown",
)


@click.command(
    help="""
    Run a pretend Skycore to send to.

    Runs until Ctrl-C.  Prints the settings for a client, a line for each message
    that it is asked to send, with its text, and in the end how many it billed.  Postbacks come a
    hundred times sooner than Skycore's.  The last four digits
    of some numbers make it misbehave; --no-faults is for whole files of numbers.
    With --json, the first line is its address, each other line a message, with
    how many were billed up to it.  Numbers are masked but for their last four digits,
    unless --show-numbers is given.

    \b
    Examples:
      skycore simulate --postback-url http://127.0.0.1:8026/postback
      skycore simulate --rate 20 --json
      skycore simulate --no-faults
      skycore simulate --postback inbound --to http://127.0.0.1:8026/postback

    \b
    The last four digits of a number:
      0ddd  refused with the code Eddd, as 0110 with E110
      1001  not delivered: the number is not a subscriber
      1002  not delivered: expired at the carrier
      1003  not delivered: blocked by the carrier
      1004  sent, and no receipt ever
      1005  no postback at all
      1006  the receipt comes twice
      1007  the receipt comes before the sent notification
      1008  the postbacks come before the HTTP answer
      1009  the carrier does not take it (E201 postback)
      1010  a receipt with a status in no table
      2001  connection reset, not taken
      2002  connection reset, taken
      2003  no answer, not taken
      2004  no answer, taken
      2005  HTTP 502, not taken
      2006  HTTP 502, taken
      2007  HTTP 429 with Retry-After, not taken
      2008  HTTP 503, not taken
      2009  XML that stops in the middle, taken
      2010  Success without a TRACKINGID, taken
      2011  HTTP 200 with an HTML page, not taken
      2012  HTTP 200 without a body, taken
      2013  E503, taken
      2014  a slow answer (1 s, scaled), taken
      2015  connection closed without an answer, taken
      2016  connection closed in the middle of the answer, taken
      2017  connection reset, taken, and no postback at all

    Exit codes: 0 ended by Ctrl-C or SIGTERM, or the postback was answered with 200,
    1 it was not, 2 wrong usage.
    """,
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
@click.option("--show-numbers", is_flag=True, help="Do not mask phone numbers.")
@click.option(
    "--postback",
    type=click.Choice(KINDS),
    metavar="KIND",
    help=f"Run nothing, but post one sample to --to: {', '.join(KINDS)}.",
)
@click.option("--to", metavar="URL", help="With --postback: where to post it.")
@click.option("--tracking-id", metavar="ID", help="With --postback: which message it is about.")
@click.option("--number", metavar="NUMBER", help="With --postback: the number of the handset.")
@json_option
def simulate(
    *,
    postback: str | None,
    to: str | None,
    tracking_id: str | None,
    number: str | None,
    port: int,
    postback_url: str | None,
    form: str,
    rate: float | None,
    bundle: bool,
    no_faults: bool,
    show_numbers: bool,
    as_json: bool,
) -> None:
    from ..actions.simulate import run_simulator  # noqa: PLC0415 - not for help

    facts = {"tracking_id": tracking_id, "number": number}
    given = {name: value for name, value in facts.items() if value is not None}
    if postback is not None and to is not None:
        from ..actions.post_sample import post_sample  # noqa: PLC0415
        from ..actions.simulate import FORMS  # noqa: PLC0415

        sys.exit(post_sample(postback, to, FORMS[form], facts=given, as_json=as_json))
    if postback is not None or to is not None or given:
        raise click.UsageError(
            "--postback KIND needs --to URL; --to, --tracking-id and --number need --postback."
        )
    if bundle and form != "notification":
        raise click.UsageError("--bundle needs --form notification.")
    run_simulator(
        port=port,
        postback_url=postback_url,
        form=form,
        rate=rate,
        bundle=bundle,
        has_faults=not no_faults,
        show_numbers=show_numbers,
        as_json=as_json,
    )
