"""What `skycore bulk` does: look at the recipients, show, ask, send, account for it.

Strategy: the file is read twice.  The first reading makes the estimate, which is
always shown; the second sends.  What was sent is in the ledger, so that the same
command goes on where it stopped.

Rules:

* Nothing is sent that was not shown, and on a terminal not without a yes: a copy
  of the file is read, which nobody changes meanwhile.
* No file of the user's is written over: the rejects take a free name where none
  was given, and one that was given only where it is free or has rejects in it.
* A dry run writes nothing, but for the rejects where they are asked for by name.
"""

from __future__ import annotations

import errno
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, Final

import anyio
import attrs
import click

from ...errors import ConfigurationError, LedgerError
from ..ui.dsn import dsn_of, name_of_database, within
from ..ui.ledger_target import LedgerFile
from ..ui.output import Exit, emit, leave, number_of, read_api_key
from .estimate import Estimate, Survey, preview
from .progress import End, Tally, account, advice, exit_code, summary
from .recipients import FROM_COLUMNS, Rejects, Sheet, is_replaceable
from .rows import RejectedRow, RowOptions, RowReader
from .run import Run, SendOptions, held

_STANDARD_INPUT: Final = "-"
_REJECTS: Final = re.compile(r"\.rejects(-[0-9]+)?$")
_EVERY: Final = 50_000  # rows between signs of life while the file is looked at


@attrs.frozen(kw_only=True)
class BulkJob:
    """What was asked for, by the names of the options."""

    csv: str
    text: str | None
    ledger: Path | None
    cluster: str | None
    campaign: str | None
    to_column: str | None
    text_column: str | None
    key_column: str | None
    from_column: str | None
    from_: str | None
    campaign_ref: str | None
    rate: float | None
    in_flight: int
    fast: bool
    price: Decimal | None
    max_segments: int | None
    max_segments_each: int | None
    rejects: Path | None
    dry_run: bool
    yes: bool
    resend_in_doubt: bool
    base_url: str | None
    api_key_file: Path | None
    as_json: bool

    @property
    def stem(self) -> Path:
        """The path of the recipients without its suffix, also for a file of their rejects."""
        if self.csv == _STANDARD_INPUT:
            return Path(self.campaign or "stdin")
        path = Path(self.csv)
        return path.with_name(_REJECTS.sub("", path.stem))

    @property
    def ledger_path(self) -> Path:
        """Where the ledger is: beside the recipients, where nothing else was said."""
        return self.ledger or self.stem.with_name(f"{self.stem.name}.db")

    @property
    def campaign_name(self) -> str:
        """What the keys of the messages begin with."""
        return self.campaign or self.stem.name

    def wishes(self) -> RowOptions:
        """Return what concerns the rows."""
        given = {field.name for field in attrs.fields(RowOptions)} - {"campaign"}
        return RowOptions(
            campaign=self.campaign_name, **{name: getattr(self, name) for name in given}
        )

    def free_rejects(self) -> Path:
        """Return where the rejects go: never over a file of the user's."""
        if self.rejects is not None:
            if self.csv != _STANDARD_INPUT and self.rejects.resolve() == Path(self.csv).resolve():
                leave(f"--rejects {self.rejects} is the file of the recipients: name another")
            if LedgerFile(self.ledger_path).holds(self.rejects):
                leave(f"--rejects {self.rejects} belongs to the ledger: name another")
            if not is_replaceable(self.rejects):
                leave(f"--rejects {self.rejects} is something other than rejects: name another")
            return self.rejects
        number, path = 1, self.stem.with_name(f"{self.stem.name}.rejects.csv")
        while path.exists():
            number += 1
            path = self.stem.with_name(f"{self.stem.name}.rejects-{number}.csv")
        return path

    def run(self) -> int:
        """Look, show, ask, send and account, and return the exit code."""
        return _run(self)


def _run(job: BulkJob) -> int:
    if job.csv == _STANDARD_INPUT and not job.campaign and not job.dry_run:
        leave("name what is read from standard input with --campaign NAME")
    if job.cluster is not None and job.ledger is not None:
        leave("--cluster goes without --ledger: the database has a ledger of its own")
    if job.cluster is not None and job.resend_in_doubt:
        leave(
            "--cluster goes without --resend-in-doubt: workers never send again what may have"
            " been sent; `skycore status DSN --state in_doubt` lists it"
        )
    is_sending = not job.dry_run and job.cluster is None
    api_key = read_api_key(job.api_key_file) if is_sending else None
    with _copied(job.csv) as file:
        sheet = Sheet(file, name_of(job.csv))
        drafter = RowReader(sheet.header, _with_sender(job, sheet))
        with Rejects(job.free_rejects(), sheet) as rejects:
            estimate = _survey(job, sheet, drafter, rejects)
            _show(job, sheet, drafter, estimate)
            if job.dry_run:
                return _end_of_dry_run(job, estimate)
            if (why := estimate.obstacle(job.max_segments)) is not None:
                leave(why)
            _ask(job, estimate)
            if job.cluster is not None:
                return _load(job, sheet, drafter, rejects)
            tally = Tally(total=estimate.to_send)
            end = _send(job, api_key, Run(sheet, drafter, rejects, tally))
        return _account(job, estimate, tally, end, rejects)


def name_of(csv: str) -> str:
    """Return what messages call the recipients' file."""
    return "standard input" if csv == _STANDARD_INPUT else csv


@contextmanager
def _copied(csv: str) -> Iterator[BinaryIO]:
    try:
        copy = _copy_of(csv)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = tempfile.gettempdir()
        leave(f"{where} has no room for a copy of {name_of(csv)}: name another with TMPDIR")
    with copy:
        yield copy


def _copy_of(csv: str) -> BinaryIO:
    is_given = csv == _STANDARD_INPUT
    with (
        nullcontext(sys.stdin.buffer) if is_given else Path(csv).open("rb") as source,
        ExitStack() as unless_filled,
    ):
        copy = unless_filled.enter_context(tempfile.TemporaryFile())
        shutil.copyfileobj(source, copy)
        copy.flush()
        unless_filled.pop_all()
        return copy


def _with_sender(job: BulkJob, sheet: Sheet) -> RowOptions:
    wishes = job.wishes()
    is_named = job.from_column or sheet.header.find(FROM_COLUMNS, "--from-column") is not None
    if not (job.from_ or is_named):
        if not job.dry_run:
            leave("no short code to send from: give --from, or set SKYCORE_FROM")
        wishes = attrs.evolve(wishes, from_="none yet")
    return wishes


def _survey(job: BulkJob, sheet: Sheet, drafter: RowReader, rejects: Rejects) -> Estimate:
    survey = Survey()
    is_watched = sys.stderr.isatty()
    for number, row in enumerate(sheet.rows(), 1):
        judged = drafter.draft(row)
        survey.see(judged)
        if job.dry_run and job.rejects is not None and isinstance(judged, RejectedRow):
            rejects.write(row, judged.reason)
        if is_watched and number % _EVERY == 0:
            click.echo(f"\rchecked {number:,} rows", err=True, nl=False)
    if is_watched:
        click.echo("\r\x1b[K", err=True, nl=False)
    return survey.estimate(price=job.price, rate=job.rate)


def _show(job: BulkJob, sheet: Sheet, drafter: RowReader, estimate: Estimate) -> None:
    column = sheet.header.names[drafter.to]
    click.echo(f"{sheet.name}: {sheet.form}, numbers in {column!r}", err=job.as_json)
    for line in preview(estimate):
        click.echo(line, err=job.as_json)
    where = f"{'ledger':<13} {job.ledger_path}"
    if job.cluster is not None:
        where = f"{'cluster':<13} {name_of_database(dsn_of(job.cluster))}"
    click.echo(f"{where}, campaign {job.campaign_name!r}", err=job.as_json)


def _end_of_dry_run(job: BulkJob, estimate: Estimate) -> int:
    why = estimate.obstacle(job.max_segments)
    if job.as_json:
        found = attrs.asdict(estimate, recurse=False)
        figures = {"cost": _plain(estimate.cost), "seconds": estimate.seconds}
        emit({"dry_run": True, "obstacle": why, **found, **figures, "price": _plain(job.price)})
    if why is not None:
        leave(why)
    click.echo("This was a dry run: nothing was sent.", err=True)
    return Exit.DONE if estimate.rows == estimate.to_send else Exit.NOT_ALL_WELL


def _ask(job: BulkJob, estimate: Estimate) -> None:
    """Ask for a yes, or leave."""
    if job.cluster is not None:
        within(dsn_of(job.cluster), lambda _: None)  # what is wrong with it is said before
    try:
        is_there = job.cluster is None and job.ledger_path.exists()
        known, doubtful = anyio.run(held, job.ledger_path) if is_there else (0, 0)
    except LedgerError as error:
        leave(str(error), Exit.NOT_SENT)
    if known:
        doubts = ", but for what is in doubt" if job.resend_in_doubt else ""
        click.echo(
            f"The ledger holds {number_of(known, 'message')}, {doubtful:,} of them in doubt:"
            f" what it knows is not sent again{doubts}.",
            err=True,
        )
    if job.yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        leave("nothing was sent: say --yes, as there is no terminal to ask on")
    verb = "Send" if job.cluster is None else "Load"
    if not click.confirm(f"{verb} {number_of(estimate.to_send, 'message')}?", err=True):
        leave("nothing was sent", Exit.NOT_SENT)
    if job.resend_in_doubt and not click.confirm(
        "What is in doubt may have been sent already, and would be billed and delivered twice."
        " Send it again?",
        err=True,
    ):
        leave("nothing was sent", Exit.NOT_SENT)


def _load(job: BulkJob, sheet: Sheet, drafter: RowReader, rejects: Rejects) -> int:
    from .load import Into, load_campaign

    into = Into(
        dsn=dsn_of(job.cluster),
        campaign=job.campaign_name,
        from_=job.from_,
        campaign_ref=job.campaign_ref,
    )
    return load_campaign(into, sheet, drafter, rejects, as_json=job.as_json)


def _send(job: BulkJob, api_key: str | None, run: Run) -> End:
    client = {name: getattr(job, name) for name in ("from_", "campaign_ref", "base_url", "rate")}
    settings = SendOptions(
        client={**client, "api_key": api_key},
        in_flight=job.in_flight,
        fast=job.fast,
        resend_in_doubt=job.resend_in_doubt,
        live=sys.stderr.isatty(),
    )
    try:
        return anyio.run(run.send, job.ledger_path, settings)
    except LedgerError as error:
        leave(str(error), Exit.NOT_SENT)
    except ConfigurationError as error:
        leave(str(error))


def _account(job: BulkJob, estimate: Estimate, tally: Tally, end: End, rejects: Rejects) -> int:
    """Say what came of it all, and return the exit code."""
    path = str(rejects.path) if rejects.count else None
    if job.as_json:
        where = {"rejects": path, "ledger": str(job.ledger_path), "campaign": job.campaign_name}
        emit({**summary(tally, end, estimate), "cost": _plain(estimate.cost), **where})
    else:
        for line in account(tally):
            click.echo(line)
        if path is not None:
            click.echo(f"{'to mend':<13} {number_of(rejects.count, 'row')} in {path}")
    for line in advice(tally, end):
        click.echo(line, err=True)
    return exit_code(tally, end, estimate)


def _plain(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)
