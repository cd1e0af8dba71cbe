"""`skycore settle`: what is in doubt, by Skycore's own report of what it sent."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import click

from ...runtime.secret import Secret
from ..ui.dsn import ENVIRONMENT, FilePath, HiddenText
from ..ui.options import Number, api_key_file_option, base_url_option, json_option, read_api_key
from ..ui.start_time import UTCTime

_seconds = Number(min=0)


@click.command(
    help="""
    End what is in doubt by Skycore's own report of what it sent.

    LEDGER is the file that --ledger names elsewhere, or DSN a PostgreSQL database
    that workers share; without either, SKYCORE_DSN is used.  The command asks for reports
    on the times that have doubts.  A message that a report lists was sent.  A message that
    a report provably lacks was not sent, and goes out when the same bulk is run again, or
    by workers.  All others stay in doubt, with the reason.  The command can be run again:
    it changes only what can be told by then.

    Absence is proof if the report is complete, reaches to --after seconds past the
    message and was made after that, and lists the messages accepted before and after it.
    With --trust-absence you vouch that these two are not needed, and that the report lists
    texts as they were sent, so that another text to the number is another message; a report
    that lacks both messages is of another account, and proves nothing.

    Where the API gives no report, --report reads one that was downloaded by hand, or that
    --save kept.  Such a file shows only the time from its first message to its last.  A
    message in doubt has to lie 300 seconds inside that time, as clocks differ, and --after
    seconds before its end: a short or fresh report proves that messages were sent, and
    never that they were not.  With --since, --until and --made you vouch that the report
    covers more: for which time it was asked for, and when.  The time of the file cannot
    show that the report is younger, as that of a copy is later.  Vouch only for what you
    know: if it is wrong, what was sent is sent again, and billed twice.  Times are in ISO
    8601, in UTC where no offset is written.

    \b
    Examples:
      skycore settle promo.db
      skycore settle promo.db --dry-run --json
      skycore settle promo.db --save sent.xml
      skycore settle promo.db --report sent.xml --since 2026-12-01T08:00 \\
        --until 2026-12-01T12:00 --made 2026-12-01T12:05

    Exit codes: of these the first that applies, 2 wrong usage, or the ledger or a file cannot be
    opened, 3 Skycore refused to give reports, 5 something is still in doubt, also where
    there was no report, 1 nothing is in doubt any more, but a report was incomplete,
    0 nothing is in doubt any more.
    """
)
@click.argument("ledger", metavar="LEDGER|DSN", type=HiddenText(), envvar=ENVIRONMENT)
@click.option(
    "--report",
    type=FilePath(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Read this report, and ask for none; `-` reads standard input.",
)
@click.option(
    "--since", type=UTCTime(), metavar="TIME", help="With --report: from when it was asked for."
)
@click.option(
    "--until", type=UTCTime(), metavar="TIME", help="With --report: up to when it was asked for."
)
@click.option(
    "--made", type=UTCTime(), metavar="TIME", help="With --report: when it was downloaded."
)
@click.option(
    "--save",
    type=FilePath(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the report as it is downloaded; further parts get names beside it.",
)
@click.option(
    "--after",
    type=_seconds,
    metavar="SECONDS",
    default=3600,
    show_default=True,
    help="How late Skycore may list what it took.",
)
@click.option(
    "--trust-absence",
    is_flag=True,
    help="Believe a report without messages that show it is whole: what it lacks is sent again.",
)
@click.option(
    "--wait",
    type=_seconds,
    metavar="SECONDS",
    default=600,
    show_default=True,
    help="How long to wait where reports were asked for too often.",
)
@click.option("--dry-run", is_flag=True, help="Say what would come of it, and write nothing.")
@base_url_option
@api_key_file_option
@json_option
def settle(
    *,
    ledger: Secret,
    report: Path | None,
    since: datetime | None,
    until: datetime | None,
    made: datetime | None,
    save: Path | None,
    after: float,
    trust_absence: bool,
    wait: float,
    dry_run: bool,
    base_url: str | None,
    api_key_file: Path | None,
    as_json: bool,
) -> None:
    from ..actions import report_on_disk  # noqa: PLC0415 - not for help
    from ..actions import settle as action  # noqa: PLC0415 - not for help

    if report is None and (since or until or made):
        raise click.UsageError("--since, --until and --made go with --report.")
    if report is not None and save is not None:
        raise click.UsageError("--save is of a report that is asked for: leave --report out.")
    if save is not None and save.exists():
        raise click.UsageError(f"--save {save} is there already: name another file.")
    if since and until and since >= until:
        raise click.UsageError("--since is not before --until.")
    options = action.SettleOptions(after=after, trust_absence=trust_absence, is_dry_run=dry_run)
    if report is not None:
        on_disk = report_on_disk.ReportOnDisk(report, since=since, until=until, made=made)
        sys.exit(action.settle_by_file(ledger, options, on_disk, as_json=as_json))
    client = {"api_key": read_api_key(api_key_file), "base_url": base_url}
    code = action.settle_by_request(ledger, options, client, wait=wait, save=save, as_json=as_json)
    sys.exit(code)
