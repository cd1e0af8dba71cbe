"""`skycore bulk`: its options and its help.  What it does is in `cli/bulk/`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from ..ui.dsn import FilePath, HiddenText
from ..ui.money import Money
from ..ui.numbers import country_option
from ..ui.options import (
    RATE,
    Number,
    WholeNumber,
    api_key_file_option,
    base_url_option,
    in_flight_option,
    json_option,
    opt_outs_option,
    tags_option,
    transport_option,
)
from ..ui.output import EXIT_CODES
from ..ui.postback_url import Address
from ..ui.start_time import StartTime

_file: Final = FilePath(dir_okay=False, path_type=Path)
_count: Final = WholeNumber(min=1)


@click.command(
    epilog=EXIT_CODES.removeprefix("\b\n"),
    help="""
    Send a message to every row of a CSV file, once, however often the command is run.

    The first line names the columns, between commas, semicolons or tabs, in any
    encoding that Excel writes; `-` reads standard input.  The numbers are in the column
    to, number, phone, mobile, cell, telephone, msisdn or recipient, also as `Phone
    Number`, in international format, or with --country as they are dialled there.  The
    text is --text, or is in a column of its own.

    First the command checks the file, and shows the rows that cannot be sent, with their
    lines, the segments, and the cost at --price.  Then it asks.

    The ledger knows what was sent.  After Ctrl-C or a crash, the same command goes on;
    a second Ctrl-C ends it at once.  A message's key is CAMPAIGN:NUMBER, unless a column
    has keys.  The campaign is the name of the file, and another campaign sends to the
    same numbers again.  Where the same messages were begun from this directory under
    another name, the command asks, or needs --yes-send-again.

    With --start and --between the command waits until messages may begin, and shows for
    what: a time, and hours of the day in each recipient's own time zone.  Recipients
    whose hours come later keep no others waiting.

    With --listen, receipts and texts from handsets are taken in meanwhile, at the URL that
    is printed, and after the last message while receipts are awaited: for at most
    --listen-for seconds, or until Ctrl-C.

    Rows that are invalid, duplicates, refused or in doubt go to --rejects with a
    reason: mend that file and send it the same way.  Where a short code or a campaign
    reference is refused, its rows are held back and the others go out; once it is mended
    or valid, the same command sends them.  What is in doubt may have been sent, and is
    sent again only with --resend-in-doubt, or where Skycore's own report proves that it
    was not: see `skycore settle`.

    \b
    Examples:
      skycore bulk promo.csv --text "Hi {name}, your code is {code}" --dry-run
      skycore bulk promo.csv --text "Hi {name}" --from 60856 --sample 3 --to 15551234888
      skycore bulk promo.csv --text "Hi {name}" --from 60856 --rate 20
      skycore bulk promo.csv --text "Hi {name}" --from 60856 --listen 8026
      skycore bulk promo.rejects.csv --text "Hi {name}" --from 60856
      skycore bulk promo.csv --text "Hi {name}" --cluster postgresql://me@db/sms
    """,
)
@click.argument("csv", metavar="RECIPIENTS.CSV", type=FilePath(allow_dash=True))
@click.option(
    "--text", help="The text, with {column} where a column's value goes; {{ for a brace."
)
@click.option(
    "--ledger", type=_file, help="The file that remembers what was sent [RECIPIENTS.db]."
)
@click.option(
    "--cluster",
    metavar="DSN",
    type=HiddenText(),
    is_flag=False,
    flag_value="",
    help="Load them for `skycore worker` to send; without DSN, into that of SKYCORE_DSN.",
)
@click.option(
    "--start",
    type=StartTime(),
    metavar="TIME",
    help="Send nothing before, as 2026-12-01T09:00, by this machine's clock, or with an offset,"
    " +01:00.",
)
@click.option(
    "--between",
    metavar="FROM-TO",
    help="Begin messages within these hours alone, as 09:00-20:00, by the clock of each"
    " recipient's time zone, which their number tells (extra `numbers`).",
)
@click.option(
    "--tz",
    metavar="ZONE",
    help="With --between: the time zone that counts where a number tells none, as"
    " America/New_York.",
)
@click.option("--campaign", metavar="NAME", help="What the keys begin with [RECIPIENTS].")
@click.option("--to-column", metavar="NAME", help="The column of the numbers.")
@country_option
@click.option("--text-column", metavar="NAME", help="The column of the texts [text].")
@click.option("--key-column", metavar="NAME", help="The column of your own keys [key].")
@click.option("--from-column", metavar="NAME", help="The column of the short codes [from].")
@click.option(
    "--from",
    "from_",
    metavar="SHORTCODE",
    envvar="SKYCORE_FROM",
    show_envvar=True,
    help="The short code of rows that name none.",
)
@click.option("--campaign-ref", metavar="REF", help="The campaign that recipients subscribed to.")
@tags_option
@click.option(
    "--rate",
    type=RATE,
    metavar="N",
    help="Messages per second [no bound].",
)
@in_flight_option
@transport_option
@click.option("--price", type=Money(), help="The price of a segment, for the estimate.")
@click.option(
    "--max-segments",
    type=_count,
    metavar="N",
    help="Begin nothing that takes more than this in all.",
)
@click.option(
    "--max-segments-each", type=_count, metavar="N", help="Leave out a message that takes more."
)
@click.option(
    "--limit", type=_count, metavar="N", help="Send N at most now, and the others by later runs."
)
@click.option(
    "--sample",
    type=_count,
    metavar="N",
    help="With --to: send the texts of the first N rows there, and no more.",
)
@click.option("--to", "sample_to", metavar="NUMBER", help="With --sample: a number of your own.")
@click.option(
    "--listen",
    type=Address(),
    metavar="[HOST:]PORT",
    help="Take postbacks in meanwhile, as `skycore listen` does, at this address.",
)
@click.option(
    "--listen-for",
    type=Number(min=0),
    metavar="SECONDS",
    default=600,
    show_default=True,
    help="How long to go on listening after the last send, while receipts are awaited.",
)
@opt_outs_option
@click.option("--rejects", type=_file, help="Where rows to mend go [RECIPIENTS.rejects.csv].")
@click.option("--dry-run", is_flag=True, help="Look at the file, and send nothing.")
@click.option("--yes", is_flag=True, help="Ask nothing.  Without a terminal it is needed.")
@click.option(
    "--yes-send-again",
    is_flag=True,
    help="Send what was begun from here before, under another name or other keys, all of it a"
    " second time.",
)
@click.option(
    "--settle", is_flag=True, help="First end what is in doubt, by Skycore's own report."
)
@click.option("--resend-in-doubt", is_flag=True, help="Send again what may have been sent.")
@base_url_option
@api_key_file_option
@json_option
def bulk(**given: Any) -> None:
    from ..bulk.action import run_bulk  # noqa: PLC0415 - not for help
    from ..bulk.options import BulkOptions  # noqa: PLC0415

    sys.exit(run_bulk(BulkOptions(**given)))
