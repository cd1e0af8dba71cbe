"""`skycore opt-outs`: who may not be sent to, on a list for all ledgers."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.secret import Secret
from ..ui.dsn import ENVIRONMENT, FilePath, HiddenText
from ..ui.help import Subcommands
from ..ui.numbers import country_option, number_reader_of
from ..ui.options import json_option, opt_outs_option


@click.group(
    cls=Subcommands,
    name="opt-outs",
    help="""
    Who may not be sent to, whatever the campaign.

    A number that says STOP to any ledger of yours is on one list, by itself, and
    `send`, `bulk` and `worker` send nothing to it until it says START, or is
    removed.  What may mean STOP, and may not, is kept for a person: see
    `candidates`.

    \b
    Examples:
      skycore opt-outs list
      skycore opt-outs add "+1 (555) 123-4888"
      skycore opt-outs import blocked.csv
      skycore opt-outs import service.db
      skycore opt-outs candidates promo.db --show-numbers

    Exit codes: 0 done, 1 not all of it, 2 wrong usage, or it cannot be opened, 4 no
    was answered.
    """,
)
def opt_outs() -> None: ...


@opt_outs.command(
    help="""
    List the texts from handsets that may ask for no more messages.

    Examples are `CANCEL my appointment` and `STOP 12345`, which opt nobody out.  Each text
    is listed until its number is opted out or in: by a later STOP or START, in code by
    `ledger.opt_out(number)` or `ledger.opt_in(number)`, or by `skycore opt-outs add` or
    `remove`, which a ledger hears of once `bulk`, `send` or `listen` has it open.

    FILE is a ledger, as --ledger names it elsewhere, or DSN a PostgreSQL database
    that workers share, for which SKYCORE_DSN stands in.  Numbers are masked but
    for their last four digits, unless --show-numbers is given.  With --json, each
    text is a line.

    \b
    Example:
      skycore opt-outs candidates promo.db --show-numbers
    """
)
@click.argument("file", metavar="FILE|DSN", type=HiddenText(), envvar=ENVIRONMENT)
@click.option("--show-numbers", is_flag=True, help="Do not mask phone numbers.")
@json_option
def candidates(*, file: Secret, show_numbers: bool, as_json: bool) -> None:
    from ..actions.opt_out_candidates import list_candidates  # noqa: PLC0415 - not for help

    list_candidates(file, show_numbers=show_numbers, as_json=as_json)


@opt_outs.command(name="list", help="List who may not be sent to, and since when.")
@opt_outs_option
@click.option("--show-numbers", is_flag=True, help="Do not mask phone numbers.")
@json_option
def list_(*, opt_outs: str | None, show_numbers: bool, as_json: bool) -> None:
    from ..actions.opt_out_list import show_list, the_list  # noqa: PLC0415 - not for help

    show_list(the_list(opt_outs), show_numbers=show_numbers, as_json=as_json)


@opt_outs.command(help="Put numbers onto the list: nothing is sent to them.")
@click.argument("numbers", metavar="NUMBER...", nargs=-1, required=True)
@country_option
@opt_outs_option
def add(*, numbers: tuple[str, ...], country: str | None, opt_outs: str | None) -> None:
    from ..actions.opt_out_list import set_opted_out, the_list  # noqa: PLC0415 - not for help

    set_opted_out(the_list(opt_outs), numbers, number_reader_of(country), out=True)


@opt_outs.command(help="Take numbers off the list, as when somebody asked for messages again.")
@click.argument("numbers", metavar="NUMBER...", nargs=-1, required=True)
@country_option
@opt_outs_option
def remove(*, numbers: tuple[str, ...], country: str | None, opt_outs: str | None) -> None:
    from ..actions.opt_out_list import set_opted_out, the_list  # noqa: PLC0415 - not for help

    set_opted_out(the_list(opt_outs), numbers, number_reader_of(country), out=False)


@opt_outs.command(
    name="import",
    help="""
    Put the numbers of a CSV file onto the list, as `bulk` reads one.

    From a LEDGER, or a PostgreSQL database DSN, the STOPs and STARTs of its numbers are
    taken in, also while a service has it open.  A service of yours tells the list by itself
    only with `share_opt_outs`.

    An import cannot be taken back as a whole: look with --dry-run whether it is the right
    file.  On a terminal the command says how many numbers are new, and asks.
    """,
)
@click.argument("named", metavar="FILE.CSV|LEDGER|DSN", type=HiddenText())
@click.option("--to-column", metavar="NAME", help="The column of the numbers.")
@country_option
@opt_outs_option
@click.option("--dry-run", is_flag=True, help="Look at the file, and put nothing onto the list.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def import_(
    *,
    named: Secret,
    to_column: str | None,
    country: str | None,
    opt_outs: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    from ..actions.opt_out_list import import_any, the_list  # noqa: PLC0415 - not for help

    reader = number_reader_of(country)
    import_any(the_list(opt_outs), named, reader, column=to_column, dry_run=dry_run, yes=yes)


@opt_outs.command(
    help="""
    Write the list as CSV, its numbers whole.

    Writes a new file, or with `-`, or none, to standard output.
    """
)
@click.argument(
    "file",
    metavar="[FILE.CSV]",
    default="-",
    type=FilePath(dir_okay=False, allow_dash=True, path_type=Path),
)
@opt_outs_option
def export(*, file: Path, opt_outs: str | None) -> None:
    from ..actions.opt_out_list import export_file, the_list  # noqa: PLC0415 - not for help

    export_file(the_list(opt_outs), file)
